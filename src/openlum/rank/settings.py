"""What a ranker is and how it is trained."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from openlum.config import Settings
from openlum.schema import FieldSpec

Architecture = Literal["dnn", "din"]


class KnowledgeSettings(Settings):
    """How knowledge enters a ranker. With both switched off, `+knowledge` rankers are the plain ones."""

    direct: bool = True
    """Whether the answers and the target item's embedding are inputs."""
    direct_questions: list[str] | None = None
    """Which answers are inputs, by question; by default all. Fewer save memory."""
    matching: bool = True
    """Whether the similarities of the answers to the target item are inputs (all questions)."""


class RankSettings(Settings):
    """Settings of `lum rank`."""

    rankers: list[Architecture] = Field(default=["dnn", "din"], min_length=1)
    """`dnn` (embeddings and an MLP, no history) and `din` (target attention over the history)."""
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    """Every ranker is trained once a seed."""
    embedding_width: int = Field(16, ge=1)
    """Width of one field's embedding."""
    item_width: int = Field(32, ge=1)
    """Width of an item, all its fields together: the query and the keys of target attention."""
    hidden: list[Annotated[int, Field(ge=1)]] = Field(default=[128, 64], min_length=1)
    """Widths of the MLP's hidden layers."""
    attention_hidden: int = Field(32, ge=1)
    """Width of the attention unit's hidden layer."""
    user_id: bool = True
    """Whether the user's id is a feature. It says nothing about users who come after training."""
    user_id_dropout: float = Field(0.5, ge=0, lt=1)
    """Chance that a training row's user id is hidden, so that the ranker also learns to do without it."""
    history_length: int = Field(50, ge=1)
    """din: how many behaviours back it looks."""
    history_where: dict[str, list[str]] | None = None
    """din: only events whose condition fields have one of these raw values are behaviours; by default all events."""
    batch_size: int = Field(1024, ge=1)
    """Rows in a step."""
    learning_rate: float = Field(3e-3, gt=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(1e-2, ge=0)
    """Weight decay of all parameters."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after the MLP's hidden layers."""
    max_epochs: int = Field(8, ge=1)
    """Passes over the training rows, if validation does not stop earlier."""
    patience: int = Field(2, ge=1)
    """Stop after this many epochs without a better validation AUC; the best epoch's weights are kept."""
    knowledge: KnowledgeSettings = KnowledgeSettings()
    """How knowledge enters."""

    @field_validator("rankers", "seeds")
    @classmethod
    def _each_once(cls, values: list[object]) -> list[object]:
        if len(set(values)) < len(values):
            raise ValueError(f"each may be named once only (found {values})")
        return values

    @field_validator("history_where")
    @classmethod
    def _names_values(cls, where: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        if where is not None and (not where or not all(where.values())):
            raise ValueError("give at least one condition field, and at least one value for each; or leave the key out")
        return where


class KnowledgeShape(Settings):
    """What knowledge a ranker takes."""

    answers: list[str]
    """Questions whose answers are inputs, in order."""
    similarities: list[str]
    """Questions whose similarities are inputs, in order."""
    width: int
    """E: width of an answer."""


class RankerConfig(Settings):
    """All that is needed to build a ranker: what one chose, and the fields of the data."""

    architecture: Architecture
    """Which ranker."""
    settings: RankSettings
    """What one chose."""
    features: list[FieldSpec]
    """Fields of the row besides the item, named KIND.FIELD: user, condition and context."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    behaviour: list[FieldSpec]
    """Condition fields of a behaviour in the history, feedback included."""
    items: int
    """V: rows of the item table, item 0 (unknown) included."""
    users: int
    """Rows of the user table, user 0 (unknown) included."""
    knowledge: KnowledgeShape | None = None
    """What knowledge it takes; none for a plain ranker."""
