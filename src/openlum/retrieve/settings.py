"""Settings of retrieval: of its evaluation, and of the next-item models that it is compared with."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from openlum.config import PlannedSettings, Question, Settings
from openlum.errors import InputError
from openlum.model.item_filter import ItemFilter
from openlum.model.settings import ModelSettings
from openlum.schema import Holdout

BaselineName = Literal["popularity", "recent popularity", "repeat last", "item-kNN", "EASE"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
"""Names of the baselines in retrieval tables."""
POPULARITY, RECENT_POPULARITY, REPEAT, ITEM_KNN, EASE = BASELINES
DEFAULT_EASE_ITEMS, MAX_EASE_ITEMS = 5_000, 20_000
"""EASE inverts a matrix of items by items for each penalty. By default, it is left out above the first number of items. With the
second number, it takes many minutes and 5 GB."""


class RetrieveSettings(Settings):
    """Settings of `lum retrieve`."""

    questions: dict[str, Question] = Field(default={"any": {}}, min_length=1, max_length=1000)
    """Name to question: condition fields and their raw values. Fields that a question does not name are *any*. By default, one
    question names no field, and where `holdout` of the schema names the feedback of the events that are held out, one more
    question asks for each of these values."""
    known: dict[str, list[str]] = {}
    """Further questions: name to condition fields. Their values come from the held-out event. These questions have more
    information than the history, so their metrics are reported separately. Feedback fields cannot be named here."""
    filters: dict[str, ItemFilter] = {}
    """Name of a question of `questions` or `known` to the items that it may find, such as `{any: {where: {in_stock: true}}}`. A
    held-out item that the filter leaves out counts as not found."""
    baselines: list[BaselineName] = list(BASELINES)
    """Baselines that are evaluated beside the questions. By default all, but `EASE` only up to 5,000 items; if it is named, up to
    20,000. `repeat last` is left out where items of the history are excluded from the ranking."""
    at: list[Annotated[int, Field(ge=1, le=10**9)]] = Field(default=[10, 50, 200], min_length=1, max_length=100)
    """Cut-offs of HR and NDCG."""
    exclude_seen: bool | None = None
    """Whether items of the user's history are excluded from the ranking (the held-out item never is). By default, they are
    excluded if fewer than 5 % of the validation events repeat an item of the history."""
    batch_users: int = Field(256, ge=1, le=1_000_000)
    """Number of users per batch."""

    @model_validator(mode="after")
    def _check_no_duplicates(self) -> "RetrieveSettings":
        for name in (*self.questions, *self.known):
            if name in BASELINES:
                raise ValueError(f"'{name}' is the name of a baseline; give the question another name")
        duplicates = sorted(set(self.questions) & set(self.known))
        if duplicates:
            raise ValueError(
                f"'{duplicates[0]}' is a name in both 'questions' and 'known'; give it another name in one of them"
            )
        for key in ("at", "baselines"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: duplicate in {values}; list every value once")
        return self


def chosen_baselines(settings: RetrieveSettings, items: int) -> list[BaselineName]:
    """Return the baselines for a catalogue of V items. The default leaves out `EASE` where there are too many.

    Raises:
        InputError: the caller named `EASE`, and there are too many items.
    """
    is_default = "baselines" not in settings.model_fields_set
    if items - 1 <= (DEFAULT_EASE_ITEMS if is_default else MAX_EASE_ITEMS) or EASE not in settings.baselines:
        return settings.baselines
    if is_default:
        return [name for name in settings.baselines if name != EASE]
    raise InputError(
        f"retrieve.baselines: '{EASE}' inverts a matrix of items by items, so it is limited to {MAX_EASE_ITEMS:,} items; the "
        f"log has {items - 1:,}; leave it out"
    )


def with_default_questions(settings: RetrieveSettings, holdout: Holdout | None) -> RetrieveSettings:
    """Return the settings; where the caller gave no questions, with one for each value of the events that are held out."""
    if holdout is None or "questions" in settings.model_fields_set:
        return settings
    questions: dict[str, Question] = {str(value): {holdout.field: value} for value in holdout.values}
    return settings.model_copy(update={"questions": settings.questions | questions})


class SequentialSettings(PlannedSettings):
    """Settings of a next-item model and of its training. A key that is `auto` is planned from the log and the device."""

    planned_keys: ClassVar[frozenset[str]] = frozenset({"epochs", "batch_events", "learning_rate", "patience"})
    model: ModelSettings = ModelSettings()
    """Shape; `model.encoder` selects `transformer` (SASRec) or `hstu`."""
    epochs: int = Field(30, ge=1, le=1_000_000)
    """Largest number of passes over the events. `auto`: from the number of steps that a log of this size needs."""
    batch_events: int = Field(2048, ge=16, le=10**8)
    """Number of events in a training step. `auto`: from the number of training events."""
    buffer_events: int = Field(2**21, ge=1, le=10**12)
    """Events of the shards of the dataset that are in memory at a time. A batch has users of these shards only."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW: linear warm-up over 200 steps, then a cosine down to a tenth. `auto`: from the width."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Weight decay."""
    patience: int = Field(3, ge=1, le=1_000_000)
    """Training stops after this many epochs without a better NDCG@10 on the validation events. The weights of the best epoch are
    kept. `auto`: from `epochs`."""
