"""Every encoder of openlum fulfils the contract, and so does a recurrent encoder, which is defined here."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from openlum.model import ModelSettings
from openlum.model.blocks.block import BlockState
from openlum.model.encoders import ENCODERS
from openlum.model.plan import ExtensionPlan, HistoryPlan, QuestionPlan

from .encoder_contract import EncoderContract


class RecurrentBlock(nn.Module):
    """A moving average of the earlier tokens: h_t = a h_{t-1} + W x_t, and y_t = x_t + V h_t. It has neither keys nor values."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.read = nn.Linear(settings.width, settings.width)
        self.write = nn.Linear(settings.width, settings.width)
        self.decay = nn.Parameter(torch.full((settings.width,), 0.5))

    def encode_history(
        self, x: Tensor, positions: Tensor, plan: HistoryPlan, with_output: bool
    ) -> tuple[Tensor | None, BlockState]:
        nothing = ExtensionPlan(torch.zeros_like(plan.offsets), plan.offsets, plan.device)
        out, state = self.extend_history(x, positions, {"memory": x[:0]}, nothing)
        return (out if with_output else None), state

    def extend_history(
        self, x: Tensor, positions: Tensor, state: BlockState, plan: ExtensionPlan
    ) -> tuple[Tensor, BlockState]:
        memory = list(plan.merge(state["memory"], self.read(x)))
        for row, position in zip(plan.new_rows.tolist(), positions.tolist(), strict=True):
            memory[row] = memory[row] + (self.decay * memory[row - 1] if position else 0.0 * self.decay)
        merged = torch.stack(memory) if memory else state["memory"]
        return x + self.write(merged[plan.new_rows]), {"memory": merged}

    def answer_questions(self, x: Tensor, positions: Tensor, state: BlockState, plan: QuestionPlan) -> Tensor:
        padded = torch.cat([torch.zeros(1, x.shape[1], dtype=x.dtype), state["memory"]])
        before = padded[torch.where(positions > 0, plan.first_tokens + positions, 0)]
        return x + self.write(self.read(x) + self.decay * before)


class TestTransformer(EncoderContract):
    name = "transformer"


class TestHstu(EncoderContract):
    name = "hstu"


class TestRecurrent(EncoderContract):
    name: ClassVar[str] = "recurrent"

    @pytest.fixture(scope="class", autouse=True)
    def recurrent(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(ENCODERS._added, "recurrent", RecurrentBlock)
            yield
