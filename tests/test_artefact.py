"""Directories appear whole or not at all, and only ours are ever replaced."""

from pathlib import Path

import pytest

from openlum.artefact import fingerprint, read_json, whole_directory, write_json
from openlum.errors import InputError


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out", "model") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out/a").read_text() == "1"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "out", "model") as draft:
        (draft / "a").write_text("old")

    def fail() -> None:
        with whole_directory(tmp_path / "out", "model") as draft:
            (draft / "a").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "out/a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ours_is_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_directory(tmp_path / "out", "model") as draft:
            (draft / "a").write_text(text)
    assert (tmp_path / "out/a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("cat")
    with pytest.raises(InputError, match="lum did not write"), whole_directory(tmp_path / "photos", "model"):
        pytest.fail("must not get here")
    assert (tmp_path / "photos/cat.jpg").read_text() == "cat"


def test_fingerprints_do_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match=r"b\.json.*lum prepare"):
        read_json(tmp_path / "b.json", "lum prepare")


def test_another_kind_is_not_replaced(tmp_path: Path) -> None:
    """Such as the model that a ranker is trained with."""
    for _ in range(2):
        with whole_directory(tmp_path / "out", "model"):
            pass
    refused = pytest.raises(InputError, match="out: is a model, and would be replaced by a ranker")
    with refused, whole_directory(tmp_path / "out", "ranker"):
        pass
