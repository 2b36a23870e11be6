"""Knowledge per user, as of one time: what a nightly job publishes.

The table has one row per user with the columns

- `user`: the id in the log;
- `as_of`: the time of the vectors and the answers. They use the events strictly before it;
- `last_event`: time of the user's last event before `as_of`; null if there is none;
- `events`: number of the user's events before `as_of`;
- `vectors`: the user vectors end to end, fixed_size_list<float16>[M E], each of unit length, or int8, each to be divided by its
  length;
- `answer.NAME` for each question that takes no value from an impression: fixed_size_list<float16>[E] or int8, likewise;
- `recent_items`, if items are compared by content (`model/content.py`): list<string>, raw ids of the user's last items before
  `as_of`, oldest first.

Shapes: U users, n users of a piece, M user vectors, G questions, E width of a vector, V items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from openlum.artefact.json_file import fingerprint
from openlum.data.dataset import Dataset
from openlum.data.packing import events_before
from openlum.data.sequences import Sequences
from openlum.data.shard import Shard
from openlum.errors import InputError
from openlum.model import LargeUserModel, Questions
from openlum.model.content import RECENT_BYTES
from openlum.query.answers import embed_items
from openlum.query.checks import KnowledgeSize, user_knowledge_size
from openlum.query.columns import vector_type, vectors
from openlum.query.content import RECENT_ITEMS, last_raw_items
from openlum.query.encoding import encoded_moments
from openlum.query.language import parse_question
from openlum.query.questions import question_set, take
from openlum.query.settings import QuerySettings
from openlum.query.user_ids import as_of_second, utc_text

TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class UserMoments:
    """Users as of a time."""

    user: np.ndarray
    """(n,) user ids."""
    prefix: np.ndarray
    """(n,) number of the user's events before the time."""
    last_event: np.ndarray
    """(n,) second of the last of these events; 0 if there is none."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: slice) -> "UserMoments":
        """Return the rows at `index`."""
        return UserMoments(self.user[index], self.prefix[index], self.last_event[index])


class UserQuery:
    """A query run that writes knowledge per user.

    Args:
        model: that answers.
        dataset: with the users.
        settings: with the questions. Those that take values from an impression are left out.
        user_ids: distinct raw ids; None for all users of the dataset.
        as_of: as in `as_of_second`.

    Raises:
        InputError: the dataset has none of the users, or no event lies before the time.
    """

    folder = "users"
    source = "sequences"
    earlier = None
    first_part = 0

    def __init__(
        self, model: LargeUserModel, dataset: Dataset, settings: QuerySettings, user_ids: list[str] | None, as_of: Any
    ) -> None:
        self.model, self.dataset, self.settings = model, dataset, settings
        self.asked = {
            name: question for name, question in settings.questions.items() if parse_question(question).is_fixed
        }
        """The questions that take no value from an impression, as in the settings."""
        question_set(model, settings.questions, dataset)  # an error also names the other questions
        self.questions = question_set(model, self.asked, dataset)
        self.vector_names = model.network.user_vector_names
        self.unknown_users: list[str] = []
        """The raw ids that the dataset does not have."""
        self._is_asked = self._asked_users(user_ids)  # by user id
        self.rejected = pa.table({"user": self.unknown_users}) if self.unknown_users else None
        without_events, period = self._is_asked.copy(), []
        for sequences in dataset.groups_of_sequences():
            without_events[sequences.user] = False
            if len(sequences.time):
                period += [int(sequences.time.min()), int(sequences.time.max())]
        self._without_events = np.flatnonzero(without_events)
        self.as_of = as_of_second(as_of, min(period), max(period))

    @cached_property
    def items(self) -> Tensor:
        """(V, E) embeddings of the dataset's items."""
        return embed_items(self.model, len(self.dataset.raw_ids("items")))

    @property
    def total(self) -> int:
        """U, the number of users."""
        return int(self._is_asked.sum())

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        width, dtype = self.model.config.settings.embedding_width, self.settings.dtype
        columns = [("user", pa.string()), ("as_of", TIME), ("last_event", TIME), ("events", pa.int64())]
        columns.append(("vectors", vector_type(dtype, len(self.vector_names) * width)))
        columns += [(f"answer.{name}", vector_type(dtype, width)) for name in self.questions.names]
        return pa.schema(columns + [(RECENT_ITEMS, pa.list_(pa.string()))] * self._has_recent_items)

    @property
    def _has_recent_items(self) -> bool:
        return bool(self.model.config.content_fields)

    def rows(self, shard: Shard) -> UserMoments:
        """Return the users of a shard. Users without any event belong to the first shard."""
        sequences = shard.sequences
        user = sequences.user[self._is_asked[sequences.user]]
        if shard.name == self.dataset.shards()[0].name:
            user = np.concatenate([user, self._without_events])
        return self.moments(sequences, user)

    def moments(self, sequences: Sequences, user: np.ndarray) -> UserMoments:
        """Return users, (n,) ids, as of the time of the run."""
        index = sequences.user_index(user)
        prefix = np.where(index < 0, 0, events_before(sequences, self.as_of)[index])
        last_event = sequences.time[np.maximum(sequences.offsets[index] + prefix - 1, 0)]
        return UserMoments(user, prefix, np.where(prefix > 0, last_event, 0))

    @torch.inference_mode()
    def tables(self, shard: Shard, users: UserMoments) -> Iterator[pa.Table]:
        """Yield the rows of some users of a shard, batch by batch."""
        raw_ids, raw_items, network = self.dataset.raw_ids("users"), self.dataset.raw_ids("items"), self.model.network
        asked = len(self.vector_names) + len(self.questions)
        row_values = self.questions.row_values(shard.sequences, users.user, users.prefix)
        batches = encoded_moments(
            self.model, shard.sequences, users.user, users.prefix, asked, self.settings.batch_events
        )
        for index, state, moments in batches:
            n = len(index)
            questions = Questions(
                self.questions.conditions(take(row_values, index), n),
                moments.user_index.repeat_interleave(len(self.questions)),
                moments.prefix.repeat_interleave(len(self.questions)),
                learned=self.questions.learned(n),
            ).to(self.model.device)
            user_vectors = network.user_vectors(state, moments.to(self.model.device))  # (n, M, E)
            answers = network.answer_questions(state, questions).unflatten(0, (n, len(self.questions)))  # (n, G, E)
            columns = [
                raw_ids.take(users.user[index]),
                _times(np.full(n, self.as_of)),
                _times(users.last_event[index], users.prefix[index] == 0),
                pa.array(users.prefix[index]),
                *(self._vectors(values) for values in (user_vectors, *answers.unbind(1))),
            ]
            if self._has_recent_items:
                columns.append(last_raw_items(shard.sequences, users.user[index], users.prefix[index], raw_items))
            yield pa.Table.from_arrays(columns, schema=self.schema)

    @property
    def size(self) -> KnowledgeSize:
        """The approximate size of the knowledge."""
        width, stored = self.model.config.settings.embedding_width, len(self.vector_names) + len(self.questions)
        recent = RECENT_BYTES * self._has_recent_items
        return user_knowledge_size(self.dataset, self.settings, width, stored, self.total, recent)

    def description(self) -> dict[str, Any]:
        """Return the keys of `knowledge.json` that follow from the inputs of the run."""
        config, dataset = self.model.config, self.dataset.info.fingerprint
        users = sha256(self._is_asked.tobytes()).hexdigest()
        width, as_of = config.settings.embedding_width, utc_text(self.as_of)
        return {
            "form": "user",
            "questions": self.questions.names,
            "fixed_questions": self.questions.names,
            "feedback_names": [],
            "matched_names": [],
            "vector_names": self.vector_names,
            "vectors": len(self.vector_names),
            "asked": self.asked,
            "width": width,
            "dtype": self.settings.dtype,
            "as_of": f"the events strictly before {as_of}",
            "unknown_users": len(self.unknown_users),
            "model": config.fingerprint,
            "dataset": dataset,
            "fingerprint": fingerprint(config.fingerprint, dataset, self.asked, users, as_of, self.settings.dtype),
        }

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run for its user."""
        numbers = sum(field.type.list_size for field in self.schema if pa.types.is_fixed_size_list(field.type))
        return {
            "users": self.total,
            "unknown_users": len(self.unknown_users),
            "as_of": utc_text(self.as_of),
            "vectors": len(self.vector_names),
            "questions": len(self.questions),
            "bytes_per_user": numbers * np.dtype(self.settings.dtype).itemsize + RECENT_BYTES * self._has_recent_items,
        }

    def _asked_users(self, user_ids: list[str] | None) -> np.ndarray:
        """Return which ids of the dataset, (1 + its users,) bool, are asked about, and record `unknown_users`."""
        raw_ids = self.dataset.raw_ids("users")
        is_asked = np.full(len(raw_ids), user_ids is None)
        is_asked[0] = False  # the unknown user
        if user_ids is not None:
            found = pc.index_in(pa.array(user_ids, pa.string()), raw_ids).fill_null(0).to_numpy()
            is_asked[found[found > 0]] = True
            self.unknown_users = [user_ids[index] for index in np.flatnonzero(found == 0)]
        if not is_asked.any():
            raise InputError(
                f"users: {self.dataset.path} has none of the {len(user_ids or []):,} users, the first is "
                f"'{self.unknown_users[0]}'; pass ids of the log"
            )
        return is_asked

    def _vectors(self, values: Tensor) -> pa.Array:
        return vectors(values.float().cpu().numpy(), self.settings.dtype)


def _times(second: np.ndarray, is_missing: np.ndarray | None = None) -> pa.Array:
    """Return seconds since 1970, (n,), as a column of times."""
    return pa.array(second, pa.int64(), mask=is_missing).cast(pa.timestamp("s", "UTC")).cast(TIME)
