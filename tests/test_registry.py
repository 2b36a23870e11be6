"""Rankers and encoders are found by name: built-in ones, those of installed packages, and those that the program adds."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openlum import registry
from openlum.config import Settings, parse_settings
from openlum.errors import InputError
from openlum.model.blocks.transformer import TransformerBlock
from openlum.model.encoders import ENCODERS
from openlum.model.settings import ModelSettings
from openlum.model.user_encoder import UserEncoder
from openlum.rank.rankers import Ranker, RankerDescription
from openlum.rank.registry import RANKERS, is_end_to_end
from openlum.rank.settings import RankSettings
from openlum.registry import Registry


class Own(Ranker):
    """A ranker of the test."""

    name = "own"

    class Options(Settings):
        """Its settings."""

        width: int = 3
        """A width."""


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> type[Ranker]:
    monkeypatch.setattr(RANKERS, "_added", {})
    return RANKERS.add(Own)


@pytest.mark.parametrize("name", RANKERS.built_in)
def test_every_built_in_ranker_describes_itself(name: str) -> None:
    ranker = RANKERS.load(name)
    assert issubclass(ranker, RankerDescription)
    assert ranker.name == name
    assert ranker.history_length(RankSettings()) >= 0
    assert all(callable(getattr(ranker, method)) for method in ("predict", "tensors", "load_tensors"))


@pytest.mark.parametrize("name", ENCODERS.built_in)
def test_every_built_in_encoder_has_its_name(name: str) -> None:
    assert ENCODERS.load(name).name == name


def test_an_encoder_of_the_program_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnBlock(TransformerBlock):
        name = "own"

    monkeypatch.setattr(ENCODERS, "_added", {})
    ENCODERS.add(OwnBlock)
    encoder = UserEncoder(ModelSettings(encoder="own", width=16, heads=2, layers=2))
    assert [type(block) for block in encoder.blocks] == [OwnBlock, OwnBlock]


def test_an_unknown_name_has_the_nearest_name_in_its_error() -> None:
    with pytest.raises(InputError, match=r"key 'rankers\.1': unknown ranker 'dcn2'; did you mean 'dcnv2'\?"):
        parse_settings({"rankers": ["din", "dcn2"]}, RankSettings, "test")
    with pytest.raises(InputError, match="unknown encoder 'rnn'; choose from transformer, hstu"):
        parse_settings({"encoder": "rnn"}, ModelSettings, "test")


def test_names_are_checked_without_torch() -> None:
    program = """
import sys
from openlum.rank.settings import RankSettings

RankSettings(rankers=["din"])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_ranker_of_the_program_is_added(own: type[Ranker]) -> None:
    settings = RankSettings(rankers=["own"], options={"own": {"width": 5}})
    assert RANKERS.load("own") is own
    assert settings.accepts_knowledge("own")
    assert not is_end_to_end("own")
    assert set(RANKERS.sources(["din", "own"])) == {"own"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"own": {"wide": 5}}, r"ranker 'own': unknown key 'wide'; did you mean 'width'\?"),
        ({"own": {"width": "x"}}, "key 'width'"),
        ({"din": {"width": 5}}, "the ranker 'din' has no class 'Options'"),
        ({"owm": {}}, r"unknown ranker 'owm'; did you mean 'own'\?"),
    ],
)
def test_wrong_options_are_explained(own: type[Ranker], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings({"options": options}, RankSettings, "test")


def test_a_name_cannot_be_taken_twice(own: type[Ranker]) -> None:
    class Din(Ranker):
        name = "din"

    class Nameless(Ranker):
        pass

    with pytest.raises(InputError, match="there is a ranker 'din' already"):
        RANKERS.add(Din)
    with pytest.raises(InputError, match="needs a class attribute 'name'"):
        RANKERS.add(Nameless)


class _EntryPoint:
    """An entry point that loads an object, or fails."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self.loaded, self.value = name, loaded, "package:Class"

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.mark.parametrize(
    ("name", "loaded", "message"),
    [
        ("gone", ImportError("no package"), "package:Class .* cannot be imported"),
        ("other", Own, "has the name 'own'; give the class and its entry point the same name"),
    ],
)
def test_a_wrong_entry_point_is_explained(
    name: str, loaded: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [_EntryPoint(name, loaded)])
    rankers: Registry[Any] = Registry("ranker", "openlum.rankers", {})
    assert rankers.names() == [name]
    with pytest.raises(InputError, match=message):
        rankers.load(name)


def constants(file: Path) -> set[Any]:
    """Return the constants in the code of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_other_module_lists_the_rankers() -> None:
    """A ranker's name is in its own file and in the registry. Elsewhere, the class attributes decide."""
    source = Path(registry.__file__).parent
    names = {file: constants(file) for file in source.rglob("*.py")}
    defaults = {
        "dnn": {source / "rank/settings.py"},
        "din": {source / "rank/settings.py", source / "bench/settings.py"},
    }
    for name in set(RANKERS.built_in) - set(ENCODERS.built_in):
        own_file = Path(str(sys.modules[RANKERS.load(name).__module__].__file__))
        allowed = {own_file, source / "rank/registry.py", *defaults.get(name, set())}
        assert {file for file, texts in names.items() if name in texts} <= allowed, name
