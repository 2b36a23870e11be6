"""The settings of an experiment file."""

from pydantic import Field, model_validator

from openlum.config import Question, Settings
from openlum.model.settings import ModelSettings
from openlum.pretrain.settings import PretrainSettings
from openlum.query.settings import QuerySettings
from openlum.rank.settings import RankSettings
from openlum.retrieve.settings import RetrieveSettings
from openlum.sources.market.settings import MarketSettings
from openlum.sources.public import takes_negatives


class DataSettings(Settings):
    """Where the log comes from: one of these."""

    market: MarketSettings | None = None
    """Simulate a marketplace."""
    public: str | None = None
    """Fetch a public data set by name, as `lum data NAME` does."""
    partial: bool = False
    """public: accept fewer rows or files than were published."""
    negatives: int | None = Field(None, ge=1, le=1000)
    """public, a data set of Amazon: rank each review among so many sampled negatives."""
    schema_file: str | None = None
    """Your own log: its schema, relative to the experiment file."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        if sum(source is not None for source in (self.market, self.public, self.schema_file)) != 1:
            raise ValueError("give exactly one of 'market', 'public' and 'schema_file'")
        if self.partial and self.public is None:
            raise ValueError("'partial' is for 'public'")
        if self.negatives is not None and not takes_negatives(self.public or ""):
            raise ValueError(
                "'negatives' is for a public data set of Amazon, such as 'amazon-2014-Beauty_5'; leave it out"
            )
        return self


class Experiment(Settings):
    """An experiment file."""

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    """Names the directory runs/NAME."""
    data: DataSettings
    """The log."""
    model: ModelSettings = ModelSettings()
    """Shape of the Large User Model."""
    pretrain: PretrainSettings = PretrainSettings()
    """Step 1."""
    query: QuerySettings | None = QuerySettings()
    """Step 2; null leaves it and step 3's knowledge out."""
    rank: RankSettings | None = RankSettings()
    """Step 3; null leaves it out."""
    retrieve: RetrieveSettings | None = RetrieveSettings()
    """Retrieval; null leaves it out."""
    example: dict[str, Question] = {"any": {}}
    """Questions that the report asks an example user: name to condition fields and raw values."""

    @model_validator(mode="after")
    def _held_out_what_is_tested(self) -> "Experiment":
        if self.pretrain.protocol == "last" and (self.query or self.rank):
            raise ValueError(
                "pretrain.protocol 'last' trains on the test period of 'rank': use 'both', or null for query and rank"
            )
        if self.pretrain.protocol == "time" and self.retrieve:
            raise ValueError(
                "pretrain.protocol 'time' trains on what 'retrieve' holds out: use 'both', or null for retrieve"
            )
        return self
