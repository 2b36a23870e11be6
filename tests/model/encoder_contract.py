"""The contract of every user encoder: properties that do not depend on the kind of its blocks and on its weights."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from openlum.model import ModelSettings
from openlum.model.plan import ExtensionPlan
from openlum.model.state import EncoderState
from openlum.model.user_encoder import UserEncoder

WIDTH = 16
TOLERANCE = 1e-9
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=5)
SEED = st.integers(0, 10_000)
PROPERTY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.differing_executors],  # several classes inherit each test
)


def new_encoder(name: str) -> UserEncoder:
    """Return an encoder in double precision, with random values for the weights that start at 0."""
    torch.manual_seed(0)
    shape = ModelSettings(width=WIDTH, layers=2, heads=2, max_events=32, dropout=0.0).model_copy(
        update={"encoder": name}
    )
    encoder = UserEncoder(shape).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return encoder


def random_tokens(lengths: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return random tokens (T, D) of users with these numbers of tokens, and their offsets."""
    return torch.from_numpy(rng.normal(size=(sum(lengths), WIDTH))), torch.tensor([0, *np.cumsum(lengths)])


def outputs(encoder: UserEncoder, tokens: Tensor, offsets: Tensor) -> Tensor:
    output = encoder.encode_history(tokens, offsets)[0]
    assert output is not None
    return output


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


class EncoderContract:
    """A test class of an encoder inherits this class and sets `name`."""

    name: ClassVar[str]

    @pytest.fixture(scope="class")
    def encoder(self) -> UserEncoder:
        return new_encoder(self.name)

    @PROPERTY
    @given(lengths=LENGTHS, seed=SEED)
    @torch.no_grad()
    def test_packed_equals_unpacked(self, encoder: UserEncoder, lengths: list[int], seed: int) -> None:
        tokens, offsets = random_tokens(lengths, np.random.default_rng(seed))
        packed = outputs(encoder, tokens, offsets)
        for begin, length in zip(offsets.tolist(), lengths, strict=False):
            alone = outputs(encoder, tokens[begin : begin + length], torch.tensor([0, length]))
            assert_same(packed[begin : begin + length], alone)

    @PROPERTY
    @given(lengths=LENGTHS, count=st.integers(0, 20), seed=SEED)
    @torch.no_grad()
    def test_group_query_equals_separate_passes(
        self, encoder: UserEncoder, lengths: list[int], count: int, seed: int
    ) -> None:
        """A question is one more token after its prefix. Its answer does not depend on the other questions."""
        rng = np.random.default_rng(seed)
        tokens, offsets = random_tokens(lengths, rng)
        user_index = rng.integers(0, len(lengths), count)
        prefix = np.array([rng.integers(0, lengths[user] + 1) for user in user_index], np.int64)
        questions = torch.from_numpy(rng.normal(size=(count, WIDTH)))
        _, state = encoder.encode_history(tokens, offsets, with_output=False)
        together = encoder.answer_questions(state, questions, torch.from_numpy(user_index), torch.from_numpy(prefix))
        assert together.shape == (count, WIDTH)
        for index, (user, length) in enumerate(zip(user_index, prefix, strict=True)):
            begin = int(offsets[user])
            alone = torch.cat([tokens[begin : begin + length], questions[index : index + 1]])
            assert_same(together[index], outputs(encoder, alone, torch.tensor([0, len(alone)]))[-1])

    @PROPERTY
    @given(length=st.integers(2, 20), seed=SEED, data=st.data())
    @torch.no_grad()
    def test_later_tokens_never_change_an_output(
        self, encoder: UserEncoder, length: int, seed: int, data: st.DataObject
    ) -> None:
        now = data.draw(st.integers(0, length - 1))
        rng = np.random.default_rng(seed)
        (tokens, offsets), (other, _) = random_tokens([length], rng), random_tokens([length], rng)
        changed = torch.cat([tokens[:now], other[now:]])
        assert_same(outputs(encoder, changed, offsets)[:now], outputs(encoder, tokens, offsets)[:now])
        question, user_index, prefix = other[:1], torch.tensor([0]), torch.tensor([now])
        answers = [
            encoder.answer_questions(encoder.encode_history(history, offsets)[1], question, user_index, prefix)
            for history in (tokens, changed)
        ]
        assert_same(*answers)

    @torch.no_grad()
    def test_the_first_token_changes_the_last_output(self, encoder: UserEncoder) -> None:
        """Without this, the test of later tokens could not fail for an encoder that ignores the history."""
        tokens, offsets = random_tokens([10], np.random.default_rng(0))
        changed = torch.cat([-tokens[:1], tokens[1:]])
        assert (outputs(encoder, changed, offsets)[-1] - outputs(encoder, tokens, offsets)[-1]).abs().max() > 1e-6

    @PROPERTY
    @given(parts=st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=4), seed=SEED)
    @torch.no_grad()
    def test_extended_histories_equal_histories_encoded_at_once(
        self, encoder: UserEncoder, parts: list[list[int]], seed: int
    ) -> None:
        """Three users get new tokens several times. A user may get none."""
        rng = np.random.default_rng(seed)
        pieces = [[rng.normal(size=(length, WIDTH)) for length in lengths] for lengths in parts]
        state = EncoderState([], torch.zeros(0))
        for number, (part, lengths) in enumerate(zip(pieces, parts, strict=True)):
            tokens, offsets = torch.from_numpy(np.concatenate(part)), torch.tensor([0, *np.cumsum(lengths)])
            if number:
                plan = ExtensionPlan(state.offsets, offsets, tokens.device)
                state = encoder.extend_history(state, tokens, plan)
            else:
                _, state = encoder.encode_history(tokens, offsets, with_output=False)
        tokens = torch.from_numpy(np.concatenate([part[user] for user in range(3) for part in pieces]))
        offsets = torch.tensor([0, *np.cumsum(np.sum(parts, 0))])
        _, expected = encoder.encode_history(tokens, offsets, with_output=False)
        assert torch.equal(state.offsets, expected.offsets)
        for block, expected_block in zip(state.blocks, expected.blocks, strict=True):
            assert block.keys() == expected_block.keys()
            for name, tensor in block.items():
                assert len(tensor) == len(tokens)
                assert_same(tensor, expected_block[name])

    @pytest.mark.parametrize("lengths", [[0], [3, 0, 2]])
    @pytest.mark.parametrize("count", [0, 2])
    def test_every_parameter_gets_a_gradient(self, encoder: UserEncoder, lengths: list[int], count: int) -> None:
        """Histories may be empty, and there may be no question."""
        tokens, offsets = random_tokens(lengths, np.random.default_rng(0))
        questions = torch.ones(count, WIDTH, dtype=torch.float64)
        zeros = torch.zeros(count, dtype=torch.int64)
        encoder.zero_grad()
        _, state = encoder.encode_history(tokens, offsets, with_output=False)
        encoder.answer_questions(state, questions, zeros, zeros).sum().backward()
        assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
