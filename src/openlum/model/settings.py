"""The settings and the configuration of a Large User Model."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from openlum.artefact.manifest import FORMAT
from openlum.config import PlannedSettings, Settings
from openlum.data.packing import Protocol
from openlum.field_spec import FieldSpec, TimeField
from openlum.model.encoders import EncoderName

TAKEN = FieldSpec(name="taken", type="categorical", size=3)
"""The feedback that is predicted if a log has no feedback field: whether the user took the item (`yes`). The items of
`no` are those that other users took in the same days and, if the log has impressions, those that were shown to the user."""
TAKEN_VALUES = ["no", "yes"]


def feedback_targets(condition: list[FieldSpec]) -> list[FieldSpec]:
    """Return the fields whose values are predicted for an item: the categorical feedback fields, or `TAKEN` if there are none."""
    return _feedback_fields(condition) or [TAKEN]


def content_fields(item: list[FieldSpec], condition: list[FieldSpec]) -> list[str]:
    """Return the names of the item fields by whose vectors items are compared; none if the log has feedback.

    Where a user's events are of every kind, a candidate like them may be one that the user dislikes.
    """
    return [] if _feedback_fields(condition) else [spec.name for spec in item if spec.type == "vector"]


def _feedback_fields(condition: list[FieldSpec]) -> list[FieldSpec]:
    return [spec for spec in condition if spec.feedback and spec.type == "categorical"]


def check_heads(width: int, heads: int) -> None:
    """Raise an error if the width of a head is not an even number: rotary positions rotate pairs of its numbers.

    Raises:
        ValueError: if `width` is not a multiple of twice `heads`.
    """
    if width % (2 * heads):
        raise ValueError(f"width ({width}) must be a multiple of twice heads ({heads})")


class ModelSettings(PlannedSettings):
    """Hyperparameters of the model. A key that is `auto` is planned from the log when the training starts."""

    planned_keys: ClassVar[frozenset[str]] = frozenset(
        {"size", "width", "layers", "heads", "embedding_width", "dropout"}
    )

    encoder: EncoderName = "transformer"
    """Architecture of the user encoder's blocks: `transformer`, `hstu`, or an encoder of an installed package (entry points of
    the group `openlum.encoders`)."""
    conditions: bool = True
    """Whether the model reads the condition fields. Without them, it is a next-item model: the condition of a question does not
    change the answer."""
    size: int | None = Field(None, ge=100, le=10**12)
    """Number of parameters of the user encoder, without embeddings. Layers, width, heads, embedding width and learning rate
    follow from it, unless they are set. From 20,000 on, the shape meets it to a few percent. `auto`: from the number of training
    events."""
    width: int = Field(64, ge=8, le=65_536)
    """D: width of the user encoder. `auto`: from `size`."""
    layers: int = Field(2, ge=1, le=1000)
    """Number of blocks of the user encoder. `auto`: from `size`."""
    heads: int = Field(4, ge=1, le=4096)
    """Number of attention heads. `width` must be a multiple of twice this number. `auto`: from `width`."""
    embedding_width: int = Field(64, ge=4, le=65_536)
    """E: width of item embeddings and answers. `auto`: from `width`."""
    field_width: int = Field(16, ge=1, le=65_536)
    """Width of one field's embedding, before the fields are projected to one vector. An item id has `embedding_width`."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on the residual branches. `auto`: from the number of training events."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability that an item's id is hidden in a training step, if items have fields. Above 0, an untrained item (one without
    training events) is encoded from its fields only. With 0, its embedding also contains the random initial embedding of its id,
    changed by the steps in which it was a negative."""
    max_events: int = Field(256, ge=2, le=1_000_000)
    """Maximum number of a user's most recent events that an answer uses."""
    learned_questions: int = Field(8, ge=1, le=1000)
    """Number of learned questions. Their answers, and those of *any* and of each feedback value, are the user vectors that the
    matching head reads."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelSettings":
        if not (self.is_auto("width") or self.is_auto("heads")):
            check_heads(self.width, self.heads)
        return self


class ModelConfig(Settings):
    """The content of a saved model's `config.json`: the settings, and the fields of the dataset that the model was built for."""

    format: int = FORMAT
    """Version of the layout of a saved model."""
    settings: ModelSettings
    """Hyperparameters."""
    condition: list[FieldSpec]
    """Condition fields, time fields last."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    items: int
    """V: number of items, including item 0 (unknown)."""
    time_fields: list[TimeField] = []
    """Condition fields that are computed from the time."""
    gap_unit: Literal["s", "h", "d"] = "s"
    """Unit of the condition field `gap`."""
    protocol: Protocol = "both"
    """Events that were held out of training."""
    fingerprint: str = ""
    """Fingerprint of the dataset and the settings that the model was trained with."""
    initialised_from: str = ""
    """Fingerprint of the model whose weights the training started from, or empty."""
    trained_on_feedback: bool = True
    """Whether the model was trained to predict the feedback to an item."""
    valid_time: int | None = None
    """First second of the validation period, which the protocols `time` and `both` hold out of training."""

    @field_validator("settings")
    @classmethod
    def _has_numbers(cls, settings: ModelSettings) -> ModelSettings:
        """Return the settings with all keys set: a model has numbers, and never `auto`."""
        check_heads(settings.width, settings.heads)
        return settings.with_plan({})

    @property
    def feedback(self) -> list[FieldSpec]:
        """The categorical feedback fields, whose values `feedback_contrast_loss` contrasts."""
        return _feedback_fields(self.condition)

    @property
    def context(self) -> list[FieldSpec]:
        """The condition fields that predictions of feedback read. They are known before the item."""
        fields = self.condition if self.settings.conditions else []
        if self.feedback:
            return [spec for spec in fields if not spec.feedback]
        return [spec for spec in fields if spec.name in self.time_fields]  # `Network.feedback_condition` says why

    @property
    def feedback_targets(self) -> list[FieldSpec]:
        """The fields whose values the model has heads to predict."""
        return feedback_targets(self.condition)

    @property
    def content_fields(self) -> list[str]:
        """The item fields by whose vectors items are compared with a user's last items; see `model/content.py`."""
        return content_fields(self.item, self.condition)

    @property
    def trained_feedback_targets(self) -> list[FieldSpec]:
        """`feedback_targets` if the model was trained to predict feedback, otherwise an empty list."""
        return self.feedback_targets if self.trained_on_feedback else []
