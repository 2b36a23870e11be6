"""The contract of all rankers."""

from typing import ClassVar, Literal, Protocol

import numpy as np
from torch import Tensor

from openlum.config import Settings
from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig, RankSettings


class AnyRanker(Protocol):
    """A ranker: it predicts probabilities of rows, and can be saved and loaded as tensors."""

    config: RankerConfig

    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the ranker learned."""
        ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the tensors that `tensors()` of a ranker with the same configuration returned; the ranker can then predict."""
        ...


class RankerDescription:
    """The description that the class of every registered ranker gives of itself.

    A class is built with a `RankerConfig` and fulfils `AnyRanker`. It is either a network (a subclass of `Ranker` or
    `GenerativeRanker`), which `openlum.rank.train` trains, or it has a method `fit(data, seed, step_done)` that returns the
    validation AUC after each training step that is kept, and calls `step_done(note)` after every step.
    """

    name: ClassVar[str]
    """The name in `rank.rankers`; the registry and the entry point have the same name."""
    knowledge_input: ClassVar[Literal["vectors", "scores", "none"]] = "vectors"
    """The knowledge that can be an input (early fusion): answers and scores, scores only, or none. Late fusion is always
    possible."""
    end_to_end: ClassVar[bool] = False
    """Whether the ranker reads whole histories itself. Benchmarks compare such rankers with rankers that read knowledge."""
    learning_rate_key: ClassVar[str] = "rank.learning_rate"
    """The key of the learning rate, for messages."""
    Options: ClassVar[type[Settings] | None] = None
    """The model of the ranker's own settings, which are in `rank.options.NAME` of a settings file; None if it has none."""

    @staticmethod
    def history_length(settings: RankSettings) -> int:
        """Return L, the number of last behaviours in a batch; 0 if the ranker reads none."""
        return 0

    @classmethod
    def check_requirements(cls) -> None:
        """Check that the libraries that the ranker needs are installed.

        Raises:
            InputError: a library is missing. The message names the command that installs it.
        """
