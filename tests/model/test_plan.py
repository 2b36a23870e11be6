"""The groups of users that attention pads together."""

import numpy as np
import pytest
import torch

from openlum.model.plan import MAX_PADDING, PaddedGroups, group_users


@pytest.mark.parametrize("largest", [3, 40, 300])
def test_every_user_with_questions_is_in_one_group_with_little_padding(largest: int) -> None:
    tokens, questions = np.random.default_rng(0).integers(0, largest, (2, 50)).tolist()
    groups = group_users([tokens, questions])
    assert sorted(user for users in groups for user in users) == [user for user in range(50) if questions[user]]
    for users in groups:
        padded = len(users) * max(tokens[user] for user in users) * max(questions[user] for user in users)
        assert padded - sum(tokens[user] * questions[user] for user in users) <= MAX_PADDING * len(users)


def test_users_whose_padding_costs_little_share_a_group() -> None:
    assert len(group_users([[3, 60, 30, 1], [40, 2, 9, 1]])) == 1
    assert len(group_users([[300, 10], [300, 10]])) == 2


def test_unpadded_rows_equal_the_rows_before() -> None:
    sizes = np.random.default_rng(1).integers(0, 90, 30).tolist()
    padded_groups = PaddedGroups(sizes, group_users([sizes, sizes]), torch.device("cpu"))
    x = torch.randn(sum(sizes), 2, 3)
    padded = padded_groups.pad(x)
    assert torch.equal(padded_groups.unpad(padded), x)
    rows = [
        group.transpose(1, 2)[mask.squeeze(3).squeeze(1)]
        for group, mask in zip(padded, padded_groups.masks(), strict=True)
    ]
    assert torch.equal(torch.cat(rows).flatten().sort().values, x.flatten().sort().values)
