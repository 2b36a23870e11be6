"""The interface of the user encoder's blocks: a layer that encodes histories, extends them, and answers questions over them.

Shapes: T history tokens of B users end to end, n new tokens, Q questions, D width.
"""

from typing import Protocol

from torch import Tensor

from openlum.model.plan import ExtensionPlan, HistoryPlan, QuestionPlan

BlockState = dict[str, Tensor]
"""What a block keeps of encoded histories: tensors (T, ...) by name, with a row for every token. Their number, names and widths
are the block's own: keys and values of an attention block, or the state after each token of a recurrent block."""


class Block(Protocol):
    """A causal layer. Its outputs for a token or a question depend on the earlier tokens of the same user only."""

    def encode_history(
        self, x: Tensor, positions: Tensor, plan: HistoryPlan, with_output: bool
    ) -> tuple[Tensor | None, BlockState]:
        """Encode the tokens of histories.

        Args:
            x: (T, D) tokens.
            positions: (T,) position of each token in its user's history.
            plan: of the histories.
            with_output: whether to compute the output. Questions need the state only.

        Returns:
            Output (T, D), or None, and the state.
        """
        ...

    def extend_history(
        self, x: Tensor, positions: Tensor, state: BlockState, plan: ExtensionPlan
    ) -> tuple[Tensor, BlockState]:
        """Encode new tokens at the end of encoded histories.

        Args:
            x: (n, D) new tokens.
            positions: (n,) position of each new token in its user's history.
            state: of the encoded histories.
            plan: of the extension.

        Returns:
            Output (n, D) of the new tokens, and the state of the longer histories.
        """
        ...

    def answer_questions(self, x: Tensor, positions: Tensor, state: BlockState, plan: QuestionPlan) -> Tensor:
        """Return the output (Q, D) of question tokens.

        Args:
            x: (Q, D) question tokens, in the order of the plan.
            positions: (Q,) number of tokens that each question may see. It is also the question's position.
            state: of the histories.
            plan: of the questions.
        """
        ...
