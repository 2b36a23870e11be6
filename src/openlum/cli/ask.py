"""The command `lum ask`: questions to one user."""

from pathlib import Path
from typing import Annotated, Any

import typer

from openlum.cli.shared import app, console
from openlum.errors import InputError


@app.command()
def ask(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [QUESTION]...",
            help="Directory from `lum run` (with --history, leave it out), then questions: 'FIELD=VALUE, FIELD=VALUE'. Without a "
            "question: what next?",
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="The user's id in the log.")] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            help="Instead of RUN: a file with the events of any user (Parquet, CSV or JSON). Its columns are `item`, and "
            "optionally `time`, condition fields and `user`. Needs --model."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Model from `lum pretrain`, or OWNER/NAME on the Hugging Face Hub."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Only events before this time count: a date or time (ISO 8601, UTC), or seconds since 1970.",
            show_default="after all events",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of items in an answer.")] = 10,
) -> None:
    """Ask about one user: show the end of the history, and the best items with scores for each question.

    Items of the history are left out of the answers.

    Examples:

        lum ask runs/market --user 7 "scenario=search, query=headphones" "feedback=click"

        lum ask runs/market --user 7 --as-of 2025-01-20 --k 3

        lum ask --history history.csv --model runs/market/model "scenario=home"
    """
    from openlum.pipeline.ask import answers_in_words, ask_run, load_model, read_history

    words = arguments or []
    if history is not None:
        if model is None:
            raise InputError("--history: name the model too, with --model")
        print_answers(answers_in_words(load_model(model), read_history(history, user), words, k, as_of))
    elif user is None or not words:
        raise InputError("give RUN, a directory from 'lum run', and --user; or --history FILE and --model")
    else:
        print_answers(ask_run(Path(words[0]), user, words[1:], k, as_of, model))


def print_answers(answers: dict[str, Any]) -> None:
    """Print what `answers_in_words` returns."""
    shown = answers["history"]
    console.print(f"history: {answers['events']:,} events" + f", the last {len(shown)}:" * bool(shown), style="bold")
    for event in shown:
        condition = ", ".join(f"{name} = {value}" for name, value in event["condition"].items())
        console.print(f"  {event['time']:16}  {event['title']}  ({condition or 'any'})", soft_wrap=True)
    for answer in answers["answers"]:
        console.print(f"\n{answer['words']}", style="bold", soft_wrap=True)
        for rank, item in enumerate(answer["items"], start=1):
            console.print(f"  {rank:3}  {item['similarity']:7.4f}  {item['title']}  ({item['item']})", soft_wrap=True)
