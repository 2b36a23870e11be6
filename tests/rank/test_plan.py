"""The plan of rankers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlum.data.dataset import Dataset
from openlum.rank.batches import plain_config
from openlum.rank.plan import plan_in_words, plan_ranking
from openlum.rank.settings import RankSettings, SequenceSettings, TreeSettings


@given(rows=st.integers(1, 10**10), events=st.integers(1, 10**11))
def test_every_number_of_rows_gets_a_complete_plan(rows: int, events: int) -> None:
    planned = plan_ranking(rows, events, RankSettings())
    content = planned.model_dump()
    assert "auto" not in [*content.values(), *content["trees"].values(), *content["sequence"].values()]
    assert plan_ranking(1, 1, planned) == planned


def test_large_logs_have_the_settings_in_the_code() -> None:
    planned, code = plan_ranking(2_000_000, 2_000_000, RankSettings()), RankSettings().with_plan({})
    assert planned.model_copy(update={"trees": code.trees, "sequence": code.sequence}) == code
    assert (planned.trees.leaves, planned.trees.min_rows, planned.sequence.batch_events) == (63, 100, 2048)


def test_trees_have_more_leaves_with_more_rows() -> None:
    leaves = [plan_ranking(rows, rows, RankSettings()).trees.leaves for rows in (1000, 10**5, 5 * 10**5, 10**7)]
    assert leaves == [15, 15, 31, 63]


@pytest.mark.parametrize("rows", [10_000, 25_000, 60_000, 150_000])
def test_small_logs_get_hundreds_of_steps(rows: int) -> None:
    planned = plan_ranking(rows, rows, RankSettings())
    assert planned.max_epochs * rows / planned.batch_size >= 600


def test_a_plan_is_said_in_one_line() -> None:
    assert plan_in_words(1000, RankSettings(batch_size=300, max_epochs=2)) == "1,000 rows: at most 8 steps of 300 rows"
    assert plan_in_words(10, RankSettings(batch_size=300, max_epochs=2)) == "10 rows: at most 2 steps of 10 rows"


def test_the_keys_of_the_user_stay() -> None:
    chosen = RankSettings(batch_size=77, trees=TreeSettings(leaves=5), sequence=SequenceSettings(batch_events=99))
    planned = plan_ranking(1000, 1000, chosen)
    assert (planned.batch_size, planned.trees.leaves, planned.sequence.batch_events) == (77, 5, 99)
    assert planned.trees.min_rows == 20


def test_the_configuration_of_a_ranker_has_numbers(small_dataset: Dataset) -> None:
    settings = plain_config(small_dataset, "dnn", RankSettings()).settings
    assert "auto" not in settings.model_dump().values()
