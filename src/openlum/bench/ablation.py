"""`lum bench ablation`: what each part of the method is worth to one ranker, on one data set.

Every change is made to the benchmark's experiment, all else as it is; the ranker's settings are the experiment's, untuned.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from openlum import __version__
from openlum.artefact import fingerprint, read_json
from openlum.bench.cells import Cell
from openlum.bench.chain import Place, build_dataset
from openlum.bench.ranking import comparison, run_with_progress
from openlum.bench.settings import Ablation, Bench, changed
from openlum.data.dataset import Dataset
from openlum.pretrain.train import pretrain
from openlum.query.bulk import query
from openlum.rank.alone import knowledge_alone
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.run import check_rows, figures
from openlum.run import Experiment
from openlum.summary import environment

WHOLE = Ablation(table="", label="whole method")


def bench_ablation(bench: Bench, place: Place, tables: list[str]) -> dict[str, Any]:
    """Run the ablations and return their result: `ablations`, a list of rows, each with its difference from the whole method.

    Args:
        bench: what is compared how.
        place: where and how.
        tables: which comparisons.
    """
    dataset = build_dataset(bench.experiment, place)
    chosen = [WHOLE, *(one for one in bench.ablations if one.table in tables)]
    store = place.directory / "ablation"
    assert bench.experiment.rank is not None
    prepared = Dataset(dataset)
    plain = RankingData(prepared, bench.experiment.rank)
    check_rows(plain)
    cells: dict[str, list[Cell]] = {"no knowledge": _cells(bench, bench.experiment, "no knowledge", None, place.seeds)}
    alone = {}
    for ablation in chosen:
        experiment = _changed(bench.experiment, ablation)
        knowledge = _knowledge(experiment, dataset, store, place.console)
        cells[ablation.label] = _cells(bench, experiment, ablation.label, knowledge, place.seeds)
        assert experiment.rank is not None
        if not experiment.rank.knowledge.matching:
            continue
        alone[ablation.label] = knowledge_alone(
            RankingData(prepared, experiment.rank, load_knowledge(knowledge, prepared, []))
        )
    outcomes = run_with_progress([cell for some in cells.values() for cell in some], "ablation", place)
    found = {label: [outcomes[cell] for cell in some] for label, some in cells.items()}
    test = plain.rows["test"]
    whole = found[WHOLE.label]
    rows = []
    for table, label in [("", "no knowledge"), *((one.table, one.label) for one in chosen)]:
        predictions = [one.test for one in found[label]]
        rows.append(
            {
                "table": table,
                "label": label,
                "ranking": figures(test, predictions),
                "valid_auc": [one.valid_auc for one in found[label]],
                "alone": alone.get(label, {}).get("all"),
                "from_whole": None
                if label == WHOLE.label
                else comparison(label, WHOLE.label, test, found[label], whole),
            }
        )
    told = {
        "dataset": bench.experiment.name,
        "protocol": bench.protocol,
        "seeds": place.seeds,
        "ranker": bench.ablation_ranker,
    }
    return {"ablations": rows, "bench": told, "environment": environment() | {"seed": bench.experiment.pretrain.seed}}


def _changed(experiment: Experiment, ablation: Ablation) -> Experiment:
    """The experiment with an ablation's changes."""
    assert experiment.query is not None
    assert experiment.rank is not None
    return experiment.model_copy(
        update={
            "model": changed(experiment.model, ablation.model),
            "pretrain": changed(experiment.pretrain, ablation.pretrain),
            "query": changed(experiment.query, ablation.query),
            "rank": changed(experiment.rank, ablation.rank),
        }
    )


def _knowledge(experiment: Experiment, dataset: Path, store: Path, console: Console) -> Path:
    """The knowledge of an experiment on a dataset, made unless it is there."""
    made = read_json(dataset / "dataset.json", "lum prepare")["fingerprint"]
    assert experiment.query is not None
    trained = fingerprint(__version__, made, experiment.model.model_dump(), experiment.pretrain.model_dump())
    asked = fingerprint(trained, experiment.query.model_dump())
    model, knowledge = store / f"model-{trained}", store / f"knowledge-{asked}"
    store.mkdir(parents=True, exist_ok=True)
    if not model.exists():
        console.print(f"[dim]pretrain  {model}[/dim]")
        pretrain(dataset, model, experiment.model, experiment.pretrain)
    if not knowledge.exists():
        console.print(f"[dim]query     {knowledge}[/dim]")
        query(dataset, model, knowledge, experiment.query)
    return knowledge


def _cells(bench: Bench, experiment: Experiment, label: str, knowledge: Path | None, seeds: list[int]) -> list[Cell]:
    assert experiment.rank is not None
    return [Cell(label, bench.ablation_ranker, experiment.rank, seed, knowledge) for seed in seeds]
