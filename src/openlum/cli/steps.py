"""The chain and its steps: `lum run`, `lum pretrain`, `lum query`, `lum rank`, `lum retrieve`."""

from pathlib import Path
from typing import Annotated

import typer

from openlum.cli.shared import (
    Config,
    DatasetDir,
    ModelDir,
    Out,
    app,
    console,
    section,
    show_figures,
    show_retrieval,
)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Experiment file, for example configs/market.yaml.")],
    runs: Annotated[Path, typer.Option(help="Directory for runs/NAME.")] = Path("runs"),
    from_dir: Annotated[Path | None, typer.Option("--from", help="The publisher's files of a public data set.")] = None,
) -> None:
    """The whole chain from one experiment file. Steps whose inputs, settings and code have not changed are skipped.

    Examples:

        lum run configs/market.yaml

        lum run configs/ml-1m.yaml --from ~/Downloads/ml-1m
    """
    from openlum.pipeline.run import run as run_experiment
    from openlum.report.run_report import summary_table

    summary, report = run_experiment(config, runs, console, from_dir)
    if "ranking" in summary:
        console.print(summary_table(summary))
    show_retrieval(summary.get("retrieval", {}))
    console.print(f"report: {report.resolve()}", soft_wrap=True)


@app.command()
def pretrain(
    dataset: DatasetDir,
    out: Out,
    config: Config = None,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", help="A model to begin with, for a dataset that has grown since.")
    ] = None,
) -> None:
    """Step 1, knowledge construction: train a Large User Model. An interrupted training goes on where it was.

    Examples:

        lum pretrain --dataset data/ml-1m/dataset --out data/ml-1m/model --config configs/ml-1m.yaml

        lum pretrain --dataset data/grown --out data/new-model --init-from data/ml-1m/model
    """
    from openlum.model.settings import ModelSettings
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import pretrain as train

    shape, settings = section(config, "model", ModelSettings), section(config, "pretrain", PretrainSettings)
    show_figures(train(dataset, out, shape, settings, init_from), out)


@app.command()
def query(dataset: DatasetDir, model: ModelDir, out: Out, config: Config = None) -> None:
    """Step 2, knowledge querying: ask every impression's questions, each as of its own time.

    Example:

        lum query -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/knowledge -c configs/ml-1m.yaml
    """
    from openlum.query.bulk import query as ask
    from openlum.query.settings import QuerySettings

    show_figures(ask(dataset, model, out, section(config, "query", QuerySettings)), out)


@app.command()
def rank(
    dataset: DatasetDir,
    out: Out,
    knowledge: Annotated[Path | None, typer.Option("--knowledge", "-k", help="From `lum query`.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True click probabilities of a simulation, for the oracle.")
    ] = None,
    config: Config = None,
) -> None:
    """Step 3, knowledge utilization: train rankers without and with knowledge, and compare them.

    Example:

        lum rank -d data/ml-1m/dataset -k data/ml-1m/knowledge -o data/ml-1m/ranker -c configs/ml-1m.yaml
    """
    from openlum.rank.run import rank as train
    from openlum.rank.settings import RankSettings
    from openlum.report.run_report import summary_table

    console.print(summary_table(train(dataset, knowledge, out, section(config, "rank", RankSettings), truth)))


@app.command()
def retrieve(dataset: DatasetDir, model: ModelDir, out: Out, config: Config = None) -> None:
    """Rank all items for every user with the last one held out.

    Example:

        lum retrieve -d data/ml-1m/dataset -m data/ml-1m/model -o data/ml-1m/retrieval
    """
    from openlum.retrieve.evaluate import retrieve as evaluate
    from openlum.retrieve.settings import RetrieveSettings

    found = evaluate(dataset, model, out, section(config, "retrieve", RetrieveSettings))
    show_retrieval(found)
    console.print(f"written: {out}", soft_wrap=True)
