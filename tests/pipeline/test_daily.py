"""A day in production: the dataset grows, the old model still answers, and a new model starts from the old one."""

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel, ModelSettings
from openlum.prepare.run import append, prepare
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market

SHAPE = ModelSettings(width=16, layers=1, heads=2, embedding_width=16, max_events=32)
TRAINING = PretrainSettings(epochs=4, batch_events=128, validation_events=500)


def first_epoch_loss(model: Path) -> float:
    """Return the validation loss of a training after its first epoch."""
    lines = map(json.loads, (model / "metrics.jsonl").read_text().splitlines())
    return float(next(line["validation"]["loss"] for line in lines if line.get("epoch") == 1))


def test_the_old_model_answers_for_a_grown_dataset_and_a_new_model_starts_from_it(tmp_path: Path) -> None:
    write_market(MarketSettings(users=60, items=120, sessions=6), tmp_path / "log")
    days = {}
    for name in ("events", "impressions"):
        table = pq.read_table(tmp_path / "log" / f"{name}.parquet")
        last = pc.greater(
            table["time"], pc.quantile(pc.cast(table["time"], "int64"), 0.9)[0].cast("int64").cast("timestamp[ms]")
        )
        pq.write_table(table.filter(last), tmp_path / f"{name}.parquet")
        pq.write_table(table.filter(pc.invert(last)), tmp_path / "log" / f"{name}.parquet")
        days[name] = tmp_path / f"{name}.parquet"
    dataset = tmp_path / "dataset"
    first = prepare(tmp_path / "log" / "schema.yaml", dataset)
    pretrain(dataset, tmp_path / "old", SHAPE, TRAINING)
    history = [{"item": "7", "scenario": "home", "feedback": "click"}]
    before = LargeUserModel.load(tmp_path / "old").ask(history, [{"scenario": "home"}])
    grown = append(dataset, days["events"], impressions=days["impressions"])
    assert grown.counts["events"] > first.counts["events"]
    assert grown.valid_time > first.valid_time
    assert query(dataset, tmp_path / "old", tmp_path / "knowledge", QuerySettings())["rows"] == sum(
        grown.impressions.values()
    )
    pretrain(dataset, tmp_path / "new", SHAPE, TRAINING, init_from=tmp_path / "old")
    pretrain(dataset, tmp_path / "fresh", SHAPE, TRAINING)
    assert first_epoch_loss(tmp_path / "new") < first_epoch_loss(tmp_path / "fresh")
    new = LargeUserModel.load(tmp_path / "new")
    assert new.config.items == len(Dataset(dataset).vocabulary("items"))
    assert not np.allclose(new.ask(history, [{"scenario": "home"}]), before)
