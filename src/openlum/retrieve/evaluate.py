"""Retrieval by answers: the last item of every user held out, ranked among all items.

Shapes: n users, Q = n * G questions, E width, V items.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from openlum.artefact import whole_directory, write_json
from openlum.data.dataset import Dataset
from openlum.data.packing import Stretches, window_start
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, Questions, default_device
from openlum.model.batch import Fields
from openlum.model.fields import known_ids
from openlum.retrieve.metrics import exclude, rank_of_target, ranking_metrics
from openlum.retrieve.settings import RetrieveSettings


def retrieve(dataset_dir: Path, model_dir: Path, out: Path, settings: RetrieveSettings) -> dict[str, Any]:
    """Rank every item for every user who has one held out, and write `metrics.json`.

    A user's question sees all events before the held-out one, in the order of the log. The model must have been trained
    without it: `pretrain.protocol` `last` or `both`. A held-out item that came after the model's training is ranked behind all
    that the model knows.

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
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_fit(dataset)
    if model.config.protocol == "time":
        raise InputError(
            f"{model_dir}: was trained on the held-out items; pretrain with protocol 'last' or 'both' for retrieval"
        )
    sequences = dataset.sequences
    users = np.flatnonzero(sequences.test_at < np.diff(sequences.offsets))
    held_out = sequences.item[sequences.offsets[users] + sequences.test_at[users]]
    users, held_out = users[held_out > 0], held_out[held_out > 0]
    if not len(users):
        raise InputError(f"{dataset_dir}: no user has three events, so none can be held out for retrieval")
    unknown = int((held_out >= model.config.items).sum())
    asked = {
        name: model.lexicon.encode_question(name, question, model.config.condition)
        for name, question in settings.questions.items()
    }
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in settings.questions}
    with torch.inference_mode():
        e = model.items()  # (V, E)
    turns = np.array_split(users, -(-len(users) // settings.batch_users))
    for turn in track(turns, "retrieve", transient=True):
        for name, found in _ranks(model, e, dataset, turn, asked, settings.exclude_seen).items():
            ranks[name].append(found)
    metrics = {name: ranking_metrics(np.concatenate(found), settings.at) for name, found in ranks.items()}
    protocol = {
        "users": len(users),
        "candidates": model.config.items - 1,
        "unknown_held_out": unknown,
        "held_out": "the last event of each user, ranked among all items",
        "seen_items": "left out" if settings.exclude_seen else "kept",
        "ties": "counted against",
    }
    with whole_directory(out) as directory:
        write_json(directory / "metrics.json", {"retrieval": metrics, "protocol": protocol})
    return metrics


@torch.inference_mode()
def _ranks(
    model: LargeUserModel,
    e: Tensor,
    dataset: Dataset,
    users: np.ndarray,
    asked: dict[str, Fields],
    exclude_seen: bool,
) -> dict[str, np.ndarray]:
    """Rank of the held-out item of `users`, (n,) places in the sequences, under each question."""
    sequences = dataset.sequences
    cut = sequences.test_at[users]
    start = window_start(cut, model.config.settings.max_events)
    history = History.gather(sequences, Stretches(users, start, cut)).to(model.device)
    state = model.read(history, with_answers=False)[1]
    # An item that came after training is item 0, which scores minus infinity: it is behind all others.
    held_out = torch.from_numpy(sequences.item[sequences.offsets[users] + cut])
    target = known_ids(held_out, model.config.items).to(model.device)
    seen, seen_offsets = Stretches(users, np.zeros_like(cut), cut).events(sequences)
    seen_rows = np.repeat(np.arange(len(users)), np.diff(seen_offsets))
    seen_items = known_ids(torch.from_numpy(sequences.item[seen]), model.config.items).numpy()
    fresh = seen_items != target.cpu().numpy()[seen_rows]  # an item bought again is still to be found
    ranks = {}
    for name, question in asked.items():
        condition = {field: values.expand(len(users), *values.shape[1:]) for field, values in question.items()}
        at = torch.arange(len(users)), torch.from_numpy(cut - start)
        scores = model.answer(state, Questions(condition, *at).to(model.device)) @ e.T  # (n, V)
        scores[:, 0] = -torch.inf
        if exclude_seen:
            exclude(scores, seen_rows[fresh], seen_items[fresh])
        ranks[name] = rank_of_target(scores, target).cpu().numpy()
    return ranks
