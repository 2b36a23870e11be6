"""`sasrec` and `hstu` as end-to-end generative rankers: one causal model over the whole history that scores the target itself.

Every event is two tokens, *item* and *action* (Zhai et al. 2024, section 2.2). The item token has the item and the conditions
that are known before it is shown. The action token has the feedback to it. The label's probability is predicted at the item
token. A row is one more item token that sees the user's history before it and nothing else. All rows of a user are therefore
predicted in one pass, in training too. `sasrec` has softmax attention (Kang and McAuley 2018), `hstu` the blocks of Zhai et al.
2024.

Shapes: B windows of histories, L events of all windows end to end, I rows, D width.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from openlum.data.packing import batches, question_windows
from openlum.field_spec import FieldSpec
from openlum.model.batch import Fields, History, to_device
from openlum.model.fields import Field, ItemEncoder
from openlum.model.settings import ModelSettings
from openlum.model.user_encoder import UserEncoder
from openlum.rank.batches import RankingData, Rows
from openlum.rank.buffer import Buffer
from openlum.rank.rankers.contract import RankerDescription
from openlum.rank.settings import RankerConfig


class GenerativeRanker(nn.Module, RankerDescription):
    """A causal model from histories and rows to logits of the label.

    Args:
        config: the ranker's configuration.
    """

    knowledge_input = "none"
    end_to_end = True
    learning_rate_key = "rank.sequence.learning_rate"
    encoder_name: ClassVar[str]
    """The encoder of `openlum.model` that reads the tokens."""

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        sequence = config.settings.sequence
        shape = ModelSettings(
            encoder=self.encoder_name,
            **{name: getattr(sequence, name) for name in ("width", "layers", "heads", "max_events", "dropout")},
        )
        width, field_width = sequence.width, config.settings.embedding_width
        self.items = ItemEncoder(config.item, config.items, field_width, width, config.settings.item_id_dropout)
        self.condition = _FieldSum([spec for spec in config.behaviour if not spec.feedback], width)
        self.action = _FieldSum([spec for spec in config.behaviour if spec.feedback], width)
        self.constant = nn.Parameter(
            torch.randn(2, width) * 0.02
        )  # constants of the item token and of the action token
        self.shortcut = nn.Linear(width, width, bias=False)
        self.encoder = UserEncoder(shape)
        self.names = [spec.name for spec in config.features]
        self.fields = nn.ModuleList(Field(spec, field_width) for spec in config.features)
        inputs, hidden = 2 * width + field_width * len(self.names), config.settings.hidden[0]
        self.head = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, history: History, item: Tensor, features: Fields, user: Tensor, prefix: Tensor) -> Tensor:
        """Return logits of rows, (I,), on the device of the weights; the inputs may be on any device.

        Args:
            history: of B windows.
            item: (I,) target items.
            features: the rows' fields, KIND.FIELD to (I, ...).
            user: (I,) int64 on the CPU, ascending: the window of each row.
            prefix: (I,) events of the window that each row sees.
        """
        device = self.constant.device
        history, features = history.to(device), to_device(features, device)
        item, prefix = item.to(device), prefix.to(device)
        items = self.items(history.item) + self.constant[0] + self.condition(history.condition)
        # An action token also has its item; otherwise attention would spend its first layer on finding the item.
        actions = self.constant[1] + self.action(history.condition) + self.shortcut(items)
        tokens = torch.stack([items, actions], 1).flatten(0, 1)  # (2 L, D)
        state = self.encoder.encode_history(tokens, 2 * history.offsets, with_output=False)[1]
        target = self.items(item)  # (I, D)
        condition = {
            name.removeprefix("condition."): x for name, x in features.items() if name.startswith("condition.")
        }
        row_tokens = target + self.constant[0] + self.condition(condition)  # (I, D)
        out = self.encoder.answer_questions(state, row_tokens, user, 2 * prefix)  # (I, D)
        fields = [field(features[name]) for name, field in zip(self.names, self.fields, strict=True)]
        return self.head(torch.cat([out, target, *fields], 1)).squeeze(1)

    @torch.inference_mode()
    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Return predicted probabilities of rows, (I,) float32."""
        self.eval()
        out = torch.empty(len(rows))
        for index, logits in self.batch_logits(data, rows, None):
            out[index] = logits.sigmoid().cpu()
        return out.numpy()

    def batch_logits(
        self, data: RankingData, rows: Rows, rng: np.random.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row indices (n,) and their logits (n,), one batch of windows at a time.

        Args:
            data: the data.
            rows: the rows of a split.
            rng: shuffles the windows; None for no shuffling.
        """
        order = torch.arange(len(rows))
        if rng is not None and not data.is_whole:  # one buffer needs no order of the shards
            order = torch.from_numpy(rng.permutation(len(rows)))
        for buffer, index in data.buffers(rows, order):
            yield from self._buffer_logits(data, buffer, rows, index.sort().values.numpy(), rng)

    def _buffer_logits(
        self, data: RankingData, buffer: Buffer, rows: Rows, index: np.ndarray, rng: np.random.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same for the rows of one buffer at `index`, (I,)."""
        settings, sequences = self.config.settings.sequence, buffer.sequences
        prefix = rows.prefix.numpy()[index].astype(np.int64)
        windows, order, sizes = question_windows(
            sequences, rows.user.numpy()[index], prefix, settings.max_events, 2 * settings.batch_events
        )
        first = np.cumsum(sizes) - sizes
        window_order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
        windows, sizes, first = windows.take(window_order), sizes[window_order], first[window_order]
        start = 0
        for batch in batches(windows, settings.batch_events, extra=sizes // 2):
            batch_first, batch_sizes = first[start : start + len(batch)], sizes[start : start + len(batch)]
            start += len(batch)
            members = np.concatenate([np.arange(f, f + n) for f, n in zip(batch_first, batch_sizes, strict=True)])
            members = order[members]
            window_prefix = torch.from_numpy(prefix[members] - np.repeat(batch.start, batch_sizes))
            window = torch.from_numpy(np.repeat(np.arange(len(batch)), batch_sizes))
            row = torch.from_numpy(index[members])
            history = History.gather(sequences, batch)
            fields = data.fields(buffer, rows, row)
            yield row, self(history, rows.item[row].long(), fields, window, window_prefix)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights."""
        return self.state_dict()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load the weights that `tensors()` returned, and switch to prediction."""
        self.load_state_dict(tensors)
        self.eval()


class SasRec(GenerativeRanker):
    """Softmax attention."""

    name = "sasrec"
    encoder_name = "transformer"


class Hstu(GenerativeRanker):
    """Gated pointwise attention."""

    name = "hstu"
    encoder_name = "hstu"


class _FieldSum(nn.Module):
    """The sum of the embeddings of fields.

    Args:
        specs: the fields.
        width: D.
    """

    def __init__(self, specs: list[FieldSpec], width: int) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.fields = nn.ModuleList(Field(spec, width) for spec in specs)

    def forward(self, values: Fields) -> Tensor | float:
        """Return the sum for n tokens, (n, D); 0 without fields."""
        total: Tensor | float = 0.0
        for name, field in zip(self.names, self.fields, strict=True):
            total = total + field(values[name])
        return total
