"""The sample of a table, and the command that writes a proposal."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from openlum.cli import main
from openlum.config import load_settings, parse_settings
from openlum.errors import InputError
from openlum.schema import Schema
from openlum.schema_wizard import propose
from openlum.schema_wizard.sample import take_sample

from .tables import read_schema, write_events


def test_rows_come_from_all_over_the_table(tmp_path: Path) -> None:
    count = 40_000
    table = pa.table({"n": np.arange(count)})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=1000)
    with (tmp_path / "n.csv").open("w") as file:
        file.write("n\n" + "".join(f"{n}\n" for n in range(count)))
    for name in ("n.parquet", "n.csv"):
        sample = take_sample(str(tmp_path / name), 2000)
        values = np.array(sample.table["n"].to_pylist(), int)
        assert 1900 <= len(values) <= 2100, name
        assert len(set(values)) == len(values), name
        assert (np.histogram(values, 10, (0, count))[0] > 0).all(), name
    assert take_sample(str(tmp_path / "n.parquet"), 2000).rows == count
    assert take_sample(str(tmp_path / "n.parquet"), count).is_complete


def test_directories_patterns_and_gzip_are_read(tmp_path: Path) -> None:
    for day in range(3):
        write_events(tmp_path / "log" / f"2024-{day}.parquet")
    text = "user,item,time\n" + "".join(f"{n % 9},{n % 7},{1_700_000_000 + n}\n" for n in range(300))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    for path in ("log", "log/2024-*.parquet"):
        proposal = propose(str(tmp_path / path), root=tmp_path)
        assert read_schema(proposal).events.path == path
        assert "sample: all 1,800 rows in 3 files" in proposal.text
    assert read_schema(propose(str(tmp_path / "packed.csv.gz"))).events.item == "item"


def test_values_of_several_lines_are_read(messy: str) -> None:
    sample = take_sample(messy, 500)
    assert 450 < len(sample.table) <= 500
    assert set(sample.table["const"].to_pylist()) == {"web"}


def test_malformed_lines_are_left_out_of_the_sample(tmp_path: Path) -> None:
    malformed = b'7,8,9\n7\n7,"8\n7,\xe9\n'
    (tmp_path / "log.csv").write_bytes(b"a,b\n" + b"1,2\n" * 50 + malformed + b"3,4\n" * 50)
    sample = take_sample(str(tmp_path / "log.csv"), 1000)
    assert sample.table.to_pylist() == [{"a": "1", "b": "2"}] * 50 + [{"a": "3", "b": "4"}] * 50


def test_directories_name_columns_and_private_ones_are_left_out(tmp_path: Path) -> None:
    for day in ("day=2026-01-01", "day=2026-01-02", "_delta_log", ".ipynb_checkpoints"):
        write_events(tmp_path / "log" / day / "part-0.parquet")
    proposal = propose(str(tmp_path / "log"), root=tmp_path)
    assert "sample: all 1,200 rows in 2 files" in proposal.text
    assert "# day: " in proposal.text


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_csv_of_any_line_end_is_sampled_all_over_the_file(tmp_path: Path, line_end: str) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(("\ufeff" + line_end.join(["n", *map(str, range(9000))])).encode())
    values = np.array(take_sample(str(file), 1000).table["n"].to_pylist(), int)
    assert (np.histogram(values, 10, (0, 9000))[0] > 0).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, "no such file; check the path on the command line"),
        ("none-*.parquet", None, "no file matches this pattern"),
        ("bad.parquet", b"PAR1 is not enough", "cannot be read"),
        ("empty.parquet", b"", "cannot be read"),
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"user,item,time\n", "has no rows"),
        (
            "late.csv",
            b"user,item,time\n" + b"a,1,2\n" * 400_000 + b"Jos\xe9,1,2\n" * 400_000,
            "not UTF-8.*csv: .encoding",
        ),
        ("wide.csv", "user,item,time\nJosé,1,2\n".encode("utf-16-le"), "iconv -f utf-16"),
        ("quote.csv", b'user,"item,time\na,1,2\n', "a quote in the first line is not closed"),
        ("twice.csv", b"a,a\n1,2\n", "several columns are named 'a'"),
        ("log.txt", b"user,item,time", "has no rows"),
        ("log.json", b'[{"user": 1}]', "is JSON"),
        ("log.xlsx", b"PK\x03\x04...", "Excel"),
        ("log.dat", b"PAR1...", "ends in .parquet"),
    ],
)
def test_an_unreadable_file_gives_a_message_of_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        propose(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def lum_schema(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lum", "schema", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return int(exit_info.value.code or 0)


def test_command_prints_absolute_paths_and_writes_relative_ones(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(market.parent)
    arguments = ["log/events.parquet", "--items", "log/items.parquet", "--impressions", "log/impressions.parquet"]
    assert lum_schema(monkeypatch, *arguments) == 0
    printed = parse_settings(yaml.safe_load(capsys.readouterr().out), Schema, where="printed")
    assert printed.events.path == str(market / "events.parquet")
    out = market.parent / "schemas" / "market.yaml"
    assert lum_schema(monkeypatch, *arguments, "--out", "schemas/market.yaml") == 0
    schema = load_settings(out, Schema)
    assert schema.events.path == "../log/events.parquet"
    assert (out.parent / schema.events.path).is_file()
    before = out.read_bytes()
    capsys.readouterr()
    assert lum_schema(monkeypatch, "log/items.parquet", "--out", "schemas/market.yaml") == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert lum_schema(monkeypatch, "log/items.parquet", "--out", "schemas/market.yaml", "--force") == 0
    assert "???" in out.read_text()
    assert "events.user" in capsys.readouterr().err
