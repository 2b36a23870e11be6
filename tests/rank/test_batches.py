import dataclasses

import numpy as np
import pytest
import torch

from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.data.item_activity import ItemActivity
from openlum.errors import InputError
from openlum.rank.batches import RankingData
from openlum.rank.hand_features import HandFeatures
from openlum.rank.settings import RankSettings


@pytest.mark.parametrize("where", [None, {"feedback": ["click"]}, {"feedback": ["click"], "scene": ["home"]}])
def test_history_is_the_last_behaviours_before_the_row(
    where: dict[str, list[str]] | None, dataset: Dataset, settings: RankSettings
) -> None:
    data = RankingData(dataset, settings.model_copy(update={"history_where": where, "history_length": 5}))
    impressions, sequences = dataset.impressions("test"), dataset.sequences
    history = data.batch(data.rows["test"], torch.arange(len(impressions.row)), data.config("din", False)).history
    assert history is not None
    behaviour_ids = {
        name: set(dataset.vocabulary(f"condition.{name}").encode(values)) for name, values in (where or {}).items()
    }
    for index in range(0, len(impressions.row), 17):
        begin = sequences.offsets[sequences.user_index(impressions.user[index : index + 1])[0]]
        events = np.arange(begin, begin + impressions.prefix[index])
        assert (sequences.time[events] < impressions.time[index]).all()
        for name, ids in behaviour_ids.items():
            events = events[[value in ids for value in sequences.condition[name][events]]]
        latest = events[::-1][:5]
        mask = history.mask[index]
        assert mask.sum() == len(latest)
        assert history.item[index][mask].tolist() == sequences.item[latest].tolist()
        for name, values in history.condition.items():
            assert values[index][mask].tolist() == sequences.condition[name][latest].tolist()


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_groups_by_length_have_all_rows_and_little_padding(rows: int, data: RankingData) -> None:
    history = data.batch(data.rows["train"], torch.arange(rows), data.config("din", False)).history
    assert history is not None
    groups = history.group_by_length()
    assert torch.cat([index for index, _ in groups]).sort().values.equal(torch.arange(rows))
    for index, group in groups:
        length = group.mask.sum(1)  # (b,)
        assert length.equal(history.mask[index].sum(1))
        assert (group.mask.shape[1] <= 4 * length.clamp(min=1)).all()
        assert group.item[group.mask].equal(history.item[index][history.mask[index]])
        for name, values in group.condition.items():
            assert values[group.mask].equal(history.condition[name][index][history.mask[index]])


def test_a_history_has_the_feedback_and_a_row_does_not(data: RankingData) -> None:
    config = data.config("din", True)
    assert "feedback" in [spec.name for spec in config.behaviour]
    assert "condition.feedback" not in [spec.name for spec in config.features]
    assert {"user.age", "condition.scene", "context.position"} <= {spec.name for spec in config.features}


@pytest.mark.parametrize("item_activity", [True, False])
def test_network_rankers_read_the_activity_of_items_if_they_are_asked_to(
    dataset: Dataset, settings: RankSettings, item_activity: bool
) -> None:
    data = RankingData(dataset, settings.model_copy(update={"item_activity": item_activity}))
    rows = data.rows["valid"]
    features = data.batch(rows, torch.arange(len(rows)), data.config("dnn", False)).features
    names = [spec.name for spec in data.config("dnn", False).features]
    assert ("activity.item" in names) == ("activity.item" in features) == item_activity
    if item_activity:
        activity = ItemActivity([dataset.sequences])
        expected = [
            activity.features(rows.item[index : index + 1].numpy(), rows.time[index : index + 1].numpy())[0]
            for index in range(len(rows))
        ]
        assert features["activity.item"].numpy() == pytest.approx(np.array(expected) / 10)
        matrix = HandFeatures(data, data.config("lightgbm", False))(rows)
        assert not any(name.startswith("activity") for name in matrix.names)  # trees have columns of their own


def test_events_from_the_second_of_a_row_on_change_no_activity(dataset: Dataset, settings: RankSettings) -> None:
    data = RankingData(dataset, settings.model_copy(update={"item_activity": True}))
    rows, sequences = data.rows["test"], dataset.sequences
    for index in (0, len(rows) // 2, len(rows) - 1):
        changed = Dataset(dataset.path)
        later = sequences.time >= int(rows.time[index])
        assert later.any()
        item = np.where(later, sequences.item % 3 + 1, sequences.item)
        changed.__dict__["sequences"] = dataclasses.replace(sequences, item=item)
        other = RankingData(changed, data.settings)
        own, same = (
            each.batch(each.rows["test"], torch.tensor([index]), each.config("dnn", False)).features["activity.item"]
            for each in (data, other)
        )
        assert own.equal(same)
        if index:
            assert own.any()


@pytest.mark.parametrize(
    ("where", "message"),
    [({"mood": ["good"]}, "'mood' is not a categorical condition field"), ({"feedback": ["clik"]}, "no value 'clik'")],
)
def test_unknown_fields_and_values_of_history_where_are_refused(
    where: dict[str, list[str]], message: str, dataset: Dataset, settings: RankSettings
) -> None:
    with pytest.raises(InputError, match=message):
        RankingData(dataset, settings.model_copy(update={"history_where": where}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seeds": [1, 1]}, "duplicate entry"),
        ({"rankers": []}, "rankers"),
        ({"rankers": ["dinn"]}, "unknown ranker .dinn.; did you mean .dnn.. Choose from dnn, dcnv2, din"),
        ({"hidden": [0]}, "hidden"),
        ({"history_where": {}}, "at least one condition field"),
        ({"knowledge": {"directt": True}}, "did you mean 'direct'"),
    ],
)
def test_wrong_settings_are_explained(content: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(content, RankSettings, where="test.yaml")
