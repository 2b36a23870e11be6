"""The command `lum data`, and public data sets in an experiment file."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from openlum.cli import app
from openlum.config import parse_settings
from openlum.errors import InputError
from openlum.pipeline.experiment import DataSettings
from openlum.sources import public


def test_data_without_a_name_lists_all_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openlum.cli.shared.console.width", 200)
    result = CliRunner().invoke(app, ["data"])
    assert result.exit_code == 0
    for name, dataset in public.published_datasets().items():
        row = next(line for line in result.stdout.splitlines() if f" {name} " in line)
        assert dataset.size in row
        assert dataset.page in row


def test_options_reach_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []

    def write(*arguments: object) -> Path:
        received.extend(arguments)
        return Path("log/schema.yaml")

    monkeypatch.setattr(public, "write", write)
    result = CliRunner().invoke(app, ["data", "kuairand-pure", "--from", "downloads", "--partial"])
    assert result.exit_code == 0
    assert received == ["kuairand-pure", Path("data/kuairand-pure"), Path("downloads"), True, None]
    assert "schema: log/schema.yaml" in result.stdout
    received.clear()
    CliRunner().invoke(app, ["data", "amazon-2014-baby", "--negatives", "4"])
    assert received == ["amazon-2014-baby", Path("data/amazon-2014-baby"), None, False, 4]


def test_partial_is_for_public_data_sets() -> None:
    assert parse_settings({"public": "ml-1m", "partial": True}, DataSettings, "file").partial
    with pytest.raises(InputError, match="'partial' needs 'public'"):
        parse_settings({"schema_file": "schema.yaml", "partial": True}, DataSettings, "file")


def test_negatives_are_for_amazon(tmp_path: Path) -> None:
    given = {"public": "amazon-2014-baby", "negatives": 4}
    assert parse_settings(given, DataSettings, "file").negatives == 4
    for other in ({"schema_file": "schema.yaml"}, {"public": "ml-1m"}):
        with pytest.raises(InputError, match="'negatives' needs a public data set of Amazon"):
            parse_settings(other | {"negatives": 4}, DataSettings, "file")
    with pytest.raises(InputError, match="'ml-1m': negatives are sampled for the data sets of Amazon only; remove"):
        public.write("ml-1m", tmp_path / "log", tmp_path, negatives=4)
