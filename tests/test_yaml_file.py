"""YAML files: every value has one plain meaning, and every mistake is named with its line."""

import codecs
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from openlum.config import load_settings
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment
from openlum.yaml_file import MAX_BYTES, dump_yaml, parse_yaml, read_yaml

ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x_", "0x_"),
        ("2025-02-30", "2025-02-30"),
        ("2025-12-31 10:00:00", "2025-12-31 10:00:00"),
        ("=", "="),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("1e3", "1e3"),
        ("7.10", "7.10"),
        (".5", ".5"),
        ("0.5", 0.5),
        ("1.5e3", 1500.0),
        ("-7", -7),
        ("true", True),
        ("~", None),
        ("", None),
        ("&a [x, x]", ["x", "x"]),
    ],
)
def test_a_value_has_its_plain_meaning(text: str, value: object) -> None:
    result = parse_yaml(f"a: {text}", "f").content["a"]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("word", ["on", "yes", "true", "True"])
def test_a_boolean_setting_accepts_every_word_for_yes(word: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{public: ml-1m}}\nquery: {{predict_feedback: {word}}}\n")
    query = load_settings(tmp_path / "x.yaml", Experiment).query
    assert query is not None
    assert query.predict_feedback is True


def test_merge_keys_add_only_keys_that_the_mapping_lacks() -> None:
    text = "base: &base {width: 8, layers: 1}\nmodel:\n  <<: *base\n  layers: 2\n"
    assert parse_yaml(text, "f").content["model"] == {"width": 8, "layers": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"key 'a': occurs twice, first in line 1; .* \(line 3\)"),
        ("a:\n  b: {c: 1, c: 2}", r"key 'a\.b\.c': occurs twice, first in line 2; .* \(line 2\)"),
        ("a: [{b: 1, b: 1}]", r"key 'a\.0\.b': .*twice"),
        ("<<: {a: 1}\n<<: {b: 1}", "key '<<': occurs twice"),
        ("a: 1\n1: x", r"the key 1 is not text; put it in quotes \(line 2\)"),
        ("null: x", "the key null is not text; put it in quotes"),
        ("[a]: b", "the key that is a list or a mapping is not text"),
        ("{a: b}: c", "the key that is a list or a mapping is not text"),
        ("a: !!int x", r"key 'a': 'x' is not a valid int; .* \(line 1\)"),
        ("a: !!float x", "'x' is not a valid float"),
        ("a: !!python/object:os.system x", "the tag '!!python/object:os.system' is not supported"),
        ("a: !!binary aGk=", "the tag '!!binary'"),
        ("a: !!timestamp 2025-02-30", "the tag '!!timestamp'"),
        ("a: .nan", r"key 'a': .nan is not a finite number"),
        ("a: -.inf", "not a finite number"),
        ("a: 1.0e999", "not a finite number"),
        (f"a: {'9' * 5000}", "a number of 5,000 characters"),
        (f"a: {'[' * 200}{']' * 200}", r"more than 50 nested mappings and lists \(line 1\)"),
        (f"a: {'[' * 5000}", "more than 50 nested mappings and lists"),
        (f"a: {'{x: ' * 5000}", "more than 50 nested mappings and lists"),
        (ALIASES, "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("a: &a [*a]", "an alias lies inside"),
        ("a: &a {<<: *a}", "an alias lies inside"),
        ("<<: 5", "'<<' needs a mapping"),
        ("a:\n\tb: 1", "line 2, column 1: .* indent with spaces, not tabs"),
        ("a: b\n*: $row", "line 2, column 2: .* put text .* in quotes"),
        ("a: 1\n---\nb: 2", "line 2.*another document"),
        ("a: 'x\0'", r"line 1: the character U\+0000 is not allowed in YAML"),
        ("b: 1\na: \x07", r"line 2: the character U\+0007"),
        ('a: "\\0"', "key 'a': text cannot contain the character NUL"),
        ('a: "\\ud800"', "key 'a': text cannot contain"),
        ('a: "\\U00110000"', "line 1: a number is out of range"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", "line 1: a number is out of range"),
        ("", "is empty"),
        ("# a comment", "is empty"),
        ("- 1", "expected a mapping of keys at the top, found a list"),
        ("5", "expected a mapping of keys at the top, found 5"),
    ],
    ids=lambda text: text[:20],
)
def test_a_mistake_is_named_with_key_and_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^file\.yaml: .*{message}"):
        parse_yaml(text, "file.yaml")


@pytest.mark.parametrize(
    "content",
    [b"a: \xc3\xa9", codecs.BOM_UTF8 + b"a: \xc3\xa9", "a: é".encode("utf-16")],
    ids=["utf-8", "utf-8 with a byte order mark", "utf-16"],
)
def test_utf_8_and_utf_16_are_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(content)
    assert read_yaml(tmp_path / "f.yaml").content == {"a": "é"}


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    latin, large, closed = tmp_path / "latin.yaml", tmp_path / "large.yaml", tmp_path / "closed.yaml"
    latin.write_bytes(b"b: 1\na: \xe9")
    with large.open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    closed.write_text("a: 1")
    closed.chmod(0)
    cases = {latin: "line 2 is not UTF-8", large: "more than 1,000,000 bytes", tmp_path: "is a directory"}
    if not os.access(closed, os.R_OK):
        cases[closed] = "cannot be read .Permission denied."
    for path, message in (cases | {tmp_path / "none": "no such file", Path("a\0b"): "cannot be read"}).items():
        with pytest.raises(InputError, match=message) as caught:
            read_yaml(path)
        assert str(path).replace("\0", "\\x00") in str(caught.value)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(10**18), 10**18),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=8),
            st.sampled_from(["on", "1e3", "010", "1:30", "~", "<<", "2025-12-31", ".nan", "0x1F", "1_000", "=", "-"]),
        ).flatmap(lambda value: st.sampled_from([value, [value], {"a": value}])),
        max_size=4,
    )
)
@settings(max_examples=150, deadline=None)
def test_a_written_value_reads_back(content: dict[str, object]) -> None:
    text = dump_yaml(content)
    if any(escape in text for escape in ("\\0", "\\ud", "\\uD")):
        return
    assert parse_yaml(text, "f").content == content
    assert yaml.safe_load(text) == content  # for other readers of YAML too
