"""Commands of `lum bench`. Heavy libraries are imported when a command runs."""

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
        "--dataset",
        "-d",
        help="ml-1m, kuairand-pure, amazon-beauty or market; or your own benchmark file, ending in .yaml.",
    ),
]
Runs = Annotated[Path, typer.Option(help="Directory for bench-NAME, which gets all artefacts of the benchmark.")]
From = Annotated[Path | None, typer.Option("--from", help="Directory with the publisher's files of a public data set.")]
Json = Annotated[
    Path | None, typer.Option("--json", help="Result file.", show_default="bench-NAME/BENCHMARK.json in --runs")
]
Seeds = Annotated[int, typer.Option(min=1, help="Number of trainings of every method.")]
Models = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of trainings of the Large User Model; the seeds use them in turn.",
        show_default="one per seed",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Number of trainings at the same time.", show_default="one per core, or one on a GPU"),
]
Rankers = Annotated[
    str | None, typer.Option(help="Names of the rankers to train, separated by commas.", show_default="all")
]
Tune = Annotated[
    bool,
    typer.Option(help="Choose the settings on the validation rows; otherwise use the first settings of each ranker."),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the benchmark file, such as experiment.pretrain.epochs=3. The value is YAML. May be given several "
        "times.",
    ),
]


@bench.command()
def ranking(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 5,
    models: Models = None,
    rankers: Rankers = None,
    tune: Tune = True,
    processes: Processes = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies the default
) -> None:
    """Benchmark every ranker without and with knowledge, and the generative rankers end to end.

    The results are AUC, GAUC, log loss, NE and paired tests. All rankers have the same tuning budget on the validation rows.
    Finished trainings are not repeated.

    Examples:

        lum bench ranking --dataset market

        lum bench ranking --dataset market --rankers dnn,din,hstu --no-tune --seeds 2

        lum bench ranking --dataset ml-1m --from ~/Downloads/ml-1m --seeds 5 --models 1 --json ranking.json

        lum bench ranking --dataset shop.yaml

        lum bench ranking --dataset market --set experiment.pretrain.epochs=3 --set ranking.tune_seed=7
    """
    from openlum.bench.ranking import bench_ranking
    from openlum.bench.report import comparison_table, plot_ranking, ranking_table

    settings, context = _load(dataset, runs, from_dir, json, seeds, models, processes, overrides)
    if settings.ranking is None:
        raise InputError(f"'{dataset}' has no ranking benchmark")
    selected = _selection(list(settings.ranking.tune), rankers, "--rankers")
    with locked(context.directory):
        result = bench_ranking(settings, context, selected, tune)
        tables = [ranking_table(result), *([comparison_table(result)] if result["comparisons"] else [])]
        file = _write_result(context, json or context.directory / "ranking.json", result, *tables)
    context.console.print(f"plot: {plot_ranking(result, file.with_suffix('.svg'))}", soft_wrap=True)


@bench.command()
def tiers(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 3,
    models: Models = None,
    rankers: Rankers = None,
    tune: Tune = True,
    processes: Processes = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies the default
) -> None:
    """Measure each tier of knowledge: what it adds to every ranker and to two controls, and what it costs per request.

    The tiers are nightly, fresh and live. The controls join the rankers in the same way: eight plain counters, and the matching
    head trained without users. Rankers are tuned without knowledge. Finished trainings, also those of lum bench ranking, are not
    repeated.

    Examples:

        lum bench tiers --dataset market

        lum bench tiers --dataset market --rankers din,lightgbm,sim --no-tune --json tiers.json

        lum bench tiers --dataset kuairand-pure --from ~/Downloads/KuaiRand-Pure --seeds 3
    """
    from openlum.bench.report import tiers_table
    from openlum.bench.tiers import bench_tiers

    settings, context = _load(dataset, runs, from_dir, json, seeds, models, processes, overrides)
    if settings.ranking is None:
        raise InputError(f"'{dataset}' has no ranking benchmark")
    selected = _selection(list(settings.ranking.tune), rankers, "--rankers")
    with locked(context.directory):
        result = bench_tiers(settings, context, selected, tune)
        _write_result(context, json or context.directory / "tiers.json", result, tiers_table(result))


