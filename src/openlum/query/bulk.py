"""Step 2, knowledge querying, in bulk: every impression of a user in one pass over that user's history.

The questions of an impression see the events before its time and nothing else (point-in-time group query).

Shapes: I impressions, B windows of histories in a batch, G questions, E width of an answer.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from openlum.artefact import fingerprint, whole_directory, write_json
from openlum.data.dataset import SPLITS, Dataset, Impressions
from openlum.data.packing import batches, question_windows
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.batch import to_tensors
from openlum.query.knowledge import KnowledgeWriter
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings


def query(dataset_dir: Path, model_dir: Path, out: Path, settings: QuerySettings) -> dict[str, Any]:
    """Ask every impression's questions and write `knowledge/`, in the form *per impression*.

    Args:
        dataset_dir: from `lum prepare`.
        model_dir: from `lum pretrain`.
        out: the knowledge directory.
        settings: the questions.

    Returns:
        The `query` part of `summary.json`.

    Raises:
        InputError: the dataset's fields are not the model's, or a question does not fit the model.
    """
    began = time.perf_counter()
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_fit(dataset)
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on the test period; pretrain with protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on a part of what is now the validation period; pretrain again")
    questions = QuestionSet(model.lexicon, model.config.condition, settings.questions)
    rows = 0
    with whole_directory(out) as directory:
        writer = KnowledgeWriter(directory, questions.names, settings.rows_per_part)
        items = embed_items(model, len(dataset.vocabulary("items")))
        writer.items(items)
        for split in SPLITS:
            impressions = dataset.impressions(split)
            for index, answers in answer_impressions(
                model, dataset, impressions, questions, settings.batch_events, split
            ):
                target = items[torch.from_numpy(impressions.item[index])].unsqueeze(1)  # (n, 1, E)
                writer.add(impressions.row[index], answers, (answers * target).sum(-1))
                rows += len(index)
        writer.close()
        seconds = round(time.perf_counter() - began, 1)
        knowledge = {
            "form": "impression",
            "questions": questions.names,
            "asked": settings.questions,
            "width": model.config.settings.embedding_width,
            "dtype": "float16",
            "rows": rows,
            "seconds": seconds,
            "as_of": "the events strictly before the impression's time",
            "model": model.config.fingerprint,
            "dataset": dataset.info.fingerprint,
            "fingerprint": fingerprint(model.config.fingerprint, dataset.info.fingerprint, settings.questions),
        }
        write_json(directory / "knowledge.json", knowledge)
    return {"rows": rows, "questions": len(questions), "seconds": seconds}


@torch.inference_mode()
def embed_items(model: LargeUserModel, items: int) -> Tensor:
    """Embeddings of a dataset's items 0 to `items` - 1, (V, E), on the CPU; one that the model does not know has item 0's."""
    return torch.cat([model.items(ids) for ids in torch.arange(items, device=model.device).split(65_536)]).cpu()


@torch.inference_mode()
def answer_impressions(
    model: LargeUserModel,
    dataset: Dataset,
    impressions: Impressions,
    questions: QuestionSet,
    batch_events: int,
    what: str,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Answers for impressions, in batches, each user's next to each other.

    Yields:
        Indices of impressions, (n,), and their answers, (n, G, E), on the CPU.
    """
    most = max(2 * batch_events // len(questions), 1)
    windows, order, sizes = question_windows(
        dataset.sequences, impressions.user, impressions.prefix, model.config.settings.max_events, most
    )
    # A question costs about what a token does, half an event.
    steps = list(batches(windows, batch_events, extra=sizes * len(questions) // 2))
    done = first = 0
    for batch in track(steps, f"query {what}", transient=True):
        members = sizes[done : done + len(batch)]
        index = order[first : first + members.sum()]
        done, first = done + len(batch), first + int(members.sum())
        history = History.gather(dataset.sequences, batch).to(model.device)
        state = model.read(history, with_answers=False)[1]
        asked = questions.conditions(to_tensors({k: v[index] for k, v in impressions.condition.items()}), len(index))
        user = torch.from_numpy(np.repeat(np.arange(len(batch)), members)).repeat_interleave(len(questions))
        prefix = torch.from_numpy(impressions.prefix[index] - np.repeat(batch.start, members))
        answers = model.answer(state, Questions(asked, user, prefix.repeat_interleave(len(questions))).to(model.device))
        yield index, answers.view(len(index), len(questions), -1).cpu()
