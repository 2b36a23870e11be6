"""What a ranker is and how it is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from openlum.config import RawValue, Settings
from openlum.model.settings import check_heads
from openlum.schema import FieldSpec

Architecture = Literal["dnn", "dcnv2", "din", "dien", "sim", "lightgbm", "sasrec", "hstu"]
GENERATIVE: tuple[Architecture, ...] = ("sasrec", "hstu")
"""End-to-end generative rankers: they read the whole behaviour themselves, and knowledge can only join their logit."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class KnowledgeSettings(Settings):
    """How knowledge enters a ranker."""

    fusion: Literal["late", "early"] = "late"
    """`late`: the ranker learns without knowledge, and its logit, similarities and feedback predictions are weighed against each other on
    the validation rows, which the Large User Model has not learned from; for logs that it read many times. `early`: knowledge is
    an input of the ranker, as in the paper; for training rows that are later than what the model learned from."""
    direct: bool = True
    """early: whether the answers and the target item's embedding are inputs (trees take none)."""
    direct_questions: list[str] | None = Field(None, min_length=1)
    """early: which answers are inputs, by question; by default all. Fewer save memory."""
    matching: bool = True
    """Whether the similarities of the answers to the target item, and feedback predictions, are inputs."""
    matching_questions: list[str] | None = Field(None, min_length=1)
    """Which similarities and feedback predictions are inputs, by question; by default all."""
    width: int = Field(32, ge=1, le=65_536)
    """early: width that answers are projected to."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """early: dropout of the projected answers."""

    @property
    def late(self) -> bool:
        """Whether knowledge joins the logit of a ranker that learned without it."""
        return self.fusion == "late"

    @property
    def answers(self) -> list[str] | None:
        """The questions whose answers are inputs; none for all."""
        return self.direct_questions if self.direct and not self.late else []

    @model_validator(mode="after")
    def _late_takes_numbers(self) -> "KnowledgeSettings":
        if not self.late:
            return self._early_takes_something()
        if not self.matching:
            raise ValueError("fusion 'late' takes similarities: set matching to true, or fusion to 'early'")
        for name in ("direct", "direct_questions", "width", "dropout"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"fusion 'late' does not read '{name}': leave it out, or set fusion to 'early'")
        return self

    def _early_takes_something(self) -> "KnowledgeSettings":
        if not self.direct and not self.matching:
            raise ValueError("no knowledge would be an input: set direct or matching to true")
        for switch, questions in (("direct", self.direct_questions), ("matching", self.matching_questions)):
            if questions is not None and not getattr(self, switch):
                raise ValueError(f"{switch} is false, so '{switch}_questions' is not read: leave it out")
        return self


class SequenceSettings(Settings):
    """The generative rankers: tokens *item, action* of every event, the label's probability at the item (Zhai et al. 2024)."""

    width: int = Field(64, ge=8, le=65_536)
    """Width of the transformer; a multiple of twice `heads`."""
    layers: int = Field(2, ge=1, le=1000)
    """Blocks."""
    heads: int = Field(4, ge=1, le=4096)
    """Attention heads."""
    max_events: int = Field(256, ge=2, le=1_000_000)
    """How many events back they look at most; the last half of them at least, where there are as many: windows overlap."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on the residual branches."""
    batch_events: int = Field(2048, ge=16, le=10**8)
    """Events in a step; a row to be judged counts as half of one."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW; it falls to a tenth over `rank.max_epochs`."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "SequenceSettings":
        check_heads(self.width, self.heads)
        return self


class TreeSettings(Settings):
    """`lightgbm`: gradient-boosted trees on hand-made features."""

    learning_rate: float = Field(0.05, gt=0, le=10)
    """Shrinkage of each tree."""
    leaves: int = Field(63, ge=2, le=131_072)
    """Most leaves of a tree."""
    min_rows: int = Field(100, ge=1, le=10**9)
    """Fewest training rows in a leaf."""
    rounds: int = Field(1000, ge=1, le=1_000_000)
    """Most trees; fewer where the validation AUC has not risen for 50."""


class RankSettings(Settings):
    """Settings of `lum rank`."""

    rankers: list[Architecture] = Field(default=["dnn", "din"], min_length=1)
    """`dnn` (embeddings and an MLP, no history), `dcnv2` (crosses of features), `din` (target attention over the history), `dien`
    (interest as it evolves), `sim` (search in the long history), `lightgbm` (trees), and the generative `sasrec` and `hstu`."""
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=1000)
    """Every ranker is trained once a seed."""
    embedding_width: int = Field(16, ge=1, le=65_536)
    """Width of one field's embedding."""
    item_width: int = Field(32, ge=1, le=65_536)
    """Width of an item, all its fields together: the query and the keys of target attention."""
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(default=[128, 64], min_length=1, max_length=100)
    """Widths of the MLP's hidden layers."""
    attention_hidden: int = Field(32, ge=1, le=65_536)
    """Width of the attention unit's hidden layer."""
    cross_layers: int = Field(3, ge=1, le=100)
    """dcnv2: cross layers."""
    user_id: bool = True
    """dnn, dcnv2, din, dien, sim: whether the user's id is a feature. It says nothing about users who come after training."""
    user_id_dropout: float = Field(0.5, ge=0, lt=1)
    """Chance that a training row's user id is hidden, so that the ranker also learns to do without it."""
    item_id_dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that an item's id is hidden in training, where items have fields. Above 0, items that the ranker never met in
    training are told by their fields alone; with 0 by the noise that their ids began with, too."""
    history_length: int = Field(50, ge=1, le=100_000)
    """din, dien, sim: how many behaviours back they look, or for sim how many are found."""
    long_history: int = Field(200, ge=1, le=100_000)
    """sim: how many behaviours back it searches."""
    history_where: dict[str, list[RawValue]] | None = None
    """din, dien, sim: only events whose condition fields have one of these raw values are behaviours; by default all events."""
    batch_size: int = Field(1024, ge=1, le=10**8)
    """Rows in a step."""
    learning_rate: float = Field(3e-3, gt=0, le=10)
    """Learning rate of AdamW."""
    weight_decay: float = Field(1e-2, ge=0, le=100)
    """Weight decay of all parameters."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after the MLP's hidden layers."""
    max_epochs: int = Field(8, ge=1, le=1_000_000)
    """Passes over the training rows, if validation does not stop earlier."""
    patience: int = Field(2, ge=1, le=1_000_000)
    """Stop after this many epochs without a better validation AUC; the best epoch's weights are kept."""
    knowledge: KnowledgeSettings = KnowledgeSettings()
    """How knowledge enters."""
    trees: TreeSettings = TreeSettings()
    """Of `lightgbm`."""
    sequence: SequenceSettings = SequenceSettings()
    """Of `sasrec` and `hstu`."""

    def informs(self, architecture: Architecture) -> bool:
        """Whether knowledge can enter a ranker."""
        if architecture == "lightgbm":  # takes numbers only
            return self.knowledge.matching
        return self.knowledge.late or architecture not in GENERATIVE

    @field_validator("rankers", "seeds")
    @classmethod
    def _each_once(cls, values: list[object]) -> list[object]:
        if len(set(values)) < len(values):
            raise ValueError(f"each may be named once only (found {values})")
        return values

    @field_validator("history_where")
    @classmethod
    def _names_values(cls, where: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
        if where is not None and (not where or not all(where.values())):
            raise ValueError("give at least one condition field, and at least one value for each; or leave the key out")
        return where


class KnowledgeShape(Settings):
    """What knowledge a ranker takes."""

    answers: list[str]
    """Questions whose answers are inputs, in order."""
    similarities: list[str]
    """Questions whose similarities are inputs, and feedback predictions, in order."""
    probabilities: list[str] = []
    """late: those feedback predictions whose probabilities are inputs too, in order."""
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

    @property
    def late(self) -> bool:
        """Whether knowledge joins the logit of a plain ranker."""
        return self.knowledge is not None and self.settings.knowledge.late

    @property
    def plain(self) -> "RankerConfig":
        """The same ranker without knowledge."""
        return self.model_copy(update={"knowledge": None})

    @property
    def history_length(self) -> int:
        """L: behaviours in a batch; 0 for rankers that read none."""
        lengths = {"din": self.settings.history_length, "dien": self.settings.history_length}
        return (lengths | {"sim": self.settings.long_history}).get(self.architecture, 0)
