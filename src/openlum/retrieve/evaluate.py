"""Evaluation of retrieval: the last item of every user is held out and ranked among all items by the model's answers.

Shapes: n users, E width of an answer, V items.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import check_replaceable, whole_directory
from openlum.artefact.json_file import write_json
from openlum.console import tracked
from openlum.data.dataset import Dataset
from openlum.data.item_activity import ItemActivity, moments
from openlum.data.packing import Protocol, Spans, window_start
from openlum.errors import InputError
from openlum.evaluation.retrieval_metrics import retrieval_metrics
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.allowed_items import allowed_items
from openlum.model.batch import Fields, blank, to_tensors
from openlum.retrieve.baselines import baseline_ranks
from openlum.retrieve.checks import check_retrieval
from openlum.retrieve.cold_items import ColdItems
from openlum.retrieve.held_out import HeldOut, excludes_seen, protocol_description
from openlum.retrieve.settings import RetrieveSettings, chosen_baselines, with_default_questions


def retrieve(
    dataset_dir: str | Path, model_dir: str | Path, out: str | Path, settings: RetrieveSettings
) -> dict[str, Any]:
    """Rank all items for every user with a held-out item, write `metrics.json`, and return the metrics.

    Args:
        dataset_dir: from `lum prepare`.
        model_dir: from `lum pretrain`.
        out: the directory to write.
        settings: questions and cut-offs.

    Returns:
        Question to metrics: the `retrieval` part of `summary.json`.

    Raises:
        InputError: no user has a held-out event, or a question does not fit the model.
    """
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, RetrieveSettings)
    check_replaceable(out, "retrieval")
    dataset = Dataset(dataset_dir)
    ranks, protocol, model_protocol, cold, target = question_ranks(dataset, model_dir, settings)
    exclude_seen, items = protocol["seen_items"] == "left out", protocol["candidates"] + 1
    baselines = chosen_baselines(settings, items)
    ranks |= baseline_ranks(dataset, items, exclude_seen, settings.batch_users, baselines, model_protocol)
    metrics = {name: retrieval_metrics(rank, settings.at) for name, rank in ranks.items()}
    content = {"retrieval": metrics, "protocol": protocol}
    cold_items = cold.summary(ranks, target, settings.at)
    with whole_directory(out, "retrieval") as directory:
        write_json(directory / "metrics.json", content | ({"cold_items": cold_items} if cold_items else {}))
    return metrics


class QuestionRanks(NamedTuple):
    """The result of an evaluation of questions. Users are in the order of their ids."""

    ranks: dict[str, np.ndarray]
    """Question to the rank of every user's held-out item, (n,)."""
    protocol: dict[str, Any]
    """The protocol in words and numbers."""
    model_protocol: Protocol
    """The protocol that the model was trained with."""
    cold_items: ColdItems
    """The ranks of cold held-out items among all cold items."""
    target: np.ndarray
    """(n,) the held-out items."""


@torch.inference_mode()
def question_ranks(dataset: Dataset, model_dir: Path, settings: RetrieveSettings) -> QuestionRanks:
    """Return the rank of every user's held-out item for each question.

    A question sees all events of the user before the held-out event, in the order of the log. The model must have been trained
    without the held-out event: `pretrain.protocol` `last` or `both`. A held-out item that came after the model's training is
    ranked behind all items of the model.

    Raises:
        InputError: no user has a held-out event, or a question does not fit the model.
    """
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    if model.config.protocol == "time":
        raise InputError(
            f"{model_dir}: was trained on the held-out items; pretrain with protocol 'last' or 'both' for retrieval"
        )
    settings = with_default_questions(settings, dataset.info.data_schema.holdout)
    check_retrieval(dataset, model.processor, model.config.condition, model.config.item, settings)
    questions = {
        name: model.processor.encode_question(name, question, model.config.condition)
        for name, question in settings.questions.items()
    }
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in [*settings.questions, *settings.known]}
    users, targets = [], []
    e = model.items()  # (V, E)
    weights = model.network.activity_weights
    exclude_seen = excludes_seen(dataset, model.config.items, settings.exclude_seen)
    denied = {
        name: ~allowed_items(item_filter, model.processor, model.network.item_encoder)
        for name, item_filter in settings.filters.items()
    }
    cold = ColdItems(model.network.item_encoder, dataset.item_activity)
    for number, sequences in enumerate(dataset.groups_of_sequences(), start=1):
        held_out = HeldOut(sequences, "test", model.config.items, exclude_seen)
        users.append(held_out.user)
        targets.append(held_out.target)
        for batch in tracked(
            held_out.batches(settings.batch_users), f"retrieve {number}" if number > 1 else "retrieve"
        ):
            cold.add_popularity(held_out, batch)
            for name, scores in _scores(model, e, held_out, batch, questions, settings.known):
                cold.add(name, held_out, batch, scores)
                if weights.any():
                    add_activity(scores, weights, dataset.item_activity, held_out.time[batch])
                if name in denied:
                    scores[:, denied[name]] = -torch.inf
                ranks[name].append(held_out.rank(batch, scores))
        del held_out, sequences  # leave the memory before the next group is read
    order = np.argsort(np.concatenate(users))
    target = np.concatenate(targets)[order]
    protocol = protocol_description(dataset.info, target, model.config.items, exclude_seen, model.config.protocol)
    known = target[target < model.config.items]
    for name, is_denied in denied.items():
        protocol[f"held_out_left_out_by_filter_of_{name}"] = int(is_denied.numpy()[known].sum())
    return QuestionRanks(
        {name: np.concatenate(parts)[order] for name, parts in ranks.items()},
        protocol,
        model.config.protocol,
        cold,
        target,
    )


def add_activity(scores: Tensor, weights: Tensor, activity: ItemActivity, times: np.ndarray) -> None:
    """Add the activity of all items, as of each user's time, to scores, (n, V), in place.

    Args:
        scores: inner products of answers and item embeddings.
        weights: (A,) of the model.
        activity: of the dataset.
        times: (n,) seconds since 1970.
    """
    for moment, rows in moments(times):
        now = torch.from_numpy(activity.snapshot(scores.shape[1], moment)).to(scores.device)  # (V, A)
        scores[torch.from_numpy(rows)] += now @ weights


def _scores(
    model: LargeUserModel,
    e: Tensor,
    held_out: HeldOut,
    batch: np.ndarray,
    questions: dict[str, Fields],
    known: dict[str, list[str]],
) -> Iterator[tuple[str, Tensor]]:
    """Yield each question and the scores of all items, (n, V), for a batch of users and item embeddings e, (V, E)."""
    user_index, cut = held_out.user_index[batch], held_out.cut[batch]
    sequences, specs = held_out.sequences, model.config.condition
    start = window_start(cut, model.config.settings.max_events)
    history = History.gather(sequences, Spans(user_index, start, cut)).to(model.device)
    state = model.encode_history(history)
    user_and_prefix = torch.arange(len(user_index)), torch.from_numpy(cut - start)
    conditions = {
        name: {field: values.expand(len(user_index), *values.shape[1:]) for field, values in question.items()}
        for name, question in questions.items()
    }
    event_fields = to_tensors(sequences.fields(sequences.offsets[user_index] + cut))
    for name, fields in known.items():
        conditions[name] = blank(specs, len(user_index)) | {field: event_fields[field] for field in fields}
    for name, condition in conditions.items():
        yield name, model.score_items(state, Questions(condition, *user_and_prefix).to(model.device), e)
