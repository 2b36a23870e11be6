"""The shape of a Large User Model."""

from typing import Literal

from pydantic import Field, model_validator

from openlum.config import Settings
from openlum.data.packing import Protocol
from openlum.schema import FieldSpec, TimeField

TAKEN = FieldSpec(name="taken", type="categorical", size=3)
"""What items are judged by where a log has no feedback: did the user take this one, or another of those days?"""
TAKEN_VALUES = ["no", "yes"]


def feedback_targets_of(condition: list[FieldSpec]) -> list[FieldSpec]:
    """What items are judged by: the categorical feedback fields; where there are none, whether the user took the item."""
    return [spec for spec in condition if _told_by(spec)] or [TAKEN]


def _told_by(spec: FieldSpec) -> bool:
    return spec.feedback and spec.type == "categorical"


def check_heads(width: int, heads: int) -> None:
    """Rotary positions turn pairs of a head's numbers, so a head's width is even.

    Raises:
        ValueError: the width does not fit the heads.
    """
    if width % (2 * heads):
        raise ValueError(f"width ({width}) must be a multiple of twice heads ({heads})")


class ModelSettings(Settings):
    """What one chooses."""

    encoder: Literal["transformer", "hstu"] = "transformer"
    """Blocks of the user encoder."""
    conditions: bool = True
    """Whether condition fields are read. Without them it is a next-item model, whatever it is asked."""
    width: int = Field(64, ge=8, le=65_536)
    """D: width of the user encoder."""
    layers: int = Field(2, ge=1, le=1000)
    """Blocks of the user encoder."""
    heads: int = Field(4, ge=1, le=4096)
    """Attention heads; `width` must be a multiple of twice this."""
    embedding_width: int = Field(64, ge=4, le=65_536)
    """E: width of item embeddings and answers."""
    field_width: int = Field(16, ge=1, le=65_536)
    """Width of one field's embedding, before fields are joined; the item's id has `embedding_width`."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on the residual branches."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """Chance that an item's id is hidden in a step of training, where items have fields. Above 0, an item that training has not
    met is told by its fields alone; with 0 by the noise that its id began with, and by having been a negative."""
    max_events: int = Field(256, ge=2, le=1_000_000)
    """How many events back an answer looks."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelSettings":
        check_heads(self.width, self.heads)
        return self


class ModelConfig(Settings):
    """What `config.json` of a saved model holds: the settings, and the fields of the data it was made for."""

    settings: ModelSettings
    """What one chose."""
    condition: list[FieldSpec]
    """Condition fields, time fields last."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    items: int
    """V: rows of the item table, item 0 (unknown) included."""
    time_fields: list[TimeField] = []
    """Which condition fields come from the time."""
    gap_unit: Literal["s", "h", "d"] = "s"
    """Unit in which the gap is counted."""
    protocol: Protocol = "both"
    """What was kept from training."""
    fingerprint: str = ""
    """Of the dataset and the settings that it was trained with."""
    initialised_from: str = ""
    """Fingerprint of the model whose weights it began with."""
    trained_on_feedback: bool = True
    """Whether it was trained on questions about items."""
    valid_time: int | None = None
    """First second of the validation period, which the protocols `time` and `both` keep from training."""

    @property
    def feedback(self) -> list[FieldSpec]:
        """The categorical feedback fields: those that the second direction of the loss is trained on."""
        return [spec for spec in self.condition if _told_by(spec)]

    @property
    def feedback_targets(self) -> list[FieldSpec]:
        """What it has heads to judge items by."""
        return feedback_targets_of(self.condition)

    @property
    def trained_feedback_targets(self) -> list[FieldSpec]:
        """Those of `feedback_targets` that it has learned to use: all, or none."""
        return self.feedback_targets if self.trained_on_feedback else []
