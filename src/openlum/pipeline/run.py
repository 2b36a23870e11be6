"""The pipeline of one experiment file. Its steps exchange data only through the directories that they read and write."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from openlum.artefact.checksums import load_checksums, save_checksums
from openlum.artefact.json_file import named_failures, read_json, write_json
from openlum.artefact.keys import Step, rerun_reason, step_key
from openlum.artefact.lock import locked
from openlum.artefact.manifest import record_key
from openlum.config import load_settings
from openlum.errors import InputError
from openlum.pipeline.experiment import Experiment
from openlum.rank.registry import RANKERS
from openlum.rank.settings import RankSettings
from openlum.schema import Schema
from openlum.sources.public import module_of
from openlum.yaml_file import dump_yaml

CHECKSUMS = ".checksums.json"
"""File in the directory of a run with the last checksums of its files, so that a run does not read large files again."""


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
    """Directory with the publisher's files of a public data set; None to download them."""

    def __post_init__(self) -> None:
        self.steps: list[Step] = []
        """Names of the steps that were run or skipped, in order."""
        load_checksums(self.directory / CHECKSUMS)

    def step(
        self,
        name: Step,
        artefact: str,
        inputs: Mapping[str, Path | Sequence[Path]],
        settings: Any,
        work: Callable[[Path], Any],
        entry: Sequence[str] | None = None,
    ) -> None:
        """Run a step, or skip it if its artefact is up to date with the current inputs, settings and code.

        Args:
            name: name of the step.
            artefact: name of the artefact's directory in the experiment's directory.
            inputs: name to the artefact or the files that the step reads.
            settings: everything else that the result depends on.
            work: writes the artefact to the path that it is called with.
            entry: the modules that the step begins in; by default those of `step_key`.
        """
        self.steps.append(name)
        out, key = self.directory / artefact, step_key(name, settings, inputs, entry)
        reason = rerun_reason(out, key)
        save_checksums(self.directory / CHECKSUMS)
        if reason is None:
            self.console.print(f"{name:9} unchanged, skipped: {out}", style="dim", soft_wrap=True)
            return
        suffix = (f" ({reason})", "dim") if reason else ""
        self.console.print(Text.assemble((f"{name:9}", "bold"), f" {out}", suffix), soft_wrap=True)
        work(out)
        record_key(out, key)

    def schema(self) -> Path:
        """Return the path of the log's schema: `data.schema_file`, or the schema that the data step writes."""
        if self.experiment.data.schema_file:
            return self.config.parent / self.experiment.data.schema_file
        return self.directory / "log" / "schema.yaml"

    def dataset(self) -> None:
        """Run the steps that write the log and the dataset."""
        inputs: dict[str, Path | Sequence[Path]] = {"log": self.directory / "log"}
        if self.experiment.data.schema_file is None:
            entry = [module_of(self.experiment.data.public)] if self.experiment.data.public else None
            self.step("data", "log", {}, self.experiment.data.model_dump(), self._write_log, entry)
        else:
            inputs = {"schema": self.schema(), "tables": _tables(self.schema())}
        self.step("prepare", "dataset", inputs, None, self._prepare)

    def run(self) -> None:
        """Run all steps, in order."""
        experiment = self.experiment
        self.dataset()
        self.check_before_training()
        dataset, model = self.directory / "dataset", self.directory / "model"
        pretraining = [experiment.model.model_dump(), experiment.pretrain.model_dump()]
        self.step("pretrain", "model", {"dataset": dataset}, pretraining, self._pretrain)
        dataset_and_model = {"dataset": dataset, "model": model}
        if experiment.query:
            self.step("query", "knowledge", dataset_and_model, experiment.query.model_dump(), self._query)
        if experiment.rank:
            knowledge, truth = self._knowledge_and_truth()
            paths = {"dataset": dataset, "knowledge": knowledge, "truth": truth}
            inputs = {name: path for name, path in paths.items() if path}
            settings = experiment.rank.model_dump() | RANKERS.sources(experiment.rank.rankers)
            self.step("rank", "ranker", inputs, settings, self._rank)
        if experiment.retrieve:
            self.step("retrieve", "retrieval", dataset_and_model, experiment.retrieve.model_dump(), self._retrieve)

    def check_before_training(self, rankings: Sequence[RankSettings] = (), directory: Path | None = None) -> None:
        """Check the settings of all steps after the dataset, before the first training.

        Args:
            rankings: further settings that rankers will be trained with, besides the experiment's own.
            directory: the directory of the model and the later artefacts; by default the experiment's directory.

        Raises:
            InputError: a step would fail. The message names the experiment file and the key, the directory or the part of the
                dataset.
        """
        from openlum.data.dataset import Dataset
        from openlum.pipeline.checks import check_before_training

        experiment = self.experiment
        try:
            check_before_training(
                Dataset(self.directory / "dataset"),
                directory or self.directory,
                experiment.model,
                experiment.pretrain,
                experiment.query,
                [*([experiment.rank] if experiment.rank else []), *rankings],
                experiment.retrieve,
                experiment.example,
            )
        except InputError as error:
            raise InputError(f"{self.config}: {error}") from None

    # The modules of a step are imported when it runs: a skipped step costs no import.

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
                f"{out}: 'lum prepare' has added new files to this dataset, and 'lum run' would write it again without them; "
                "move the dataset to another directory, or continue with single steps (lum pretrain ...)"
            )
        info = prepare(self.schema(), out)
        rejected = sum(info.rejected.values())
        if rejected or info.notes:
            parts = [f"{rejected:,} rows rejected"] * bool(rejected)
            parts += [f"{note}: {rows:,}" for note, rows in info.notes.items()]
            self.console.print(f"          {'; '.join(parts)}; see {out / 'report.html'}", soft_wrap=True)

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
        """Return the paths of the knowledge and of a simulation's true click probabilities; None for each that is missing."""
        truth = self.directory / "log" / "truth.parquet"
        return self.directory / "knowledge" if self.experiment.query else None, truth if truth.exists() else None

    def _retrieve(self, out: Path) -> None:
        from openlum.retrieve.evaluate import retrieve

        assert self.experiment.retrieve is not None
        retrieve(self.directory / "dataset", self.directory / "model", out, self.experiment.retrieve)


