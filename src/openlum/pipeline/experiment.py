"""Settings of an experiment file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field, model_validator

from openlum.config import Question, Settings, parse_settings, with_overrides
from openlum.model.settings import ModelSettings
from openlum.pretrain.settings import PretrainSettings
from openlum.query.settings import QuerySettings
from openlum.rank.settings import RankSettings
from openlum.retrieve.settings import RetrieveSettings
from openlum.sources.market.settings import MarketSettings
from openlum.sources.public import takes_negatives
from openlum.yaml_file import Document, read_yaml

S = TypeVar("S", bound=Settings)


class DataSettings(Settings):
    """Source of the log: exactly one of `market`, `public` and `schema_file`."""

    market: MarketSettings | None = None
    """Simulate a marketplace."""
    public: str | None = None
    """Name of a public data set, which is fetched as `lum data NAME` does."""
    partial: bool = False
    """public: accept fewer rows or files than the publisher states."""
    negatives: int | None = Field(None, ge=1, le=1000)
    """public, Amazon data sets only: rank each review among this many sampled negatives."""
    schema_file: str | None = None
    """Path of the schema of your own log, relative to the experiment file."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        if sum(source is not None for source in (self.market, self.public, self.schema_file)) != 1:
            raise ValueError("give exactly one of 'market', 'public' and 'schema_file'")
        if self.partial and self.public is None:
            raise ValueError("'partial' needs 'public'; leave 'partial' out")
        if self.negatives is not None and not takes_negatives(self.public or ""):
            raise ValueError(
                "'negatives' needs a public data set of Amazon, such as 'amazon-2014-Beauty_5'; leave it out"
            )
        return self


class Experiment(Settings):
    """Content of an experiment file."""

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    """Name of the experiment. Its results go to the directory runs/NAME."""
    data: DataSettings
    """Source of the log."""
    model: ModelSettings = ModelSettings()
    """Shape of the Large User Model."""
    pretrain: PretrainSettings = PretrainSettings()
    """Settings of step 1, knowledge construction."""
    query: QuerySettings | None = QuerySettings()
    """Settings of step 2, knowledge querying. With null there is no step 2, and the rankers get no knowledge."""
    rank: RankSettings | None = RankSettings()
    """Settings of step 3, knowledge utilization. With null no rankers are trained."""
    retrieve: RetrieveSettings | None = RetrieveSettings()
    """Settings of the retrieval evaluation. With null it is left out."""
    example: dict[str, Question] = {"any": {}}
    """Questions for the example user of the report: name to condition fields and raw values."""

    @model_validator(mode="after")
    def _test_events_are_held_out(self) -> "Experiment":
        if self.pretrain.protocol == "last" and (self.query or self.rank):
            raise ValueError(
                "pretrain.protocol 'last' trains on the test period of 'rank'; use 'both', or set query and rank to null"
            )
        if self.pretrain.protocol == "time" and self.retrieve:
            raise ValueError(
                "pretrain.protocol 'time' trains on the events that 'retrieve' holds out; use 'both', or set retrieve to null"
            )
        return self


class StepFile(Experiment):
    """Content of a file for single steps: an experiment file in which every section may be missing."""

    name: str | None = None  # type: ignore[assignment]
    """Name of the experiment, which single steps do not use."""
    data: DataSettings | None = None  # type: ignore[assignment]
    """Source of the log, which single steps do not use."""

    @model_validator(mode="after")
    def _test_events_are_held_out(self) -> "StepFile":
        """Return the settings: which events must be held out depends on the steps that are run."""
        return self


def step_settings(config: Path | None, section: str, kind: type[S], overrides: Sequence[str] = ()) -> S:
    """Return the settings of one step from an experiment file, or from a file with only some of its sections.

    Args:
        config: the file; None for the defaults.
        section: name of the section, such as `pretrain`.
        kind: the model of the section, whose defaults apply if the file has no such section.
        overrides: changes of the file's content, `KEY=VALUE` each, such as `pretrain.epochs=3`.

    Raises:
        InputError: the file or an override has a mistake.
    """
    document = with_overrides(read_yaml(config) if config else Document({}, {}), overrides)
    is_experiment = {"name", "data"} <= set(document.content)
    where = str(config) if config else "settings"
    content = parse_settings(document.content, Experiment if is_experiment else StepFile, where, document.lines)
    settings: S | None = getattr(content, section)
    return kind() if settings is None else settings
