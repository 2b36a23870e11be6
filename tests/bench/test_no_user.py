"""The control `no user` has a number for every score of the tier `fresh`."""

from pathlib import Path

import numpy as np
import pytest

from openlum.artefact.json_file import write_json
from openlum.bench import no_user
from openlum.data.dataset import Dataset
from openlum.model import LargeUserModel
from openlum.pretrain.settings import PretrainSettings
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery
from openlum.rank.inputs import names_of_tier
from tests.query.test_content import clicks

__all__ = ["clicks"]
"""A fixture."""


class Untrained:
    """A trainer that leaves the model as it is."""

    def __init__(self, *inputs: object) -> None:
        pass

    def forget_users(self) -> None:
        pass


def test_comparisons_by_content_are_zeros_without_a_user(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, model = Dataset(clicks / "dataset"), LargeUserModel.load(clicks / "model")
    model.save_pretrained(tmp_path / "model")
    write_json(tmp_path / "model" / "training.json", PretrainSettings().model_dump())
    monkeypatch.setattr(no_user, "Trainer", Untrained)
    file = tmp_path / "predicted.npz"
    no_user._train_and_predict(tmp_path / "model", {tmp_path / "model": file}, dataset.path)
    names = names_of_tier(ShardQuery(model, dataset, QuerySettings()).score_names, "fresh")
    for split, predicted in no_user._load(file).items():
        assert predicted.shape == (len(dataset.impressions(split)), len(names))
        is_content = np.array([name.startswith("content.") for name in names])
        assert is_content.sum() == 8
        assert (predicted[:, is_content] == 0).all()
        assert predicted[:, 0].all()  # the head predicts without a user
