"""The golden losses: the losses of 50 training steps on a tiny market with a fixed seed.

If a change is intended to alter them, `python -m tests.pretrain.golden` writes the new losses.
"""

import json
import tempfile
from pathlib import Path

from openlum.artefact.json_file import write_json
from openlum.data.dataset import Dataset
from openlum.model import ModelSettings
from openlum.prepare.run import prepare
from openlum.pretrain.initialization import build_model
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import Trainer
from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market

FILE = Path(__file__).with_name("golden_loss.json")
KINDS = ("item", "feedback_contrast", "feedback_prediction", "matching_head")
SHAPE = ModelSettings(width=16, layers=2, heads=2, embedding_width=16, field_width=8, max_events=16)


def losses(directory: Path) -> dict[str, list[float]]:
    """Return the losses of items, feedback contrast, feedback prediction and the matching head at every tenth step."""
    schema = write_market(MarketSettings(users=60, items=100, sessions=4, seed=7), directory / "log")
    prepare(schema, directory / "dataset")
    dataset = Dataset(directory / "dataset")
    settings = PretrainSettings(epochs=40, batch_events=256, patience=40)
    Trainer(build_model(dataset, SHAPE, 0), dataset, settings, directory / "work").run(until=50)
    lines = map(json.loads, (directory / "work" / "metrics.jsonl").read_text().splitlines())
    return {str(line["step"]): [line[f"{kind}_loss"] for kind in KINDS] for line in lines if "loss" in line}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        write_json(FILE, losses(Path(directory)))
