"""The pipeline and its steps: `lum run`, `lum prepare`, `lum pretrain`, `lum query`, `lum rank`, `lum retrieve`."""

from pathlib import Path
from typing import Annotated

import typer

from openlum.cli.shared import (
    Config,
    DatasetDir,
    ModelDir,
    Out,
    Overrides,
    app,
    console,
    print_cold_items,
    print_figures,
    print_ranking,
    print_retrieval,
)
from openlum.errors import InputError


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Experiment file, for example configs/market.yaml.")],
    runs: Annotated[Path, typer.Option(help="Directory for the directory NAME of the experiment.")] = Path("runs"),
    from_dir: Annotated[
        Path | None, typer.Option("--from", help="Directory with the publisher's files of a public data set.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies the default
) -> None:
    """Run the whole pipeline of an experiment file. Steps with unchanged inputs, settings and code are skipped.

    Examples:

        lum run configs/market.yaml

        lum run configs/ml-1m.yaml --from ~/Downloads/ml-1m

        lum run configs/market.yaml --set pretrain.epochs=3 --set "rank.rankers=[din, sim]"
    """
    from openlum.pipeline.run import run as run_experiment

    summary, report = run_experiment(config, runs, console, from_dir, overrides)
    print_ranking(summary)
    print_retrieval(summary.get("retrieval", {}))
    print_cold_items(summary.get("cold_items"))
    console.print(f"report: {report.resolve()}", soft_wrap=True)


@app.command()
def prepare(
    schema: Annotated[Path | None, typer.Argument(help="Schema file (YAML) of the log.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Dataset to write, or to add files to. It is written completely or not at all."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the log against the schema, and write nothing.")
    ] = False,
    append: Annotated[
        Path | None, typer.Option("--append", help="Without SCHEMA: new files of the event log to add to --out.")
    ] = None,
    impressions: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the impression log to add to --out.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the item table to add to --out.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Without SCHEMA: new files of the user table to add to --out.")
    ] = None,
) -> None:
    """Write a dataset from a log and its schema. Without SCHEMA, add new files of its tables to the dataset --out.

    Examples:

        lum prepare data/ml-1m/schema.yaml --out data/ml-1m/dataset

        lum prepare data/shop/schema.yaml --check

        lum prepare --append log/2026-01-02.parquet --out data/shop/dataset

        lum prepare --impressions candidates/2026-01-03.parquet --out data/shop/dataset
    """
    from openlum.prepare import run as preparation
    from openlum.report.dataset_report import dataset_summary

    new = {"--append": append, "--impressions": impressions, "--items": items, "--users": users}
    options = [option for option, path in new.items() if path is not None]
    if options:
        if schema is not None or check or out is None:
            raise InputError(
                f"{', '.join(options)}: new files are added to an existing dataset with its own schema; give --out DATASET, and "
                "neither SCHEMA nor --check"
            )
        info = preparation.append(out, append, impressions, items, users)
    elif schema is None or (out is None) != check:
        raise InputError(
            "give SCHEMA and --out DATASET, or SCHEMA and --check; to add files to a dataset, give --out DATASET and the new "
            "files with --append, --impressions, --items or --users"
        )
    else:
        info = preparation.prepare(schema, out) if out is not None else preparation.check(schema)
    console.print(dataset_summary(info))
    if out is None:
        console.print("checked: nothing was written")
        return
    console.print(f"dataset: {out}", soft_wrap=True)
    console.print(f"report: {(out / 'report.html').resolve()}", soft_wrap=True)


@app.command()
def pretrain(
    dataset: DatasetDir,
    out: Out,
    config: Config = None,
    init_from: Annotated[
        Path | None,
        typer.Option("--init-from", help="A model to start from, for a dataset that has grown since its training."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Step 1, knowledge construction: train a Large User Model. Run the same command again to resume an interrupted training.

    Examples:

        lum pretrain --dataset data/ml-1m/dataset --out data/ml-1m/model --config configs/ml-1m.yaml

        lum pretrain --dataset data/ml-1m/dataset --out data/ml-1m/model --set model.width=128 --set pretrain.epochs=3

        lum pretrain --dataset data/grown --out data/new-model --init-from data/ml-1m/model
    """
    from openlum.model.settings import ModelSettings
    from openlum.pipeline.experiment import step_settings
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import pretrain as train

    shape = step_settings(config, "model", ModelSettings, overrides)
    settings = step_settings(config, "pretrain", PretrainSettings, overrides)
    print_figures(train(dataset, out, shape, settings, init_from), out)


@app.command()
def query(
    dataset: DatasetDir,
    model: ModelDir,
    out: Out,
    users: Annotated[
        str | None,
        typer.Option(
            metavar="all|FILE",
            help="Write one row per user instead: of all users, or of those in a file (Parquet or CSV with a column `user`, or "
            "text with one id in a line).",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="now|TIME",
            help="With --users: only events before this time count. now: after the last event of the dataset. TIME: a date or "
            "time (ISO 8601, UTC), or seconds since 1970.",
            show_default="now",
        ),
    ] = None,
    only_new: Annotated[
        bool,
        typer.Option(
            "--only-new", help="Answer only impressions that OUT does not have yet; its parts stay unchanged."
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes that answer.", show_default="one per core, or one on a GPU"),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="local|ray", help="Where they run. ray: on the workers of a Ray cluster (openlum[ray])."),
    ] = "local",
    config: Config = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Step 2, knowledge querying: answer every question for every impression, as of its time, or for users, as of one time.

    Examples:

        lum query -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/knowledge -c configs/ml-1m.yaml

        lum query -d data/shop/dataset -m data/shop/model -o data/shop/users --users all --as-of 2026-01-03

        lum query -d data/shop/dataset -m data/shop/model -o data/shop/knowledge --only-new

        lum query -d data/shop/dataset -m data/shop/model -o data/shop/knowledge --engine ray
    """
    from openlum.pipeline.experiment import step_settings
    from openlum.processes import default_processes
    from openlum.query.bulk import query as ask
    from openlum.query.settings import QuerySettings

    settings = step_settings(config, "query", QuerySettings, overrides)
    figures = ask(dataset, model, out, settings, users, as_of, only_new, processes or default_processes(), engine)
    print_figures(figures, out)


@app.command()
def rank(
    dataset: DatasetDir,
    out: Out,
    knowledge: Annotated[Path | None, typer.Option("--knowledge", "-k", help="Knowledge from `lum query`.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True click probabilities of a simulation, for the oracle.")
    ] = None,
    config: Config = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Step 3, knowledge utilization: train rankers with and without knowledge, and compare them.

    Example:

        lum rank -d data/ml-1m/dataset -k data/ml-1m/knowledge -o data/ml-1m/ranker -c configs/ml-1m.yaml
    """
    from openlum.pipeline.experiment import step_settings
    from openlum.rank.run import rank as train
    from openlum.rank.settings import RankSettings

    print_ranking(train(dataset, knowledge, out, step_settings(config, "rank", RankSettings, overrides), truth))


@app.command()
def retrieve(dataset: DatasetDir, model: ModelDir, out: Out, config: Config = None, overrides: Overrides = []) -> None:  # noqa: B006
    """Evaluate retrieval: rank all items for every user, and measure the rank of the user's last item, which is held out.

    Example:

        lum retrieve -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/retrieval
    """
    from openlum.pipeline.experiment import step_settings
    from openlum.results import Retrieval
    from openlum.retrieve.evaluate import retrieve as evaluate
    from openlum.retrieve.settings import RetrieveSettings

    metrics = evaluate(dataset, model, out, step_settings(config, "retrieve", RetrieveSettings, overrides))
    print_retrieval(metrics)
    print_cold_items(Retrieval(out).cold_items)
    console.print(f"written: {out}", soft_wrap=True)
