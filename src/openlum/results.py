"""The results of the last steps, as the functions of `openlum` return them: rankers, retrieval, and a whole run."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json
from openlum.artefact.parts import damaged
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.errors import InputError
from openlum.evaluation.methods import shown_metrics
from openlum.notebook import html_rows

if TYPE_CHECKING:
    from openlum.model.large_user_model import LargeUserModel
    from openlum.rank.rankers.contract import AnyRanker


class Ranking:
    """Trained rankers with their metrics and predictions on the test rows: the directory from `lum rank`.

    Args:
        path: the directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        check_parts(self.path, "ranker")
        self.metrics = read_json(self.path / "metrics.json", "lum rank", ["ranking", "comparisons"])
        """The content of `metrics.json`: `ranking`, `comparisons`, `calibration`, `segments` and the others of `summary.json`."""

    def __repr__(self) -> str:
        return f"Ranking({str(self.path)!r})"

    @property
    def names(self) -> list[str]:
        """Names of the rankers, such as `din` and `din+knowledge`."""
        return list(self.metrics["ranking"])

    @property
    def auc(self) -> dict[str, float]:
        """Ranker to its test AUC, the mean over the seeds."""
        return {name: float(metrics["auc"]["mean"]) for name, metrics in self.metrics["ranking"].items()}

    def ranker(self, name: str, seed: int = 0) -> "AnyRanker":
        """Return a trained ranker.

        Args:
            name: such as `din+knowledge`.
            seed: of its training.

        Raises:
            InputError: there is no such ranker.
        """
        from openlum.rank.rankers import load_ranker

        return load_ranker(self._file(name, seed, "", "safetensors"))

    def predictions(self, name: str, seed: int = 0) -> pa.Table:
        """Return the predictions of the test rows: `row`, `user`, `label` and `prediction`. Arguments as in `ranker`."""
        file = self._file(name, seed, "predictions", "parquet")
        try:
            return pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise damaged(file, f"cannot be read ({' '.join(str(error).split())})", "lum rank") from None

    def _file(self, name: str, seed: int, directory: str, ending: str) -> Path:
        file = self.path / directory / f"{name}-seed{seed}.{ending}"
        if name not in self.names or not file.exists():
            raise InputError(
                f"{self.path}: no ranker '{name}' with seed {seed}; the rankers are {', '.join(self.names)}"
            )
        return file

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        shown = shown_metrics(self.metrics["ranking"].values())
        rows = [
            [name, *(metrics[metric]["mean"] if metric in metrics else "" for metric in shown)]
            for name, metrics in self.metrics["ranking"].items()
        ]
        return html_rows("Rankers on the test rows", ["", *shown.values()], rows, self.path)


class Retrieval:
    """The retrieval metrics of every question: the directory from `lum retrieve`.

    Args:
        path: the directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        check_parts(self.path, "retrieval")
        content = read_json(self.path / "metrics.json", "lum retrieve", ["retrieval", "protocol"])
        self.metrics: dict[str, dict[str, float]] = content["retrieval"]
        """Question to metrics, such as `hr@10`."""
        self.protocol: dict[str, Any] = content["protocol"]
        """How the metrics were measured."""
        self.cold_items: dict[str, Any] | None = content.get("cold_items")
        """`cold_items` of `summary.json`: held-out items without a training event; None if there are none."""

    def __repr__(self) -> str:
        return f"Retrieval({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        names = list(next(iter(self.metrics.values()), {}))
        rows = [[question, *values.values()] for question, values in self.metrics.items()]
        return html_rows("Retrieval: the held-out item among all items", ["question", *names], rows, self.path)


class Run:
    """All results of an experiment: the directory from `lum run`.

    Args:
        path: the directory, runs/NAME.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("path", path)
        self.summary = read_json(self.path / "summary.json", "lum run")
        """The content of `summary.json`."""

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset."""
        return Dataset(self.path / "dataset")

    @cached_property
    def model(self) -> "LargeUserModel":
        """The Large User Model, on the CPU."""
        from openlum.model.large_user_model import LargeUserModel

        return LargeUserModel.load(self.path / "model")

    @cached_property
    def knowledge(self) -> Knowledge | None:
        """The knowledge; None if the experiment has no step 2."""
        return Knowledge(self.path / "knowledge") if "query" in self.summary else None

    @cached_property
    def ranking(self) -> Ranking | None:
        """The rankers; None if the experiment has no step 3."""
        return Ranking(self.path / "ranker") if "ranking" in self.summary else None

    @cached_property
    def retrieval(self) -> Retrieval | None:
        """The retrieval metrics; None if the experiment has no retrieval evaluation."""
        return Retrieval(self.path / "retrieval") if "retrieval" in self.summary else None

    def _repr_html_(self) -> str:
        """Return the tables of the run for a notebook."""
        parts = [self.dataset, self.ranking, self.retrieval]
        return "".join(part._repr_html_() for part in parts if part is not None)
