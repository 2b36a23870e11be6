"""Step 2, knowledge querying, in bulk: one pass over a user's history answers the questions of all the user's impressions.

The questions of an impression see only the events before its time (point-in-time group query).

Shapes: I impressions, n impressions of a batch, B windows of histories in a batch, G questions, J feedback predictions, R values
of a feedback field, E width of an answer, V items.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import fingerprint, write_json
from openlum.console import tracked
from openlum.data.dataset import Dataset, Impressions
from openlum.data.packing import batches, question_windows
from openlum.data.time_fields import by_key_then_time
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.batch import to_tensors
from openlum.query.checks import check_knowledge_fits
from openlum.query.questions import QuestionSet, feedback_column_names
from openlum.query.settings import QuerySettings
from openlum.query.writer import KnowledgeWriter
from openlum.schema import SECONDS

AS_OF = {
    "impression": "the events strictly before the impression's time",
    "day": "the events before the impression's day (UTC)",
}


def query(dataset_dir: str | Path, model_dir: str | Path, out: str | Path, settings: QuerySettings) -> dict[str, Any]:
    """Answer the questions of every impression and write `knowledge/` with one row per impression.

    Args:
        dataset_dir: from `lum prepare`.
        model_dir: from `lum pretrain`.
        out: the knowledge directory.
        settings: with the questions.

    Returns:
        The section `query` of `summary.json`.

    Raises:
        InputError: if the dataset or a question does not fit the model, or the disk is too full.
    """
    start_time = time.perf_counter()
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, QuerySettings)
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on events of the test period; pretrain with pretrain.protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on events of the dataset's validation period; pretrain again")
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
            batches_of_answers = answer_impressions(model, dataset, impressions, questions, settings, items, split)
            for index, answers, feedback in batches_of_answers:
                target = items[torch.from_numpy(impressions.item[index])].unsqueeze(1)  # (n, 1, E)
                writer.add(impressions.row[index], answers, (answers * target).sum(-1), feedback)
                rows += len(index)
        writer.write_part()
        seconds = round(time.perf_counter() - start_time, 1)
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
    """Return the impressions with prefixes that end before the impression's day (UTC)."""
    sequences = dataset.sequences
    user_index = sequences.user_index(impressions.user)  # (I,), -1 for a user without events
    first_time = sequences.time.min(initial=0)
    midnight = impressions.time - impressions.time % SECONDS["d"]
    event_users = np.repeat(np.arange(len(sequences.user)), np.diff(sequences.offsets))
    keys = by_key_then_time(event_users, sequences.time - first_time)
    midnight_keys = by_key_then_time(user_index, np.maximum(midnight - first_time, 0))
    prefix = np.searchsorted(keys, midnight_keys) - sequences.offsets[user_index]
    return dataset.with_prefix(impressions, np.where(user_index < 0, 0, np.minimum(prefix, impressions.prefix)))


@torch.inference_mode()
def embed_items(model: LargeUserModel, items: int) -> Tensor:
    """Return the embeddings (V, E), on the CPU, of items 0 to `items` - 1. Unknown items have the embedding of item 0."""
    return torch.cat([model.items(ids) for ids in torch.arange(items, device=model.device).split(65_536)]).cpu()


@torch.inference_mode()
def answer_impressions(
    model: LargeUserModel,
    dataset: Dataset,
    impressions: Impressions,
    questions: QuestionSet,
    settings: QuerySettings,
    items: Tensor,
    description: str,
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Yield the answers for impressions, in batches. The impressions of one user are adjacent.

    Args:
        model: that answers.
        dataset: with the histories.
        impressions: of one split, or without a label.
        questions: for every impression.
        settings: of the run.
        items: (V, E) embeddings of the dataset's items.
        description: of the impressions, for the progress bar.

    Yields:
        Indices of impressions, (n,); their answers, (n, G, E), and feedback predictions, (n, J), on the CPU.
    """
    questions_per_row = len(questions) + settings.predict_feedback
    max_rows = max(2 * settings.batch_events // questions_per_row, 1)
    windows, order, sizes = question_windows(
        dataset.sequences, impressions.user, impressions.prefix, model.config.settings.max_events, max_rows
    )
    # A question costs about as much as a token, which is half an event.
    window_batches = list(batches(windows, settings.batch_events, extra=sizes * questions_per_row // 2))
    first_window = first_row = 0
    for batch in tracked(window_batches, f"query {description}"):
        batch_sizes = sizes[first_window : first_window + len(batch)]  # (B,) impressions of each window
        index = order[first_row : first_row + batch_sizes.sum()]
        first_window, first_row = first_window + len(batch), first_row + int(batch_sizes.sum())
        history = History.gather(dataset.sequences, batch).to(model.device)
        state = model.encode_history(history)
        user_index = torch.from_numpy(np.repeat(np.arange(len(batch)), batch_sizes))
        prefix = torch.from_numpy(impressions.prefix[index] - np.repeat(batch.start, batch_sizes))
        condition = to_tensors({name: values[index] for name, values in impressions.condition.items()})
        item_questions = Questions(
            questions.conditions(condition, len(index)),
            user_index.repeat_interleave(len(questions)),
            prefix.repeat_interleave(len(questions)),
        ).to(model.device)
        if settings.predict_feedback and model.config.trained_feedback_targets:
            item = torch.from_numpy(impressions.item[index])
            feedback_questions = Questions(condition, user_index, prefix, item).to(model.device)
            (answers,), logits = model.answer_and_predict_feedback(
                state, [item_questions], feedback_questions, items[item].to(model.device)
            )
            feedback = log_odds(logits).cpu()
        else:
            answers, feedback = model.answer_questions(state, item_questions), torch.empty(len(index), 0)
        yield index, answers.view(len(index), len(questions), -1).cpu(), feedback


def log_odds(logits: list[Tensor]) -> Tensor:
    """Return the log-odds, (n, J), of all values of all feedback targets from the logits, (n, R), of each target."""
    odds = []
    for target_logits in logits:
        log_p = target_logits.log_softmax(1)
        odds.append(log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6))))
    return torch.cat(odds, 1)
