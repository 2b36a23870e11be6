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
from torch import Tensor

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import fingerprint, whole_directory, write_json
from openlum.console import tracked
from openlum.data.dataset import Dataset, Impressions
from openlum.data.packing import batches, question_windows
from openlum.data.time_fields import by_key_then_time
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.batch import to_tensors
from openlum.query.checks import check_knowledge_fits
from openlum.query.knowledge import KnowledgeWriter
from openlum.query.questions import QuestionSet, feedback_column_names
from openlum.query.settings import QuerySettings
from openlum.schema import SECONDS

AS_OF = {
    "impression": "the events strictly before the impression's time",
    "day": "the events before the impression's day (UTC)",
}


def query(dataset_dir: str | Path, model_dir: str | Path, out: str | Path, settings: QuerySettings) -> dict[str, Any]:
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
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, QuerySettings)
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on the test period; pretrain with protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on a part of what is now the validation period; pretrain again")
    questions = QuestionSet(model.processor, model.config.condition, settings.questions)
    feedback_names = (
        feedback_column_names(model.processor, model.config.trained_feedback_targets)
        if settings.predict_feedback
        else []
    )
    check_knowledge_fits(dataset, settings, model.config.settings.embedding_width, len(feedback_names), out)
    rows = 0
    with whole_directory(out, "knowledge") as directory:
        writer = KnowledgeWriter(directory, questions.names, feedback_names, settings.rows_per_part, settings.dtype)
        items = embed_items(model, len(dataset.vocabulary("items")))
        writer.items(items)
        for split in dataset.impression_sets:
            impressions = dataset.impressions(split)
            if settings.as_of == "day":
                impressions = before_the_day(dataset, impressions)
            asked = answer_impressions(model, dataset, impressions, questions, settings, items, split)
            for index, answers, feedback in asked:
                target = items[torch.from_numpy(impressions.item[index])].unsqueeze(1)  # (n, 1, E)
                writer.add(impressions.row[index], answers, (answers * target).sum(-1), feedback)
                rows += len(index)
        writer.close()
        seconds = round(time.perf_counter() - began, 1)
        knowledge = {
            "form": "impression",
            "questions": questions.names,
            "feedback_names": feedback_names,
            "asked": settings.questions,
            "width": model.config.settings.embedding_width,
            "dtype": settings.dtype,
            "rows": rows,
            "seconds": seconds,
            "as_of": AS_OF[settings.as_of],
            "model": model.config.fingerprint,
            "dataset": dataset.info.fingerprint,
            "fingerprint": fingerprint(
                model.config.fingerprint,
                dataset.info.fingerprint,
                settings.questions,
                settings.predict_feedback,
                settings.as_of,
                settings.dtype,
            ),
        }
        write_json(directory / "knowledge.json", knowledge)
    return {"rows": rows, "questions": len(questions), "seconds": seconds}


def before_the_day(dataset: Dataset, impressions: Impressions) -> Impressions:
    """The same impressions, each of which may see only the events before its day (UTC)."""
    sequences = dataset.sequences
    place = sequences.position_of(impressions.user)  # (I,), -1 for a user without events
    begins = sequences.time.min(initial=0)
    midnight = impressions.time - impressions.time % SECONDS["d"]
    users = np.repeat(np.arange(len(sequences.user)), np.diff(sequences.offsets))
    keys = by_key_then_time(users, sequences.time - begins)
    seen = np.searchsorted(keys, by_key_then_time(place, np.maximum(midnight - begins, 0))) - sequences.offsets[place]
    return dataset.with_prefix(impressions, np.where(place < 0, 0, np.minimum(seen, impressions.prefix)))


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
    settings: QuerySettings,
    items: Tensor,
    what: str,
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Answers for impressions, in batches, each user's next to each other.

    Args:
        model: that answers.
        dataset: with the histories.
        impressions: of one split, or those without a label.
        questions: asked of every impression.
        settings: of the run.
        items: (V, E) embeddings of the dataset's items.
        what: for the progress bar.

    Yields:
        Indices of impressions, (n,), their answers, (n, G, E), and feedback predictions, (n, J), on the CPU.
    """
    each = len(questions) + settings.predict_feedback
    most = max(2 * settings.batch_events // each, 1)
    windows, order, sizes = question_windows(
        dataset.sequences, impressions.user, impressions.prefix, model.config.settings.max_events, most
    )
    # A question costs about what a token does, half an event.
    steps = list(batches(windows, settings.batch_events, extra=sizes * each // 2))
    done = first = 0
    for batch in tracked(steps, f"query {what}"):
        members = sizes[done : done + len(batch)]
        index = order[first : first + members.sum()]
        done, first = done + len(batch), first + int(members.sum())
        history = History.gather(dataset.sequences, batch).to(model.device)
        state = model.encode_history(history)
        user = torch.from_numpy(np.repeat(np.arange(len(batch)), members))
        prefix = torch.from_numpy(impressions.prefix[index] - np.repeat(batch.start, members))
        here = to_tensors({k: v[index] for k, v in impressions.condition.items()})
        asked = Questions(
            questions.conditions(here, len(index)),
            user.repeat_interleave(len(questions)),
            prefix.repeat_interleave(len(questions)),
        ).to(model.device)
        if settings.predict_feedback and model.config.trained_feedback_targets:
            item = torch.from_numpy(impressions.item[index])
            about = Questions(here, user, prefix, item).to(model.device)
            (answers,), logits = model.answer_and_predict_feedback(state, [asked], about, items[item].to(model.device))
            feedback = log_odds(logits).cpu()
        else:
            answers, feedback = model.answer_questions(state, asked), torch.empty(len(index), 0)
        yield index, answers.view(len(index), len(questions), -1).cpu(), feedback


def log_odds(logits: list[Tensor]) -> Tensor:
    """Logits of the values that items are feedback by, (n, R) a field, to the log-odds of all values of all fields, (n, J)."""
    odds = []
    for field in logits:
        log_p = field.log_softmax(1)
        odds.append(log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6))))
    return torch.cat(odds, 1)
