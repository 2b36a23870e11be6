"""Settings of rankers and of their training."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from openlum.config import PlannedSettings, RawValue, Settings, parse_settings
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model.settings import check_heads
from openlum.rank.registry import RANKERS, RankerName

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Tier = Literal["nightly", "fresh", "live"]
"""A tier of knowledge, by what must run when a request arrives."""


class KnowledgeSettings(Settings):
    """How knowledge enters a ranker."""

    tier: Tier = "fresh"
    """Which knowledge a ranker reads, by what must run when a request arrives. `nightly` and `fresh`: the predictions of the
    matching head, from user vectors of the night before, or of the moment of the row. `live`: similarities and feedback
    predictions of the user encoder, which answers questions about each row at its moment.
    early: the answers of a tier are inputs too. `fresh` has those of questions without `$row`, `nightly` has none."""
    fusion: Literal["late", "early"] = "late"
    """`late`: the ranker is trained without knowledge. A logistic regression then joins its logit with similarities and feedback
    logits, fitted on the validation rows, which the Large User Model has not learned. Use it
    if the Large User Model was trained for several epochs on the period of the ranker's training rows.
    Where the gain is not clear on these rows, the predictions stay those without knowledge (see `keep`).
    `early`: knowledge is an input of the ranker, as in the paper. Use it if the training rows are later than that period."""
    keep: Literal["auc", "logloss", "always"] = "auc"
    """late: the metric that must gain on the validation rows, beyond its error, for knowledge to be used. Otherwise the ranker's
    predictions stay exactly as they are without knowledge. `always`: knowledge is used in any case."""
    joining: Literal["linear", "trees"] = "linear"
    """late: how knowledge joins the logit. `linear`: a logistic regression. `trees`: small trees on top (LightGBM), for effects
    that are not linear, such as knowledge that counts more where the ranker is unsure. They need many validation rows."""
    direct: bool = True
    """early: whether the answers and the target item's embedding are inputs (trees read no vectors)."""
    direct_questions: list[str] | None = Field(None, min_length=1)
    """early: the questions whose answers are inputs; by default all of the tier. Fewer questions need less memory. The name of a
    question that stands for several, NAME.VALUE, means all of them."""
    matching: bool = True
    """Whether the scores of the tier are inputs: similarities of answers and target item, and feedback logits."""
    matching_questions: list[str] | None = Field(None, min_length=1)
    """The questions and feedback predictions whose similarities and feedback logits are inputs; by default all of the tier.
    Names are as in `direct_questions`."""
    width: int = Field(32, ge=1, le=65_536)
    """early: width of the projected answers."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """early: dropout of the projected answers."""

    @property
    def late_fusion(self) -> bool:
        """Whether knowledge joins the logit of a ranker that was trained without it."""
        return self.fusion == "late"

    @property
    def answers(self) -> list[str] | None:
        """The questions whose answers are inputs; None for all."""
        return self.direct_questions if self.direct and not self.late_fusion else []

    @model_validator(mode="after")
    def _check_inputs(self) -> "KnowledgeSettings":
        if not self.late_fusion:
            return self._check_early_inputs()
        if not self.matching:
            raise ValueError("fusion 'late' needs similarities: set matching to true, or fusion to 'early'")
        for name in ("direct", "direct_questions", "width", "dropout"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"fusion 'late' does not read '{name}': leave it out, or set fusion to 'early'")
        return self

    def _check_early_inputs(self) -> "KnowledgeSettings":
        for name in ("keep", "joining"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"fusion 'early' does not read '{name}': leave it out, or set fusion to 'late'")
        if not self.direct and not self.matching:
            raise ValueError("no knowledge would be an input: set direct or matching to true")
        for switch, questions in (("direct", self.direct_questions), ("matching", self.matching_questions)):
            if questions is not None and not getattr(self, switch):
                raise ValueError(f"{switch} is false, so '{switch}_questions' is not read: leave it out")
        return self


class SequenceSettings(PlannedSettings):
    """The generative rankers: an item and an action token per event, the label's probability at the item (Zhai et al. 2024)."""

    planned_keys: ClassVar[frozenset[str]] = frozenset({"batch_events"})

    width: int = Field(64, ge=8, le=65_536)
    """Width of the transformer; a multiple of twice `heads`."""
    layers: int = Field(2, ge=1, le=1000)
    """Number of blocks."""
    heads: int = Field(4, ge=1, le=4096)
    """Number of attention heads."""
    max_events: int = Field(256, ge=2, le=1_000_000)
    """Largest number of past events that a row sees. Windows overlap, so a row sees at least half as many, if the user has
    them."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout on the residual branches."""
    batch_events: int = Field(2048, ge=16, le=10**8)
    """Number of events in a training step; a row counts as half an event. `auto`: from the number of events."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW; it falls to a tenth over `rank.max_epochs`."""

    @model_validator(mode="after")
    def _check_heads(self) -> "SequenceSettings":
        check_heads(self.width, self.heads)
        return self