def run(
    config: Path | Experiment, runs: Path, console: Console, from_dir: Path | None = None, overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], Path]:
    """Run all steps of an experiment file and write its summary and report.

    Args:
        config: the experiment file; or an experiment, whose paths are relative to the working directory.
        runs: the directory that gets the directory NAME of the experiment.
        console: the console that shows the progress.
        from_dir: directory with the publisher's files of a public data set; None to download them.
        overrides: changes of the experiment file, `KEY=VALUE` each, such as `pretrain.epochs=3`.

    Returns:
        The content of `summary.json`, and the path of the report.

    Raises:
        InputError: the experiment file or the data have a mistake, or another process runs the experiment.
    """
    from openlum.pipeline.summary import write_summary
    from openlum.report.run_report import write_report

    if isinstance(config, Experiment):
        experiment, config = config, Path("experiment")
    else:
        experiment = load_settings(config, Experiment, overrides)
    directory = runs / experiment.name
    with locked(directory), named_failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
        pipeline = Pipeline(experiment, config, directory, console, from_dir)
        pipeline.run()
        (directory / "config.resolved.yaml").write_text(dump_yaml(experiment.model_dump(mode="json")), encoding="utf-8")
        shutil.copyfile(directory / "model" / "metrics.jsonl", directory / "metrics.jsonl")
        _write_example(directory, experiment)
        summary = write_summary(directory, list(pipeline.steps), experiment.pretrain.seed)
        return summary, write_report(directory)


def _write_example(directory: Path, experiment: Experiment) -> None:
    from openlum.data.dataset import Dataset
    from openlum.model import LargeUserModel
    from openlum.pipeline.example import example_user

    model = LargeUserModel.load(directory / "model")
    write_json(directory / "example.json", example_user(model, Dataset(directory / "dataset"), experiment.example))


def _tables(schema: Path) -> list[Path]:
    """Return the files of all tables of a schema."""
    from openlum.prepare.inputs.paths import find_files_of_schema

    content = load_settings(schema, Schema)
    tables = content.events, content.items, content.users, content.impressions
    return [file for table in tables if table for file in find_files_of_schema(schema.parent, table.path)]


def _was_appended_to(dataset: Path) -> bool:
    try:
        return int(read_json(dataset / "dataset.json", "lum prepare").get("preparations", 1)) > 1
    except (InputError, TypeError, ValueError):
        return False
