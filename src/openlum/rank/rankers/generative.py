"""`sasrec` and `hstu` as end-to-end generative rankers: one causal model over the whole behaviour that judges the target itself.

Every event is two tokens, *item, action* (Zhai et al. 2024, section 2.2): the item with the conditions that are known when it is
shown, and the feedback that it was given. The label's probability is read at the item. A row to be judged is one more item
token that sees the user's history before it and nothing else, so all rows of a user are judged in one pass, in training too.
`sasrec` has softmax attention (Kang and McAuley 2018), `hstu` the blocks of that paper.

Shapes: B windows of histories, L events of all windows end to end, I rows, D width.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from openlum.data.packing import Spans, batches, question_windows
from openlum.model.batch import Fields, History, to_device
from openlum.model.fields import Field, ItemEncoder
from openlum.model.settings import ModelSettings
from openlum.model.user_encoder import UserEncoder
from openlum.rank.batches import RankingData, Rows
from openlum.rank.settings import RankerConfig
from openlum.schema import FieldSpec


class GenerativeRanker(nn.Module):
    """Histories and rows to logits.

    Args:
        config: what to build.
    """

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        chosen = config.settings.sequence
        shape = ModelSettings(
            encoder="hstu" if config.architecture == "hstu" else "transformer",
            **chosen.model_dump(include={"width", "layers", "heads", "max_events", "dropout"}),
        )
        width, field_width = chosen.width, config.settings.embedding_width
        self.items = ItemEncoder(config.item, config.items, field_width, width, config.settings.item_id_dropout)
        self.condition = _Sum([spec for spec in config.behaviour if not spec.feedback], width)
        self.action = _Sum([spec for spec in config.behaviour if spec.feedback], width)
        self.constant = nn.Parameter(torch.randn(2, width) * 0.02)  # of an item token and an action token
        self.shortcut = nn.Linear(width, width, bias=False)
        self.encoder = UserEncoder(shape)
        self.names = [spec.name for spec in config.features]
        self.fields = nn.ModuleList(Field(spec, field_width) for spec in config.features)
        inputs, hidden = 2 * width + field_width * len(self.names), config.settings.hidden[0]
        self.head = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, history: History, item: Tensor, features: Fields, user: Tensor, prefix: Tensor) -> Tensor:
        """Logits of rows, (I,), on the device of the weights, whichever the rest is on.

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
        # An action's token also says to what it was given, or attention would spend its first layer on finding that.
        actions = self.constant[1] + self.action(history.condition) + self.shortcut(items)
        tokens = torch.stack([items, actions], 1).flatten(0, 1)  # (2 L, D)
        state = self.encoder.encode_history(tokens, 2 * history.offsets, with_output=False)[1]
        target = self.items(item)  # (I, D)
        known = {name.removeprefix("condition."): x for name, x in features.items() if name.startswith("condition.")}
        asked = target + self.constant[0] + self.condition(known)
        out = self.encoder.answer_questions(state, asked, user, 2 * prefix)  # (I, D)
        fields = [field(features[name]) for name, field in zip(self.names, self.fields, strict=True)]
        return self.head(torch.cat([out, target, *fields], 1)).squeeze(1)

    @torch.inference_mode()
    def predict(self, data: RankingData, rows: Rows) -> np.ndarray:
        """Predicted probabilities of rows, (I,) float32."""
        self.eval()
        out = torch.empty(len(rows))
        for index, logits in self.score(data, rows, None):
            out[index] = logits.sigmoid().cpu()
        return out.numpy()

    def score(self, data: RankingData, rows: Rows, rng: np.random.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices of rows, (n,), and their logits, (n,), a batch of windows at a time; in random order with a generator."""
        chosen = self.config.settings.sequence
        user, prefix = rows.user.numpy(), rows.prefix.numpy()
        sequences = data.dataset.sequences
        windows, order, sizes = question_windows(sequences, user, prefix, chosen.max_events, 2 * chosen.batch_events)
        first = np.cumsum(sizes) - sizes
        turn = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
        windows, sizes, first = windows.take(turn), sizes[turn], first[turn]
        done = 0
        for batch in batches(windows, chosen.batch_events, extra=sizes // 2):
            here = slice(done, done + len(batch))
            done += len(batch)
            members = np.concatenate([np.arange(f, f + n) for f, n in zip(first[here], sizes[here], strict=True)])
            index = order[members]
            seen = torch.from_numpy(prefix[index] - np.repeat(batch.start, sizes[here]))
            window = torch.from_numpy(np.repeat(np.arange(len(batch)), sizes[here]))
            yield torch.from_numpy(index), self._logits(data, rows, batch, torch.from_numpy(index), window, seen)

    def tensors(self) -> dict[str, Tensor]:
        """Its weights."""
        return self.state_dict()

    def take(self, tensors: dict[str, Tensor]) -> None:
        """The weights that `tensors` gave, ready to predict."""
        self.load_state_dict(tensors)
        self.eval()

    def _logits(
        self, data: RankingData, rows: Rows, windows: Spans, index: Tensor, window: Tensor, seen: Tensor
    ) -> Tensor:
        history = History.gather(data.dataset.sequences, windows)
        return self(history, rows.item[index], data.fields(rows, index), window, seen)


class _Sum(nn.Module):
    """The sum of some fields' embeddings.

    Args:
        specs: the fields.
        width: D.
    """

    def __init__(self, specs: list[FieldSpec], width: int) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.fields = nn.ModuleList(Field(spec, width) for spec in specs)

    def forward(self, values: Fields) -> Tensor | float:
        """Fields of n tokens to (n, D); 0 where there are none."""
        total: Tensor | float = 0.0
        for name, field in zip(self.names, self.fields, strict=True):
            total = total + field(values[name])
        return total
