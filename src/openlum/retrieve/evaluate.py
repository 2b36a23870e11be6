"""Retrieval by answers: the last item of every user held out, ranked among all items.

Shapes: n users, E width, V items.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import check_replaceable, whole_directory, write_json
from openlum.console import tracked
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, window_start
from openlum.errors import InputError
from openlum.evaluation.ranked_lists import ranking_metrics
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.batch import Fields, blank, to_tensors
from openlum.retrieve.checks import check_retrieval
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.settings import RetrieveSettings


def retrieve(
    dataset_dir: str | Path, model_dir: str | Path, out: str | Path, settings: RetrieveSettings
) -> dict[str, Any]:
    """Rank every item for every user who has one held out, and write `metrics.json`.

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
    ranks, protocol = question_ranks(dataset_dir, model_dir, settings)
    metrics = {name: ranking_metrics(found, settings.at) for name, found in ranks.items()}
    with whole_directory(out, "retrieval") as directory:
        write_json(directory / "metrics.json", {"retrieval": metrics, "protocol": protocol})
    return metrics


def question_ranks(
    dataset_dir: Path, model_dir: Path, settings: RetrieveSettings
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Question to the rank of every user's held-out item, (n,), and what was held out and trained on, in words and numbers.

    A user's question sees all events before the held-out one, in the order of the log. The model must have been trained
    without it: `pretrain.protocol` `last` or `both`. A held-out item that came after the model's training is ranked behind all
    that the model knows.

    Raises:
        InputError: no user has a held-out event, or a question does not fit the model.
    """
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    if model.config.protocol == "time":
        raise InputError(
            f"{model_dir}: was trained on the held-out items; pretrain with protocol 'last' or 'both' for retrieval"
        )
    check_retrieval(dataset, model.processor, model.config.condition, settings)
    held_out = HeldOut(dataset, "test", model.config.items, settings.exclude_seen)
    asked = {
        name: model.processor.encode_question(name, question, model.config.condition)
        for name, question in settings.questions.items()
    }
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in [*settings.questions, *settings.known]}
    with torch.inference_mode():
        e = model.items()  # (V, E)
    for turn in tracked(held_out.turns(settings.batch_users), "retrieve"):
        for name, answers in _answers(model, dataset, held_out, turn, asked, settings.known).items():
            ranks[name].append(held_out.rank(turn, answers @ e.T))
    return {name: np.concatenate(found) for name, found in ranks.items()}, held_out.protocol(model.config.protocol)


@torch.inference_mode()
def _answers(
    model: LargeUserModel,
    dataset: Dataset,
    held_out: HeldOut,
    turn: np.ndarray,
    asked: dict[str, Fields],
    known: dict[str, list[str]],
) -> dict[str, Tensor]:
    """The answers (n, E) to each question of the users of a turn."""
    users, cut = held_out.users[turn], held_out.cut[turn]
    sequences, specs = dataset.sequences, model.config.condition
    start = window_start(cut, model.config.settings.max_events)
    history = History.gather(sequences, Spans(users, start, cut)).to(model.device)
    state = model.encode_history(history)
    at = torch.arange(len(users)), torch.from_numpy(cut - start)
    conditions = {
        name: {field: values.expand(len(users), *values.shape[1:]) for field, values in question.items()}
        for name, question in asked.items()
    }
    event = sequences.offsets[users] + cut
    for name, fields in known.items():
        told = to_tensors({field: sequences.condition[field][event] for field in fields})
        conditions[name] = blank(specs, len(users)) | told
    return {
        name: model.answer_questions(state, Questions(condition, *at).to(model.device))
        for name, condition in conditions.items()
    }
