"""The moments of user vectors in training."""

import pytest
import torch

from openlum.model import Questions
from openlum.pretrain.moments import draw_moments


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_question_has_the_latest_moment_of_its_user_that_is_not_after_it(share: float, seed: int) -> None:
    torch.manual_seed(seed)
    user, prefix = torch.randint(4, (60,)), torch.randint(9, (60,))
    moments, index = draw_moments(Questions({}, user, prefix), share)
    assert (moments.user_index[index] == user).all()
    assert (moments.prefix[index] <= prefix).all()
    pairs = list(zip(moments.user_index.tolist(), moments.prefix.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for question_user, question_prefix, moment in zip(user.tolist(), prefix.tolist(), index.tolist(), strict=True):
        earlier = [p for u, p in pairs if u == question_user and p <= question_prefix]
        assert pairs[moment][1] == max(earlier)
    if share == 1.0:
        assert (moments.prefix[index] == prefix).all()
    if share == 0.0:
        assert len(pairs) == len(user.unique())


def test_there_may_be_no_questions() -> None:
    none = torch.empty(0, dtype=torch.int64)
    moments, index = draw_moments(Questions({}, none, none), 0.5)
    assert len(moments.prefix) == len(index) == 0
