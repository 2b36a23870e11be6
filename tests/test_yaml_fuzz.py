"""Fuzzed YAML files: any content loads, or raises one `InputError` that names the file and, if possible, the key."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from openlum.bench.settings import DATASETS, Bench
from openlum.config import Settings, load_settings
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment
from openlum.schema import Schema
from openlum.sources.market.tables import SCHEMA
from openlum.yaml_file import dump_yaml, parse_yaml

CONFIGS = Path(__file__).parents[1] / "configs"
EVERY_KEY = """
name: shop
events:
  path: log/*.parquet
  user: user
  item: item
  time: time
  time_unit: ms
  condition:
    rating: {column: stars, type: numeric, minimum: 1, maximum: 5, feedback: true}
    scenario: {min_count: 2}
    tags: {type: multi, max_values: 3}
    page: {type: numeric, buckets: 8}
items: {path: items.csv, id: id, title: title, complete: false, features: {vec: {type: vector, width: 3}, born: {type: time}}}
users: {path: users.csv, id: id, features: {zip: {hash_rows: 1000}}}
impressions: {path: shown.csv, user: user, item: item, time: time, label: label, row: row, context: {place: {}}}
time_fields: [hour, weekday]
gap_unit: h
holdout: {field: rating, values: [4, 5]}
splits: {valid: 0.8, test: 0.9}
earliest: 2024-01-01
latest: 2025-12-31T23:59:59+01:00
max_user_events: 10000
max_rejected: 1%
engine: {name: duckdb, memory: 2GB, threads: 2, scratch: /tmp, events_per_part: 1000}
"""
FILES: list[tuple[str, type[Settings]]] = [
    (EVERY_KEY, Schema),
    (SCHEMA, Schema),
    ((CONFIGS / "market.yaml").read_text(), Experiment),
    ((CONFIGS / "ml-1m.yaml").read_text(), Experiment),
    ((DATASETS / "amazon-beauty.yaml").read_text(), Bench),
]
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 10**5, 10**15, 10**99, 0.5, -1e300, 1e-300, "", " ", "x", "on", "null", "nan", "inf", "-inf",
    "1e999", "1e3", "0x_", "2025-02-30", "25:61", "a" * 5000, "é\u202e\ufeff", "\x07\x1b[31m", "../..", "/", "[bold]", "{}", "%s",
    "$row", "*", [], [[]], [None], {}, {"": {}}, {"x": {"y": [1]}}, [1] * 2000, {f"k{n}": n for n in range(50)},
]  # fmt: skip
BYTES = [
    b"\0", b"\t", b"\xff", b"\xef\xbb\xbf", b"\xc2\x85", b"\r", b"\n", b":", b": ", b"- ", b"? ", b"'", b'"', b"#", b"&a ", b"*a",
    b"<<: ", b"!!int ", b"!!python/name:os.system ", b"!!binary ", b"---\n", b"...\n", b"%YAML 9.9\n", b"[" * 60, b"{" * 60,
    b"|\n", b"> \n", b"\\U00110000", b"9" * 5000, b".nan", b"1:30",
]  # fmt: skip


def holders(content: Any) -> list[Any]:
    """Return every mapping and list that is not empty, at any depth."""
    if not isinstance(content, dict | list):
        return []
    inner = content.values() if isinstance(content, dict) else content
    return [content] * bool(content) + [holder for value in inner for holder in holders(value)]


def changed_values(text: str, draw: random.Random) -> bytes:
    """Return the file with some keys removed or renamed, and some values nested or replaced."""
    content = parse_yaml(text, "shipped").content
    for _ in range(draw.randint(1, 3)):
        holder = draw.choice(holders(content) or [content])
        key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder))) if holder else "x"
        match draw.randrange(4):
            case 0 if holder:
                del holder[key]
            case 1 if isinstance(holder, dict) and holder:
                holder[key[:-1] + draw.choice(["", "x", " ", "\n"])] = holder.pop(key)
            case 2 if holder:
                holder[key] = draw.choice([[holder[key]], {"x": holder[key]}, {key: holder[key]}, str(holder[key])])
            case _:
                holder[key] = draw.choice(VALUES)
    return dump_yaml(content).encode("utf-8")


def changed_bytes(text: str, draw: random.Random) -> bytes:
    """Return the file with lines or bytes repeated, removed, inserted or cut off, or in another encoding."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw.randint(1, 3)):
        index = draw.randrange(len(lines))
        match draw.randrange(6):
            case 0:
                lines.insert(index, draw.choice(lines))
            case 1 if len(lines) > 1:
                del lines[index]
            case 2:
                lines[index] = " " * draw.randrange(5) + lines[index].lstrip(" ")
            case 3:
                lines[index] = lines[index][: draw.randrange(len(lines[index]) + 1)]
            case _:
                pass
    content = "".join(lines).encode(draw.choice(["utf-8"] * 8 + ["utf-16", "utf-16-le", "utf-32"]))
    for _ in range(draw.randrange(3)):
        index = draw.randrange(len(content) + 1)
        content = content[:index] + draw.choice(BYTES) + content[index + draw.randrange(3) :]
    return content[: draw.randrange(len(content) + 1)] if draw.random() < 0.1 else content


@given(number=st.integers(0, 2**32))
@example(number=0)
@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_file_loads_or_raises_one_error(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    text, kind = draw.choice(FILES)
    file = tmp_path / "drawn.yaml"
    file.write_bytes(draw.choice([changed_values, changed_bytes])(text, draw))
    try:
        load_settings(file, kind)
    except InputError as error:
        message = str(error)
        assert message.startswith(f"{file}: ")
        assert len(message) < 5000
        assert message.isprintable()


@pytest.mark.parametrize(("text", "kind"), FILES)
def test_the_unchanged_files_load(text: str, kind: type[Settings], tmp_path: Path) -> None:
    (tmp_path / "shipped.yaml").write_text(text)
    first = load_settings(tmp_path / "shipped.yaml", kind)
    (tmp_path / "again.yaml").write_text(dump_yaml(first.model_dump(mode="json")))
    assert load_settings(tmp_path / "again.yaml", kind) == first


@pytest.mark.parametrize(
    ("kind", "start", "setting"),
    [
        (Schema, "name: x\nevents: {path: a, user: u, item: i, time: t}\n", text)
        for text in (
            "latest: 2025-02-30",
            "earliest: 2025-13-01",
            "latest: 25:61",
            "engine: {memory: 999999TB}",
            "engine: {threads: 1000000000}",
            "max_rejected: .inf",
            "splits: {valid: nan}",
            "max_user_events: yes",
        )
    ]
    + [
        (Experiment, "name: x\ndata: {public: ml-1m}\n", text)
        for text in (
            "model: {width: 1000000000000}",
            "model: {layers: 1000000000}",
            "model: {max_events: 1000000000000}",
            "pretrain: {batch_events: 1000000000000000}",
            "pretrain: {learning_rate: .inf}",
            "pretrain: {learning_rate: inf}",
            "pretrain: {learning_rate: nan}",
            "pretrain: {weight_decay: 1e999}",
            "pretrain: {negatives: 1000000000000}",
            "pretrain: {epochs: 1e15}",
            "pretrain: {epochs: true}",
            "query: {rows_per_part: 1000000000000}",
            "rank: {seeds: [0, true]}",
            "rank: {trees: {learning_rate: inf}}",
            f"rank: {{seeds: {list(range(2000))}}}",
            "rank: {history_where: {a: [[b]]}}",
            "retrieve: {questions: {a: {b: {c: d}}}}",
            "retrieve: {questions: {a: {b: null}}}",
            "example: {a: {b: null}}",
        )
    ]
    + [(Experiment, "name: x\n", "data: {market: {users: 1e15}}")],
)  # fmt: skip
def test_absurd_values_are_refused_with_key_and_line(
    kind: type[Settings], start: str, setting: str, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(start + setting)
    section, _, rest = setting.partition(":")
    key = rest.strip().removeprefix("{").partition(":")[0]
    with pytest.raises(InputError) as caught:
        load_settings(tmp_path / "x.yaml", kind)
    assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}: key '{section}")
    assert key.split("-")[0] in str(caught.value)
    assert f"(line {start.count(chr(10)) + 1})" in str(caught.value)