@bench.command()
def ablation(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 5,
    models: Models = None,
    tables: Annotated[
        str | None, typer.Option(help="Names of the tables to compute, separated by commas.", show_default="all")
    ] = None,
    processes: Processes = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies the default
) -> None:
    """Measure the effect of each part of the method: parts of the knowledge, conditions, questions, freshness, precision, size.

    Examples:

        lum bench ablation --dataset market

        lum bench ablation --dataset kuairand-pure --from ~/Downloads/KuaiRand-Pure --tables use,freshness --seeds 3
    """
    from openlum.bench.ablation import bench_ablation
    from openlum.bench.report import ablation_table

    settings, context = _load(dataset, runs, from_dir, json, seeds, models, processes, overrides)
    if not settings.ablations:
        raise InputError(f"'{dataset}' has no ablations")
    selected = _selection(list(dict.fromkeys(ablation.table for ablation in settings.ablations)), tables, "--tables")
    with locked(context.directory):
        result = bench_ablation(settings, context, selected)
        _write_result(context, json or context.directory / "ablation.json", result, ablation_table(result))


@bench.command()
def retrieval(
    dataset: Name,
    from_dir: From = None,
    runs: Runs = Path("runs"),
    json: Json = None,
    seeds: Seeds = 1,
    opponents: Annotated[
        str | None, typer.Option(help="Names of the opponents to train, separated by commas.", show_default="all")
    ] = None,
    processes: Processes = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies the default
) -> None:
    """Compare retrieval by the Large User Model's answers with next-item models, end to end.

    The last event of every user is held out, and all items are ranked.

    Examples:

        lum bench retrieval --dataset ml-1m --from ~/Downloads/ml-1m --json retrieval.json

        lum bench retrieval --dataset ml-1m --from ~/Downloads/ml-1m --opponents sasrec --seeds 3
    """
    from openlum.bench.report import plot_retrieval, retrieval_comparison_table, retrieval_table
    from openlum.bench.retrieval import bench_retrieval

    settings, context = _load(dataset, runs, from_dir, json, seeds, None, processes, overrides)
    if settings.retrieval is None:
        raise InputError(f"'{dataset}' has no retrieval benchmark")
    selected = _selection(list(settings.retrieval.opponents), opponents, "--opponents")
    with locked(context.directory):
        result = bench_retrieval(settings, context, selected)
        tables = [retrieval_table(result), *([retrieval_comparison_table(result)] if result["comparisons"] else [])]
        file = _write_result(context, json or context.directory / "retrieval.json", result, *tables)
    context.console.print(f"plot: {plot_retrieval(result, file.with_suffix('.svg'))}", soft_wrap=True)


def _selection(names: list[str], value: str | None, option: str) -> list[str]:
    """Return the names in the value of an option, each once; all names without the option."""
    selected = names if value is None else list(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = sorted(set(selected) - set(names))
    if unknown:
        raise InputError(f"{option}: unknown name '{unknown[0]}'; choose from {', '.join(names)}")
    return selected


def _load(
    name: str,
    runs: Path,
    from_dir: Path | None,
    json: Path | None,
    seeds: int,
    models: int | None,
    processes: int | None,
    overrides: list[str],
) -> tuple["Bench", "RunContext"]:
    """Return the settings of a benchmark, and the context that it runs in."""
    from openlum.artefact.lock import check_writable
    from openlum.bench.pipeline import RunContext
    from openlum.bench.settings import bench_file, load_bench
    from openlum.processes import default_processes

    if models and models > seeds:
        raise InputError(f"--models {models}: {seeds} seeds use at most {seeds} trainings; raise --seeds")
    if json and json.is_dir():
        raise InputError(f"--json {json}: is a directory; name a file in it")
    if json:
        check_writable(json)
    file = bench_file(name)
    settings = load_bench(file, overrides)
    directory, processes = runs / f"bench-{settings.experiment.name}", processes or default_processes()
    return settings, RunContext(
        file, directory, new_console(), from_dir, list(range(seeds)), models or seeds, processes
    )


def _write_result(context: "RunContext", file: Path, result: dict[str, Any], *tables: Table) -> Path:
    """Write the result, print its tables, and return its file."""
    from openlum.artefact.json_file import write_json

    write_json(file, result)
    for table in tables:
        context.console.print(table)
    context.console.print(f"result: {file}", soft_wrap=True)
    return file
