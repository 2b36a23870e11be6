"""The user encoder: a stack of causal blocks over the tokens of many users end to end, and the group query.

Shapes: T tokens of B users end to end, n new tokens, Q questions, D width.
"""

from typing import cast

from torch import Tensor, nn

from openlum.model.blocks.block import Block, BlockState
from openlum.model.encoders import ENCODERS
from openlum.model.plan import ExtensionPlan, HistoryPlan, QuestionPlan
from openlum.model.settings import ModelSettings
from openlum.model.state import EncoderState


class UserEncoder(nn.Module):
    """A stack of blocks of the kind `settings.encoder`."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.token_norm = nn.RMSNorm(settings.width)
        block = ENCODERS.load(settings.encoder)
        self.blocks = nn.ModuleList(block(settings) for _ in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)

    def encode_history(
        self, x: Tensor, offsets: Tensor, with_output: bool = True
    ) -> tuple[Tensor | None, EncoderState]:
        """Encode the tokens of histories.

        Args:
            x: (T, D) tokens.
            offsets: (B + 1,) int64 on the CPU: index of each user's first token, then T. Positions start at 0 for each user.
            with_output: whether to compute the output. Questions need only the state, for which the last block computes no
                output.

        Returns:
            Output (T, D), or None, and the state.
        """
        plan, states = HistoryPlan(offsets, x.device), []
        out: Tensor | None = self.token_norm(x)
        for index, block in enumerate(self._blocks):
            assert out is not None
            is_last = index == len(self.blocks) - 1
            out, state = block.encode_history(out, plan.positions, plan, with_output or not is_last)
            states.append(state)
        return (None if out is None else self.norm(out)), EncoderState(states, offsets)

    def extend_history(self, state: EncoderState, x: Tensor, plan: ExtensionPlan) -> EncoderState:
        """Return the state of histories with new tokens at their ends.

        Args:
            state: of the histories before.
            x: (n, D) new tokens.
            plan: of the extension.
        """
        x, states = self.token_norm(x), list[BlockState]()
        for block, block_state in zip(self._blocks, state.blocks, strict=True):
            x, longer = block.extend_history(x, plan.questions.positions, block_state, plan)
            states.append(longer)
        return EncoderState(states, plan.offsets)

    def answer_questions(self, state: EncoderState, x: Tensor, user_index: Tensor, prefix: Tensor) -> Tensor:
        """Return the outputs (Q, D) of question tokens over encoded histories (the group query).

        Args:
            state: of the histories.
            x: (Q, D) question tokens.
            user_index: (Q,) int64 on the CPU: index of each question's user in the batch.
            prefix: (Q,) number of history tokens that each question may see. It is also the question's position.
        """
        plan = QuestionPlan(state.offsets, user_index, prefix)
        x = self.token_norm(x)[plan.order]
        for block, block_state in zip(self._blocks, state.blocks, strict=True):
            x = block.answer_questions(x, plan.positions, block_state, plan)
        return self.norm(x)[plan.inverse_order]

    @property
    def _blocks(self) -> list[Block]:
        return cast(list[Block], list(self.blocks))
