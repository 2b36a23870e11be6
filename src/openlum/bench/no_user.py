"""The control `no user`: the matching head without users, trained in the same way from the same Large User Model.

It shows how much of a gain is knowledge about items and situations, for which no vectors of users must be kept.

Shapes: I rows of a split, S predictions of the head and comparisons by content, M user vectors, E width of a vector.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from openlum.artefact.json_file import fingerprint, named_failures, read_json
from openlum.artefact.keys import step_key
from openlum.bench.pipeline import RunContext
from openlum.bench.progress import run_all_with_progress
from openlum.config import parse_settings
from openlum.data.dataset import Dataset, Split
from openlum.data.sequences import concatenate
from openlum.model import LargeUserModel, default_device
from openlum.model.content import content_names
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer
from openlum.query.answers import embed_items
from openlum.query.matching import match_impressions

SPLITS: tuple[Split, Split] = "valid", "test"
BATCH = 65_536
"""Rows that are predicted at a time."""


def predict_without_users(models: list[Path], context: RunContext) -> list[dict[Split, np.ndarray]]:
    """Return what the head predicts about validation and test rows, (I, S) float32 by row id, for each model.

    Zeros stand for the comparisons of the rows' items with a user's last items.

    Args:
        models: directories from `lum pretrain`, of the benchmark's dataset.
        context: where and how the benchmark runs. Finished predictions are used.
    """
    dataset, store = context.directory / "dataset", context.directory / "no-user"
    store.mkdir(exist_ok=True)
    files = {model: store / f"{_key(model, dataset)}.npz" for model in models}
    missing = [model for model in models if not files[model].exists()]
    work = partial(_train_and_predict, files=files, dataset_dir=dataset)
    for _ in run_all_with_progress(work, missing, context.processes, "no user", lambda model, _: [f"no user: {model}"]):
        pass
    return [_load(files[model]) for model in models]


def _key(model: Path, dataset: Path) -> str:
    return fingerprint(step_key("query", [], {"dataset": dataset, "model": model}, ["openlum.bench.no_user"]))


def _load(file: Path) -> dict[Split, np.ndarray]:
    with named_failures(file), np.load(file, allow_pickle=False) as arrays:
        return {split: arrays[split] for split in SPLITS}


def _train_and_predict(model_dir: Path, files: dict[Path, Path], dataset_dir: Path) -> None:
    """Train the matching head of a model without users, and write its predictions. The model on disk stays as it is."""
    dataset, file = Dataset(dataset_dir), files[model_dir]
    model = LargeUserModel.load(model_dir, default_device())
    training = model_dir / "training.json"
    settings = parse_settings(read_json(training, "lum pretrain"), PretrainSettings, where=str(training))
    with TemporaryDirectory() as work:
        Trainer(model, dataset, settings, Path(work)).forget_users()
    items = embed_items(model, len(dataset.vocabulary("items")))
    vectors = torch.zeros(1, len(model.network.user_vector_names), items.shape[1], device=model.device)
    predicted: dict[str, np.ndarray] = {}
    for split in SPLITS:
        impressions = concatenate([shard.impressions(split) for shard in dataset.shards()])
        impressions = impressions.take(np.argsort(impressions.row))
        batches = [impressions.take(slice(start, start + BATCH)) for start in range(0, len(impressions), BATCH)]
        matched = np.concatenate([match_impressions(model, vectors, batch, items) for batch in batches])
        compared = np.zeros((len(matched), len(content_names(model.config.content_fields))), np.float32)
        predicted[split] = np.concatenate([matched, compared], 1)
    temporary = file.with_suffix(".part.npz")
    with named_failures(file):
        np.savez(temporary, valid=predicted["valid"], test=predicted["test"])
    temporary.rename(file)
