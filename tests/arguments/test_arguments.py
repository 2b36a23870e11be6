"""Arguments of the steps' functions: paths and settings are accepted, and any other value is an error that names the argument."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openlum.arguments.values import as_path, whole_number
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelSettings
from openlum.prepare.run import append, check, prepare
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.run import rank
from openlum.rank.settings import RankSettings
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.settings import RetrieveSettings

STEPS: dict[Callable[..., Any], dict[str, Any]] = {
    prepare: {"schema": "schema.yaml", "out": "out"},
    check: {"schema": "schema.yaml"},
    append: {"dataset": "dataset", "events": "events.csv"},
    pretrain: {
        "dataset_dir": "dataset", "out": "out", "model_settings": ModelSettings(), "settings": PretrainSettings(),
    },
    query: {"dataset_dir": "dataset", "model_dir": "model", "out": "out", "settings": QuerySettings()},
    rank: {"dataset": "dataset", "knowledge": "knowledge", "out": "out", "settings": RankSettings()},
    retrieve: {"dataset_dir": "dataset", "model_dir": "model", "out": "out", "settings": RetrieveSettings()},
    Dataset: {"path": "dataset"},
    LargeUserModel.load: {"directory": "model"},
    LargeUserModel.from_pretrained: {"pretrained_model_name_or_path": "./model"},
}  # fmt: skip


@pytest.mark.parametrize("function", STEPS, ids=lambda function: function.__qualname__)
def test_a_wrong_argument_is_named(
    function: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    valid = STEPS[function]
    for name in valid:
        for wrong in (5, True, b"out", "", "a\0b", ["out"], {}, 1.5, object(), np.arange(2), dt.date.today()):
            with pytest.raises(InputError, match=rf"^{name}: expected .*, found "):
                function(**valid | {name: wrong})
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"no such (file|directory)"):
        function(**valid)


def test_a_path_is_text_or_a_path_and_may_begin_with_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert as_path("out", "~/model") == as_path("out", Path("~/model")) == Path("/home/me/model")
    with pytest.raises(InputError, match="out: ~no-such-user/model: no such home directory"):
        as_path("out", "~no-such-user/model")


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3)])
def test_integers_of_python_and_numpy_are_whole_numbers(number: Any) -> None:
    assert whole_number("k", number, 3) == 3


@pytest.mark.parametrize(
    "number", [True, np.bool_(True), 2.0, np.float64(3), "3", None, 0, -1, np.nan, [3], np.arange(3)]
)
def test_a_value_that_is_not_a_whole_number_is_shown(number: Any) -> None:
    with pytest.raises(InputError, match="k: expected a whole number of at least 1, found "):
        whole_number("k", number, 1)