class TreeSettings(PlannedSettings):
    """`lightgbm`: gradient-boosted trees on hand-made features: the row's fields, and counts, feedback shares and recencies of
    earlier events of the user, of the item, of the user with the item, and of the user with each value of the item's fields."""

    planned_keys: ClassVar[frozenset[str]] = frozenset({"leaves", "min_rows"})

    learning_rate: float = Field(0.05, gt=0, le=10)
    """Shrinkage of each tree."""
    leaves: int = Field(63, ge=2, le=131_072)
    """Largest number of leaves of a tree. `auto`: from the number of training rows."""
    min_rows: int = Field(100, ge=1, le=10**9)
    """Fewest training rows in a leaf. `auto`: from the number of training rows."""
    rounds: int = Field(1000, ge=1, le=1_000_000)
    """Largest number of trees. Training stops earlier if the validation AUC has not risen for 50 trees."""


class RankSettings(PlannedSettings):
    """Settings of `lum rank`. A key that is `auto` is planned from the number of training rows."""

    planned_keys: ClassVar[frozenset[str]] = frozenset({"batch_size", "learning_rate", "max_epochs", "patience"})

    rankers: list[RankerName] = Field(default=["dnn", "din"], min_length=1)
    """`dnn` (embeddings and an MLP, no history), `dcnv2` (feature crosses), `din` (target attention over the history), `dien`
    (interest evolution), `sim` (search in the long history), `lightgbm` (trees), and the generative `sasrec` and `hstu`.
    Installed packages can add rankers (entry points of the group `openlum.rankers`)."""
    seeds: list[Seed] = Field(default=[0, 1, 2], min_length=1, max_length=1000)
    """Every ranker is trained once per seed."""
    embedding_width: int = Field(16, ge=1, le=65_536)
    """Width of one field's embedding."""
    item_width: int = Field(32, ge=1, le=65_536)
    """Width of an item vector, made of all its fields: the query and the keys of target attention."""
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(default=[128, 64], min_length=1, max_length=100)
    """Widths of the MLP's hidden layers."""
    attention_hidden: int = Field(32, ge=1, le=65_536)
    """Width of the attention unit's hidden layer."""
    cross_layers: int = Field(3, ge=1, le=100)
    """dcnv2: number of cross layers."""
    user_id: bool = True
    """dnn, dcnv2, din, dien, sim: whether the user id is a feature. It has no information on users without training rows."""
    user_id_dropout: float = Field(0.5, ge=0, lt=1)
    """Probability that a training row's user id is hidden, so that the ranker also learns to predict without it."""
    item_id_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability that an item's id is hidden in training, if items have fields. Above 0, untrained items are represented by
    their fields alone. With 0, they are represented by their fields and by the random initial embedding of their id."""
    history_length: int = Field(50, ge=1, le=100_000)
    """din, dien: number of last behaviours that are read; sim: number of behaviours that its search returns."""
    long_history: int = Field(200, ge=1, le=100_000)
    """sim: number of last behaviours that it searches."""
    history_where: dict[str, list[RawValue]] | None = None
    """din, dien, sim: condition fields and raw values; an event is a behaviour if each field has one of its values. By default
    all events are behaviours."""
    item_activity: bool = True
    """Network rankers: whether they read the activity of the target item: its events in the last hour, day and week, its age, and
    the time since its last event, strictly before the row. Trees read the same counts in any case."""
    batch_size: int = Field(1024, ge=1, le=10**8)
    """Number of rows in a training step. `auto`: from the number of training rows."""
    buffer_rows: int = Field(2**22, ge=1, le=10**12)
    """Events and rows of the shards of the dataset that are in memory at a time, about 20 bytes each, and more if answers are
    inputs. A batch has rows of these shards only, in random order. Data with fewer events and rows are read once and kept."""
    learning_rate: float = Field(3e-3, gt=0, le=10)
    """Learning rate of AdamW. `auto`: from `batch_size`."""
    weight_decay: float = Field(1e-2, ge=0, le=100)
    """Weight decay of all parameters."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after the MLP's hidden layers."""
    max_epochs: int = Field(8, ge=1, le=1_000_000)
    """Largest number of passes over the training rows. `auto`: from the number of training rows."""
    patience: int = Field(2, ge=1, le=1_000_000)
    """Training stops after this many epochs without a better validation AUC. The weights of the best epoch are kept.
    `auto`: from `max_epochs`."""
    knowledge: KnowledgeSettings = KnowledgeSettings()
    """How knowledge enters a ranker."""
    controls: list[Literal["counters"]] = ["counters"]
    """What joins each ranker in place of knowledge, for comparison. `counters`: eight counters of the user, the item and the
    scenario before the row. They show how much of a gain comes from counting alone. [] for none."""
    trees: TreeSettings = TreeSettings()
    """Settings of `lightgbm`."""
    sequence: SequenceSettings = SequenceSettings()
    """Settings of `sasrec` and `hstu`."""
    options: dict[RankerName, dict[str, Any]] = {}
    """Settings of rankers of other packages: name of the ranker to the keys of its class `Options`."""

    def accepts_knowledge(self, architecture: str) -> bool:
        """Return whether knowledge can enter a ranker with these settings."""
        knowledge_input = RANKERS.load(architecture).knowledge_input
        if knowledge_input == "scores":
            return self.knowledge.matching
        return self.knowledge.late_fusion or knowledge_input == "vectors"

    def of_training(self, architecture: str, with_knowledge: bool) -> dict[str, Any]:
        """Return everything in these settings that the training of one ranker depends on, for a key."""
        unused = {"rankers", "seeds", "controls"} | (set() if with_knowledge else {"knowledge"})
        return self.model_dump(exclude=unused) | RANKERS.sources([architecture])

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        try:
            for name, values in options.items():
                kind = RANKERS.load(name).Options
                if kind is None:
                    raise InputError(f"the ranker '{name}' has no class 'Options'; leave its options out")
                parse_settings(values, kind, where=f"ranker '{name}'")
        except InputError as error:
            raise ValueError(str(error)) from None
        return options

    @field_validator("rankers", "seeds", "controls")
    @classmethod
    def _check_no_duplicates(cls, values: list[object]) -> list[object]:
        if len(set(values)) < len(values):
            raise ValueError(f"duplicate entry in {values}; list every entry once")
        return values

    @field_validator("history_where")
    @classmethod
    def _check_where_names_values(cls, where: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
        if where is not None and (not where or not all(where.values())):
            raise ValueError("give at least one condition field, and at least one value for each; or leave the key out")
        return where


class KnowledgeShape(Settings):
    """The parts of knowledge that a ranker reads."""

    answers: list[str]
    """Questions whose answers are inputs, in order."""
    similarities: list[str]
    """Questions whose similarities are inputs, and feedback predictions whose logits are inputs, in order."""
    probabilities: list[str] = []
    """late: feedback predictions whose probabilities are inputs too, in order."""
    width: int
    """E: width of an answer."""


class RankerConfig(Settings):
    """The configuration from which a ranker is built: the user's settings and the fields of the data."""

    architecture: RankerName
    """Which ranker."""
    settings: RankSettings
    """Hyperparameters that the user sets."""
    features: list[FieldSpec]
    """Fields of the row without the item's fields, named KIND.FIELD: user, condition and context."""
    item: list[FieldSpec]
    """Item fields, without the id."""
    behaviour: list[FieldSpec]
    """Condition fields of a behaviour in the history, feedback included."""
    items: int
    """V: rows of the item table, item 0 (unknown) included."""
    users: int
    """Rows of the user table, user 0 (unknown) included."""
    knowledge: KnowledgeShape | None = None
    """The knowledge that the ranker reads; None for a plain ranker."""

    @property
    def late_fusion(self) -> bool:
        """Whether knowledge joins the logit of a plain ranker."""
        return self.knowledge is not None and self.settings.knowledge.late_fusion

    @property
    def plain(self) -> "RankerConfig":
        """The same configuration without knowledge."""
        return self.model_copy(update={"knowledge": None})

    @property
    def history_length(self) -> int:
        """L: number of behaviours in a batch; 0 for rankers that read none."""
        return int(RANKERS.load(self.architecture).history_length(self.settings))

    @property
    def options(self) -> Any:
        """The options of a ranker of another package, as its class `Options`."""
        return RANKERS.load(self.architecture).Options.model_validate(self.settings.options.get(self.architecture, {}))
