"""`lum bench`, thin: heavy imports wait until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from openlum.artefact.lock import locked
from openlum.console import new_console
from openlum.errors import InputError

if TYPE_CHECKING:
    from openlum.bench.pipeline import RunContext
    from openlum.bench.settings import Bench

bench = typer.Typer(no_args_is_help=True, help="Benchmarks with several seeds, a tuning budget and paired tests.")

Name = Annotated[
    str,
    typer.Option(
        "--dataset", "-d", help="ml-1m, kuairand-pure, amazon-beauty, market; or a file of your own, ending in .yaml."
    ),
]
Runs = Annotated[Path, typer.Option(help="Directory for bench-NAME, with everything that is made on the way.")]
From = Annotated[Path | None, typer.Option("--from", help="The publisher's files of a public data set.")]
Json = Annotated[
    Path | None, typer.Option("--json", help="Result file.", show_default="bench-NAME/WHAT.json under --runs")
]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of every method.")]
Models = Annotated[
    int | None,
    typer.Option(
        min=1, help="Trainings of the Large User Model, which the seeds take in turn.", show_default="one a seed"
    ),
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Trainings at a time.", show_default="one a core, or one on a GPU")
]


@bench.command()
def ranking(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 5,
    models: Models = None,
    rankers: Annotated[str | None, typer.Option(help="Fewer rankers, with commas between.", show_default="all")] = None,
    tune: Annotated[
        bool, typer.Option(help="Choose settings on validation; otherwise the first ones are taken.")
    ] = True,
    processes: Processes = None,
) -> None:
    """Every ranker without and with knowledge, and the generative ones end to end: AUC, GAUC, log loss, NE, paired tests.

    All are tuned over equally many settings on the validation rows. What was trained before is not trained again.

    Examples:

        lum bench ranking --dataset market

        lum bench ranking --dataset market --rankers dnn,din,hstu --no-tune --seeds 2

        lum bench ranking --dataset ml-1m --from ~/Downloads/ml-1m --seeds 5 --models 1 --json ranking.json

        lum bench ranking --dataset shop.yaml
    """
    from openlum.bench.ranking import bench_ranking
    from openlum.bench.report import comparison_table, plot_ranking, ranking_table

    loaded, context = _begin(dataset, runs, from_dir, json, seeds, models, processes)
    if loaded.ranking is None:
        raise InputError(f"'{dataset}' has no benchmark of ranking")
    chosen = _some_of(list(loaded.ranking.tune), rankers, "--rankers")
    with locked(context.directory):
        result = bench_ranking(loaded, context, chosen, tune)  # type: ignore[arg-type]
        tables = [ranking_table(result), *([comparison_table(result)] if result["comparisons"] else [])]
        written = _finish(context, json or context.directory / "ranking.json", result, *tables)
    context.console.print(f"plot: {plot_ranking(result, written.with_suffix('.svg'))}", soft_wrap=True)


@bench.command()
def ablation(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 5,
    models: Models = None,
    tables: Annotated[str | None, typer.Option(help="Fewer tables, with commas between.", show_default="all")] = None,
    processes: Processes = None,
) -> None:
    """What each part of the method is worth: parts of the knowledge, conditions, questions, freshness, precision, size.

    Examples:

        lum bench ablation --dataset market

        lum bench ablation --dataset kuairand-pure --from ~/Downloads/KuaiRand-Pure --tables use,freshness --seeds 3
    """
    from openlum.bench.ablation import bench_ablation
    from openlum.bench.report import ablation_table

    loaded, context = _begin(dataset, runs, from_dir, json, seeds, models, processes)
    if not loaded.ablations:
        raise InputError(f"'{dataset}' has no ablations")
    chosen = _some_of(list(dict.fromkeys(one.table for one in loaded.ablations)), tables, "--tables")
    with locked(context.directory):
        result = bench_ablation(loaded, context, chosen)
        _finish(context, json or context.directory / "ablation.json", result, ablation_table(result))


@bench.command()
def retrieval(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 1,
    opponents: Annotated[
        str | None, typer.Option(help="Fewer opponents, with commas between.", show_default="all")
    ] = None,
    processes: Processes = None,
) -> None:
    """The Large User Model's answers against next-item models end to end: the last event held out, all items ranked.

    Examples:

        lum bench retrieval --dataset ml-1m --from ~/Downloads/ml-1m --json retrieval.json

        lum bench retrieval --dataset ml-1m --from ~/Downloads/ml-1m --opponents sasrec --seeds 3
    """
    from openlum.bench.report import plot_retrieval, retrieval_comparison_table, retrieval_table
    from openlum.bench.retrieval import bench_retrieval

    loaded, context = _begin(dataset, runs, from_dir, json, seeds, None, processes)
    if loaded.retrieval is None:
        raise InputError(f"'{dataset}' has no benchmark of retrieval")
    chosen = _some_of(list(loaded.retrieval.opponents), opponents, "--opponents")
    with locked(context.directory):
        result = bench_retrieval(loaded, context, chosen)
        tables = [retrieval_table(result), *([retrieval_comparison_table(result)] if result["comparisons"] else [])]
        written = _finish(context, json or context.directory / "retrieval.json", result, *tables)
    context.console.print(f"plot: {plot_retrieval(result, written.with_suffix('.svg'))}", soft_wrap=True)


def _some_of(known: list[str], named: str | None, option: str) -> list[str]:
    """The names given with an option, each once; all of them without it."""
    chosen = known if named is None else list(dict.fromkeys(name.strip() for name in named.split(",")))
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise InputError(f"{option}: '{unknown[0]}' is none; there are {', '.join(known)}")
    return chosen


def _begin(
    name: str,
    runs: Path,
    from_dir: Path | None,
    json: Path | None,
    seeds: int,
    models: int | None,
    processes: int | None,
) -> tuple["Bench", "RunContext"]:
    """The benchmark that is named, and where and how it runs."""
    from openlum.artefact.directory import check_writable
    from openlum.bench.pipeline import RunContext
    from openlum.bench.settings import bench_file, load_bench
    from openlum.bench.workers import default_processes

    if models and models > seeds:
        raise InputError(
            f"--models {models}: with {seeds} seeds no more than {seeds} trainings are used; raise --seeds"
        )
    if json and json.is_dir():
        raise InputError(f"--json {json}: is a directory; name a file in it")
    if json:
        check_writable(json)
    file = bench_file(name)
    loaded = load_bench(file)
    directory, processes = runs / f"bench-{loaded.experiment.name}", processes or default_processes()
    return loaded, RunContext(file, directory, new_console(), from_dir, list(range(seeds)), models or seeds, processes)


def _finish(context: "RunContext", file: Path, result: dict[str, Any], *tables: Table) -> Path:
    """Write the result, show it, and return its file."""
    from openlum.artefact.directory import write_json

    write_json(file, result)
    for table in tables:
        context.console.print(table)
    context.console.print(f"result: {file}", soft_wrap=True)
    return file
