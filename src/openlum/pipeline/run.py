"""The whole chain from one experiment file. The steps meet only through the directories that they read and write."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from openlum.artefact.checksums import remember_checksums, store_checksums
from openlum.artefact.directory import named_failures, read_json, record_key, write_json
from openlum.artefact.keys import Step, step_key, why_again
from openlum.artefact.lock import locked
from openlum.config import load_settings
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment
from openlum.rank.settings import RankSettings
from openlum.schema import Schema
from openlum.sources.public import module_of
from openlum.yaml_file import dump_yaml

CHECKSUMS = ".checksums.json"
"""In the directory of a run: checksums of files as they were last seen, so that large ones are not read in every run."""


@dataclass
class Pipeline:
    """The steps of one experiment, in its directory."""

    experiment: Experiment
    config: Path
    """The experiment file."""
    directory: Path
    """runs/NAME."""
    console: Console
    from_dir: Path | None = None
    """The publisher's files of a public data set; otherwise they are downloaded."""

    def __post_init__(self) -> None:
        self.steps: list[Step] = []
        """Steps that were gone through, in order."""
        remember_checksums(self.directory / CHECKSUMS)

    def step(
        self,
        name: Step,
        artefact: str,
        inputs: Mapping[str, Path | Sequence[Path]],
        settings: Any,
        work: Callable[[Path], Any],
        entry: Sequence[str] | None = None,
    ) -> None:
        """Run a step unless its directory holds what it would make of its inputs, settings and code as they are now.

        Args:
            name: of the step.
            artefact: the directory that it writes, in the experiment's.
            inputs: name to the artefact or the files that it reads.
            settings: everything else that its result depends on.
            work: writes the artefact to the path it is given.
            entry: the modules that it begins in, where the step alone does not tell.
        """
        self.steps.append(name)
        out, key = self.directory / artefact, step_key(name, settings, inputs, entry)
        reason = why_again(out, key)
        store_checksums(self.directory / CHECKSUMS)
        if reason is None:
            self.console.print(f"{name:9} unchanged, skipped: {out}", style="dim", soft_wrap=True)
            return
        again = (f" ({reason})", "dim") if reason else ""
        self.console.print(Text.assemble((f"{name:9}", "bold"), f" {out}", again), soft_wrap=True)
        work(out)
        record_key(out, key)

    def schema(self) -> Path:
        """The schema of the log, which the data step has written or the user has."""
        if self.experiment.data.schema_file:
            return self.config.parent / self.experiment.data.schema_file
        return self.directory / "log" / "schema.yaml"

    def dataset(self) -> None:
        """The first steps, down to the dataset."""
        inputs: dict[str, Path | Sequence[Path]] = {"log": self.directory / "log"}
        if self.experiment.data.schema_file is None:
            entry = [module_of(self.experiment.data.public)] if self.experiment.data.public else None
            self.step("data", "log", {}, self.experiment.data.model_dump(), self._write_log, entry)
        else:
            inputs = {"schema": self.schema(), "tables": _tables(self.schema())}
        self.step("prepare", "dataset", inputs, None, self._prepare)

    def run(self) -> None:
        """All steps, in order."""
        experiment = self.experiment
        self.dataset()
        self.check_before_training()
        dataset, model = self.directory / "dataset", self.directory / "model"
        pretraining = [experiment.model.model_dump(), experiment.pretrain.model_dump()]
        self.step("pretrain", "model", {"dataset": dataset}, pretraining, self._pretrain)
        read = {"dataset": dataset, "model": model}
        if experiment.query:
            self.step("query", "knowledge", read, experiment.query.model_dump(), self._query)
        if experiment.rank:
            knowledge, truth = self._knowledge_and_truth()
            given = {"dataset": dataset, "knowledge": knowledge, "truth": truth}
            inputs = {name: path for name, path in given.items() if path}
            self.step("rank", "ranker", inputs, experiment.rank.model_dump(), self._rank)
        if experiment.retrieve:
            self.step("retrieve", "retrieval", read, experiment.retrieve.model_dump(), self._retrieve)

    def check_before_training(self, rankings: Sequence[RankSettings] = (), directory: Path | None = None) -> None:
        """Find now what would stop a step after an hour of training.

        Args:
            rankings: settings that rankers will be trained with beside the experiment's own.
            directory: that models and what comes after them are written to; by default the experiment's.

        Raises:
            InputError: names the experiment file and the key, the directory or the part of the dataset.
        """
        from openlum.data.dataset import Dataset
        from openlum.pipeline.checks import check_before_training

        chosen, own = self.experiment, [self.experiment.rank] if self.experiment.rank else []
        sections = chosen.model, chosen.pretrain, chosen.query, [*own, *rankings], chosen.retrieve, chosen.example
        try:
            check_before_training(Dataset(self.directory / "dataset"), directory or self.directory, *sections)
        except InputError as error:
            raise InputError(f"{self.config}: {error}") from None

    # Each step's modules are imported when it runs: a skipped one costs nothing.

    def _write_log(self, out: Path) -> None:
        from openlum.sources import public
        from openlum.sources.market.write import write_market

        if self.experiment.data.market:
            write_market(self.experiment.data.market, out)
        else:
            data = self.experiment.data
            public.write(str(data.public), out, self.from_dir, data.partial, data.negatives)

    def _prepare(self, out: Path) -> None:
        from openlum.prepare.run import prepare

        if _was_appended_to(out):
            raise InputError(
                f"{out}: logs were appended to it, and this would make it anew without them; "
                "move it away, or go on with single steps (lum pretrain ...)"
            )
        info = prepare(self.schema(), out)
        refused = sum(info.rejected.values())
        if refused or info.notes:
            told = [f"{refused:,} rows refused"] * bool(refused) + [f"{name}: {n:,}" for name, n in info.notes.items()]
            self.console.print(f"          {'; '.join(told)}; see {out / 'report.html'}", soft_wrap=True)

    def _pretrain(self, out: Path) -> None:
        from openlum.pretrain.train import pretrain

        pretrain(self.directory / "dataset", out, self.experiment.model, self.experiment.pretrain)

    def _query(self, out: Path) -> None:
        from openlum.query.bulk import query

        assert self.experiment.query is not None
        query(self.directory / "dataset", self.directory / "model", out, self.experiment.query)

    def _rank(self, out: Path) -> None:
        from openlum.rank.run import rank

        assert self.experiment.rank is not None
        knowledge, truth = self._knowledge_and_truth()
        rank(self.directory / "dataset", knowledge, out, self.experiment.rank, truth)

    def _knowledge_and_truth(self) -> tuple[Path | None, Path | None]:
        """What rankers are given beside the dataset, where there is such a thing."""
        truth = self.directory / "log" / "truth.parquet"
        return self.directory / "knowledge" if self.experiment.query else None, truth if truth.exists() else None

    def _retrieve(self, out: Path) -> None:
        from openlum.retrieve.evaluate import retrieve

        assert self.experiment.retrieve is not None
        retrieve(self.directory / "dataset", self.directory / "model", out, self.experiment.retrieve)


