"""An artefact of another format is refused with the command that writes it again, and `lum run` writes it again."""

import json
import re
import shutil
from pathlib import Path

import pytest

from openlum.artefact.directory import check_parts, check_replaceable, whole_directory
from openlum.artefact.keys import rerun_reason
from openlum.artefact.manifest import FORMAT, MADE_BY, MANIFEST, Kind
from openlum.artefact.verify import verify
from openlum.errors import InputError
from openlum.model import LargeUserModel


def set_format(file: Path, number: int | None) -> None:
    """Give a JSON file another format, and an unknown key as another version may have; None removes the format."""
    content = json.loads(file.read_text()) | {"format": number, "of_another_version": 1}
    if number is None:
        content = {key: value for key, value in content.items() if key not in ("format", "of_another_version")}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("number", [1, FORMAT + 1])
@pytest.mark.parametrize("kind", list(MADE_BY))
def test_an_artefact_of_another_format_is_refused_and_replaced(kind: Kind, number: int, tmp_path: Path) -> None:
    artefact = tmp_path / "artefact"
    with whole_directory(artefact, kind) as draft:
        (draft / "part").write_text("abc")
    set_format(artefact / MANIFEST, number)
    message = rf"has format {number}, but this version of openlum reads format {FORMAT}; run '{MADE_BY[kind]}' again"
    with pytest.raises(InputError, match=message):
        check_parts(artefact, kind)
    with pytest.raises(InputError, match=message):
        verify(artefact)
    assert rerun_reason(artefact, {"code": ""}) == f"output has format {number}, not {FORMAT}"
    check_replaceable(artefact, kind)
    with whole_directory(artefact, kind) as draft:
        (draft / "part").write_text("abc")
    assert verify(artefact) == 1


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "two", None, [2]])
def test_a_format_that_is_not_a_positive_integer_is_refused(value: object, tmp_path: Path) -> None:
    with whole_directory(tmp_path / "artefact", "model"):
        pass
    manifest = tmp_path / "artefact" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": value}))
    with pytest.raises(InputError, match=re.escape(str(manifest)) + r".*format"):
        check_parts(tmp_path / "artefact", "model")


@pytest.mark.parametrize("number", [None, 1, FORMAT + 1])
def test_a_model_without_manifest_is_refused_by_the_format_of_its_configuration(
    number: int | None, tiny_run: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_run / "runs" / "tiny" / "model", tmp_path / "model")
    (model / MANIFEST).unlink()
    LargeUserModel.from_pretrained(model)
    set_format(model / "config.json", number)
    with pytest.raises(InputError, match=rf"config.json: has format {number or 1}, .*run 'lum pretrain' again"):
        LargeUserModel.from_pretrained(model)
