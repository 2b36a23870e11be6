"""`lum ask`: the answers are those of the Python API, in words, also for a user in a file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import openlum as ol
from openlum.cli import app
from openlum.errors import InputError
from openlum.pipeline.ask import LAST_EVENTS, ask_run, parse_condition, read_history


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Path:
    return tiny_run / "runs/tiny"


@pytest.fixture(scope="module")
def model(run: Path) -> ol.LargeUserModel:
    return ol.LargeUserModel.from_pretrained(run / "model")


@pytest.fixture(scope="module")
def history(run: Path) -> list[dict[str, Any]]:
    """The events of user 7."""
    events: list[dict[str, Any]] = ol.Dataset(run / "dataset").histories(["7"])["7"]
    return events


def printed(*arguments: Any) -> str:
    done = CliRunner().invoke(app, ["ask", *map(str, arguments)], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.exception
    return done.output


def lines_of(items: list[dict[str, Any]]) -> list[str]:
    return [
        f"  {rank:3}  {item['similarity']:7.4f}  {item['title']}  ({item['item']})"
        for rank, item in enumerate(items, start=1)
    ]


def test_answers_and_the_end_of_the_history_are_printed(
    run: Path, model: ol.LargeUserModel, history: list[dict[str, Any]]
) -> None:
    output = printed(run, "--user", "7", "--k", 4, "scenario=search, feedback=click", "feedback=skip").splitlines()
    assert output[0] == f"history: {len(history):,} events, the last {LAST_EVENTS}:"
    titles = dict(zip(model.processor.items.values, model.processor.titles[1:], strict=True))
    for line, event in zip(output[1:], history[-LAST_EVENTS:], strict=False):
        assert line.split("  ")[1] == datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M")
        assert titles[event["item"]] in line
        assert f"scenario = {event['scenario']}" in line
        assert f"feedback = {event['feedback']}" in line
    for words, question in (
        ("scenario = search, feedback = click", {"scenario": "search", "feedback": "click"}),
        ("feedback = skip", {"feedback": "skip"}),
    ):
        start = output.index(words) + 1
        assert output[start : start + 4] == lines_of(model.recommend(history, 4, question))


def test_without_a_question_it_asks_what_next(
    run: Path, model: ol.LargeUserModel, history: list[dict[str, Any]]
) -> None:
    output = printed(run, "--user", 7).splitlines()
    assert output[output.index("what next?") + 1 :] == lines_of(model.recommend(history))


def test_as_of_a_time_later_events_do_not_count(
    run: Path, model: ol.LargeUserModel, history: list[dict[str, Any]]
) -> None:
    time = history[len(history) // 2]["time"]
    earlier = [event for event in history if event["time"] < time]
    expected = model.recommend(earlier, question={"scenario": "home", "time": time})
    for as_of in (str(time), datetime.fromtimestamp(time, UTC).isoformat()):
        answers = ask_run(run, "7", ["scenario=home"], 10, as_of)
        assert answers["events"] == len(earlier)
        assert answers["history"][-1]["time"] <= datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")
        assert answers["answers"][0]["items"] == expected


@pytest.mark.parametrize("file", ["history.parquet", "history.csv", "history.json", "text times.csv", "two users.csv"])
def test_a_history_in_a_file_has_the_answers_of_the_known_user(
    run: Path, history: list[dict[str, Any]], tmp_path: Path, file: str
) -> None:
    names = ["item", "time", "scenario", "query", "feedback"]
    events = [{name: event.get(name) for name in names} for event in history]
    if file == "text times.csv":
        events = [event | {"time": datetime.fromtimestamp(event["time"], UTC).isoformat()} for event in events]
    if file == "two users.csv":
        events = [event | {"user": user} for event in events for user in ("me", "other")][::-1]
        events = [event for index, event in enumerate(events) if event["user"] == "me" or index % 3]
    table = pa.Table.from_pylist(events)
    if file.endswith(".parquet"):
        pq.write_table(table, tmp_path / file)
    elif file.endswith(".csv"):
        pyarrow.csv.write_csv(table, tmp_path / file)
    else:
        (tmp_path / file).write_text(json.dumps(events))
    question = "scenario=search, feedback=click"
    user = ["--user", "me"] if file == "two users.csv" else []
    output = printed("--history", tmp_path / file, "--model", run / "model", *user, question)
    expected = printed(run, "--user", "7", question)
    if file == "two users.csv":  # events of one second are in another order
        assert output.splitlines()[0] == expected.splitlines()[0]
    else:
        assert output == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--user", "77x"], "the dataset has no user '77x' .*; did you mean 77[?]"),
        (["RUN", "--user", "7", "scenario=serch"], "'serch' was not in the training data; did you mean search?"),
        (["RUN", "--user", "7", "scenario=%%"], "'%%' was not in the training data; there are .*cart"),
        (["RUN", "--user", "7", "scenari=home"], "'scenari': the model has no such field; choose from scenario, query"),
        (["RUN", "--user", "7", "home"], "question 'home': expected FIELD=VALUE"),
        (["RUN", "--user", "7", "--as-of", "soon"], "as_of: 'soon' is not a date"),
        (["RUN"], "give RUN, a directory from 'lum run', and --user"),
        (["--history", "events.csv"], "--history: name the model too"),
        (
            ["--history", "events.csv", "-m", "RUN/model"],
            "events.csv: has events of 2 users; name one with --user: a, b",
        ),
        (["--history", "events.csv", "-m", "RUN/model", "--user", "c"], "events.csv: has no user 'c'; name one"),
        (["--history", "none.csv", "-m", "RUN/model"], "none.csv: cannot be read"),
        (["--history", "broken.json", "-m", "RUN/model"], "broken.json: cannot be read"),
        (["--history", "event.json", "-m", "RUN/model"], "event.json: cannot be read .expected a list of events"),
    ],
)
def test_the_message_names_the_nearest_choices(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.csv").write_text("user,item\na,1\nb,2\n")
    (tmp_path / "broken.json").write_text('{"item": 1')
    (tmp_path / "event.json").write_text('{"item": 1}')
    done = CliRunner().invoke(app, ["ask", *(word.replace("RUN", str(run)) for word in arguments)])
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise done.exception


def test_a_condition_in_text() -> None:
    assert parse_condition("") == {}
    assert parse_condition("query=red, blue,rating=5, price=1.50") == {
        "query": "red, blue",
        "rating": 5,
        "price": "1.50",
    }
    assert parse_condition("code=007") == {"code": "007"}


def test_empty_cells_are_missing_values(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("item;scenario;time\n8;home;2025-01-02\n7;;1735689600\n")
    assert read_history(tmp_path / "h.csv") == [
        {"item": "7", "time": 1735689600},
        {"item": "8", "scenario": "home", "time": 1735776000},
    ]