def run(config: Path, runs: Path, console: Console, from_dir: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Run an experiment file.

    Args:
        config: the experiment file.
        runs: the directory that holds runs/NAME.
        console: to print to.
        from_dir: the publisher's files of a public data set; otherwise they are downloaded.

    Returns:
        The content of `summary.json`, and the path of the report.

    Raises:
        InputError: something in the experiment file or the data is the user's to mend, or another process runs it.
    """
    from openlum.pipeline.summary import write_summary
    from openlum.report.run_report import write_report

    experiment = load_settings(config, Experiment)
    directory = runs / experiment.name
    with locked(directory), named_failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
        chain = Pipeline(experiment, config, directory, console, from_dir)
        chain.run()
        (directory / "config.resolved.yaml").write_text(dump_yaml(experiment.model_dump(mode="json")), encoding="utf-8")
        shutil.copyfile(directory / "model" / "metrics.jsonl", directory / "metrics.jsonl")
        _write_example(directory, experiment)
        summary = write_summary(directory, list(chain.steps), experiment.pretrain.seed)
        return summary, write_report(directory)


def _write_example(directory: Path, experiment: Experiment) -> None:
    from openlum.data.dataset import Dataset
    from openlum.model import LargeUserModel
    from openlum.pipeline.example import example_user

    model = LargeUserModel.load(directory / "model")
    write_json(directory / "example.json", example_user(model, Dataset(directory / "dataset"), experiment.example))


def _tables(schema: Path) -> list[Path]:
    """The files of all tables that a schema names."""
    from openlum.prepare.inputs.paths import find

    content = load_settings(schema, Schema)
    tables = content.events, content.items, content.users, content.impressions
    return [file for table in tables if table for file in find(schema.parent, table.path)]


def _was_appended_to(dataset: Path) -> bool:
    try:
        return int(read_json(dataset / "dataset.json", "lum prepare").get("preparations", 1)) > 1
    except (InputError, TypeError, ValueError):
        return False
