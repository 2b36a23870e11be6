"""The forms of knowledge, and the inputs of a query run, which every process of the run opens by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.shard import Shard, ShardedDataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.query.checks import KnowledgeSize
from openlum.query.earlier import EarlierKnowledge
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery
from openlum.query.user_ids import NOW
from openlum.query.users import UserQuery


class Form(Protocol):
    """A form of knowledge: what the rows are, and how a shard's rows are answered. `ShardQuery` and `UserQuery` are forms."""

    folder: str
    """The folder of the parts."""
    source: str
    """The folder of the dataset that has the rows."""
    model: LargeUserModel
    """The model that answers."""
    settings: QuerySettings
    rejected: pa.Table | None
    """Rows that the caller asked for and the dataset does not have."""

    @property
    def dataset(self) -> ShardedDataset:
        """The dataset that has the rows."""

    @property
    def items(self) -> Tensor:
        """(V, E) embeddings of the dataset's items."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""

    @property
    def total(self) -> int:
        """Number of rows of all shards."""

    def rows(self, shard: Shard) -> Any:
        """Return the rows of a shard, with `len` and `take(slice)`."""

    def tables(self, shard: Shard, rows: Any, /) -> Iterator[pa.Table]:
        """Yield the answers for some rows of a shard, batch by batch."""

    @property
    def questions(self) -> QuestionSet:
        """The questions about every row."""

    @property
    def earlier(self) -> EarlierKnowledge | None:
        """Knowledge that has some of the rows already."""

    @property
    def first_part(self) -> int:
        """Number of the first shard in the names of the parts."""

    @property
    def size(self) -> KnowledgeSize:
        """The approximate size of the knowledge."""

    def description(self) -> dict[str, Any]:
        """Return the keys of `knowledge.json` that follow from the inputs of the run."""

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run for its user."""


@dataclass(frozen=True)
class QueryRun:
    """The inputs of a query run. Its processes, which may run on several machines, share the file system."""

    dataset_dir: Path
    model_dir: Path
    settings: QuerySettings
    by_user: bool
    """Whether there is one row per user instead of one per impression."""
    user_ids: list[str] | None
    """Raw ids of the users; None for all."""
    as_of: Any
    """Time of knowledge per user, as in `as_of_second`; None for `now`."""
    answered: Path | None = None
    """Knowledge per impression whose rows are left out."""

    def open(self) -> Form:
        """Return the form with the dataset and the model.

        Raises:
            InputError: if the dataset, a question, the users or the time do not fit the model.
        """
        dataset = Dataset(self.dataset_dir)
        model = LargeUserModel.load(self.model_dir, default_device())
        model.check_compatible(dataset)
        if self.by_user:
            return UserQuery(model, dataset, self.settings, self.user_ids, NOW if self.as_of is None else self.as_of)
        if self.as_of is not None:
            raise InputError("as_of: is the time of knowledge per user; name users too, such as 'all'")
        _check_held_out(self.model_dir, model, dataset)
        earlier = EarlierKnowledge(self.answered) if self.answered else None
        return ShardQuery(model, dataset, self.settings, earlier=earlier)


def _check_held_out(model_dir: Path, model: LargeUserModel, dataset: Dataset) -> None:
    """Raise an error if the model was trained on events of the periods that rankers are validated and tested on."""
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on events of the test period; pretrain with pretrain.protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on events of the dataset's validation period; pretrain again")
