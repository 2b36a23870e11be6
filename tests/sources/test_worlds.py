"""The simulated worlds are reproducible and calibrated, and their files have the characteristics that they stand for."""

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from openlum.config import load_settings
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.schema import Schema
from openlum.sources.market.settings import SIZES, MarketSettings, WorldName, WorldSettings, world_of_size
from openlum.sources.market.worlds import WORLDS
from openlum.sources.market.write import market_figures, write_market

SMALL = {
    "shop": world_of_size("shop", users=800, items=4000, seed=3),
    "news": world_of_size("news", users=800, seed=3),
    "travel": world_of_size("travel", users=400, seed=3),
}
# SHA-256 of the rows of each file of a small marketplace, from before there were other worlds.
MARKET_ROWS = {
    "events": "f5556473b73623b99b96fd4dcd5ec1c0acdb505de5a9882ad548177af0735f55",
    "impressions": "63a9123db8fb8a5512cf27a05f67746570c08966b0e62c25afaedbb14bb8c687",
    "items": "af6dcd7c959bddd0c1494a6832f898b0a7131fb3b53e42103cfacda602166401",
    "users": "0dc5cc4c7b7112a7ae0586bc83255a98fc7d99bdef0596dfd4998c2ae0f8c104",
    "truth": "533d16fe8a4e1720333d397dffbbc663cb580efcb51e7df34b20c1f7f3e8909f",
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the directory of a small log of each world."""
    directory = tmp_path_factory.mktemp("worlds")
    return {world: write_market(settings, directory / world).parent for world, settings in SMALL.items()}


@pytest.fixture(params=list(SMALL))
def log(logs: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """Return the directory of one of the logs; its name is the world."""
    return logs[request.param]


def columns_of(file: Path) -> dict[str, np.ndarray]:
    """Return the columns of a table; times in seconds since 1970."""
    table = pq.read_table(file)
    seconds = (
        table["time"].cast(pa.timestamp("s")).cast(pa.int64()).to_numpy() if "time" in table.column_names else None
    )
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "time"}
    return columns | ({} if seconds is None else {"time": seconds})


def clicks_of(log: Path) -> dict[str, np.ndarray]:
    """Return user, item and time of the clicks, ordered by user and time."""
    columns = columns_of(log / "impressions.parquet")
    is_clicked = columns["label"] == 1
    return {name: columns[name][is_clicked] for name in ("user_id", "item_id", "time")}


def rows_of(file: Path) -> str:
    """Return the SHA-256 of the rows of a Parquet file, whatever version of Arrow and whatever processor wrote it."""
    return hashlib.sha256(pq.read_table(file).to_pandas().to_csv(index=False, float_format="%.6f").encode()).hexdigest()


def test_the_marketplace_stays_as_it_is(tmp_path: Path) -> None:
    settings = MarketSettings(users=40, items=200, sessions=4, seed=5, users_per_chunk=15)
    market = write_market(settings, tmp_path / "log").parent
    assert {name: rows_of(market / f"{name}.parquet") for name in MARKET_ROWS} == MARKET_ROWS


def test_every_world_has_a_size_and_a_kind() -> None:
    assert set(get_args(WorldName)) == set(SIZES) == set(WORLDS)
    assert isinstance(world_of_size("market"), MarketSettings)
    assert isinstance(world_of_size("shop"), WorldSettings)


def test_chunks_and_processes_do_not_change_ids(log: Path, tmp_path: Path) -> None:
    settings = SMALL[log.name].model_copy(update={"users_per_chunk": 150})
    one, two = (write_market(settings, tmp_path / str(processes), processes).parent for processes in (1, 2))
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes(), file.name
    rows = columns_of(one / "impressions.parquet")
    np.testing.assert_array_equal(rows["row"], np.arange(len(rows["row"])))
    assert set(np.diff(rows["request_id"])) == {0, 1}
    assert set(rows["user_id"]) == set(range(1, settings.users + 1))


def test_same_settings_write_identical_files_and_another_seed_others(log: Path, tmp_path: Path) -> None:
    again = write_market(SMALL[log.name], tmp_path / "again").parent
    other = write_market(SMALL[log.name].model_copy(update={"seed": 4}), tmp_path / "other").parent
    for file in log.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    for name in ("items", "impressions"):
        assert not pq.read_table(other / f"{name}.parquet").equals(pq.read_table(log / f"{name}.parquet"))


def test_labels_agree_with_the_true_probabilities_in_every_decile(log: Path) -> None:
    label = columns_of(log / "impressions.parquet")["label"]
    probability = columns_of(log / "truth.parquet")["probability"]
    for part in np.array_split(np.argsort(probability), 10):
        p = probability[part]
        error = (label[part] - p).sum() / np.sqrt((p * (1 - p)).sum())
        assert abs(error) < 4.5, "more than 4.5 standard errors off"
    assert 0.75 < roc_auc_score(label, probability) < 0.93


def test_a_request_has_one_user_one_time_and_different_items(log: Path) -> None:
    rows = columns_of(log / "impressions.parquet")
    request = rows["request_id"]
    first = np.flatnonzero(np.diff(request, prepend=-1))
    for name in ("user_id", "time"):
        np.testing.assert_array_equal(rows[name], rows[name][first][request])
    assert len(np.unique(request.astype(np.int64) * 10**6 + rows["item_id"])) == len(request)
    keys = np.stack([rows["user_id"], rows["time"]])[:, first]
    assert np.unique(keys, axis=1).shape[1] == len(first), "two requests of a user have one time"
    size, clicks = np.bincount(request), np.bincount(request, rows["label"])
    smallest, largest, most_clicks = {"shop": (5, 5, 1), "news": (10, 20, 20), "travel": (10, 10, 1)}[log.name]
    assert smallest <= size.min() <= size.max() <= largest
    assert clicks.max() <= most_clicks
    assert 0.4 < clicks.mean() < 2.5


def test_events_are_the_clicks_or_all_impressions(log: Path) -> None:
    events, impressions = (pq.read_table(log / f"{name}.parquet") for name in ("events", "impressions"))
    if log.name != "travel":
        assert "feedback" not in events.column_names
        impressions = impressions.filter(pc.equal(impressions["label"], 1))
    for name in {*events.column_names} - {"feedback"}:
        assert events[name].equals(impressions[name]), name
    if log.name == "travel":
        feedback = events["feedback"].to_numpy()
        np.testing.assert_array_equal(feedback != "skip", impressions["label"].to_numpy() == 1)
        assert set(feedback) == {"skip", "click", "booking"}


def test_prepare_accepts_the_schema_and_all_rows(log: Path, tmp_path: Path) -> None:
    prepare = pytest.importorskip("openlum.prepare.run")
    prepare.prepare(log / "schema.yaml", tmp_path / "dataset")
    dataset = Dataset(tmp_path / "dataset")
    figures = market_figures(log)
    assert sum(len(dataset.impressions(split).row) for split in SPLITS) == figures.impressions
    assert len(dataset.sequences.item) == figures.events
    assert sum(dataset.info.rejected.values()) == 0


def test_schema_has_a_comment_on_every_key_and_no_true_probabilities(log: Path) -> None:
    text = (log / "schema.yaml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert [line for line in lines if "#" not in line and not line.strip().startswith(("type:", "features:"))] == []
    schema = load_settings(log / "schema.yaml", Schema)
    tables = [table for table in (schema.events, schema.items, schema.users, schema.impressions) if table]
    assert all("probability" not in pq.read_schema(log / table.path).names for table in tables)


@pytest.mark.parametrize("world", list(SMALL))
def test_default_size_is_between_20_and_200_thousand_events(world: WorldName, logs: dict[str, Path]) -> None:
    figures = market_figures(logs[world])
    requested = SMALL[world].users * SMALL[world].events_per_user
    assert 0.8 * requested < figures.events < 1.25 * requested
    assert 20_000 <= SIZES[world].users * SIZES[world].events_per_user <= 200_000


def test_shop_is_sparse_with_a_long_tail_and_seasons(logs: dict[str, Path]) -> None:
    clicks = clicks_of(logs["shop"])
    events_of_user = np.bincount(clicks["user_id"])[1:]
    assert 4 <= np.median(events_of_user) <= 6
    events_of_item = np.sort(np.bincount(clicks["item_id"], minlength=4001)[1:])[::-1]
    assert events_of_item[:800].sum() > 0.6 * events_of_item.sum(), "a fifth of the items sell most"
    assert (events_of_item < 5).mean() > 0.7
    # The category of a purchase depends on the season: the half-years differ in their best categories.
    category = pq.read_table(logs["shop"] / "items.parquet")["category"].to_numpy()[clicks["item_id"] - 1]
    is_early = clicks["time"] < np.median(clicks["time"])
    names = np.unique(category)
    share = np.array([[(category[half] == name).mean() for name in names] for half in (is_early, ~is_early)])
    assert (share.max(axis=0) > 1.5 * share.min(axis=0)).mean() > 0.4


def test_news_clicks_decay_within_hours_and_break_unannounced(logs: dict[str, Path]) -> None:
    clicks = clicks_of(logs["news"])
    order = np.argsort(clicks["time"])
    item, time = clicks["item_id"][order], clicks["time"][order]
    train, test = slice(None, int(0.8 * len(item))), slice(int(0.9 * len(item)), None)
    assert (~np.isin(item[test], item[train])).mean() > 0.9, "most test clicks are on articles without training events"
    first_click = np.full(item.max() + 1, time.max())
    np.minimum.at(first_click, item, time)
    age = (time - first_click[item]) / 3600
    clicks_of_hours = np.array([((age >= hour) & (age < hour + 3)).sum() for hour in (3, 6, 9, 12)])
    half_life = 3 * np.log(2) / np.log(clicks_of_hours[:-1] / clicks_of_hours[1:])
    assert (half_life > 2).all()
    assert (half_life < 9).all()
    clicks_of_article = np.sort(np.bincount(item, minlength=2201)[1:])[::-1]
    assert clicks_of_article[:110].sum() > 0.25 * clicks_of_article.sum(), "a twentieth of the articles breaks"


def test_news_popularity_shows_in_recent_clicks_only(logs: dict[str, Path]) -> None:
    clicks = clicks_of(logs["news"])
    order = np.argsort(clicks["time"])
    item, time = clicks["item_id"][order], clicks["time"][order]

    def hit_rate(window: int) -> float:
        """Return how often one of the 10 articles with most clicks in the last `window` seconds is clicked."""
        start = np.searchsorted(time, time - window)
        hits = []
        for now in range(int(0.9 * len(item)), len(item)):
            articles, counts = np.unique(item[start[now] : now], return_counts=True)
            hits.append(item[now] in articles[np.argsort(-counts, kind="stable")[:10]])
        return float(np.mean(hits))

    assert hit_rate(2 * 3600) > 0.25
    assert hit_rate(10 * 86_400) < 0.05


def test_news_content_is_a_vector_close_to_the_subcategory(logs: dict[str, Path]) -> None:
    items = pq.read_table(logs["news"] / "items.parquet")
    vector = np.stack(items["content"].to_numpy())
    topic = np.unique(items["subcategory"].to_numpy(), return_inverse=True)[1]
    similarity = vector @ vector.T
    is_same = topic[:, None] == topic
    assert similarity[is_same].mean() > similarity[~is_same].mean() + 0.3


def test_most_clicks_of_travel_are_on_a_hotel_clicked_before(logs: dict[str, Path]) -> None:
    clicks = clicks_of(logs["travel"])
    user, item = clicks["user_id"], clicks["item_id"]
    has_earlier = user[1:] == user[:-1]
    assert 0.42 < (item[1:] == item[:-1])[has_earlier].mean() < 0.6, "HR@1 of repeating the last clicked hotel"
    seen: set[tuple[int, int]] = set()
    is_repeat = []
    for pair in zip(user.tolist(), item.tolist(), strict=True):
        is_repeat.append(pair in seen)
        seen.add(pair)
    assert np.mean(np.array(is_repeat)[1:][has_earlier]) > 0.5


def test_a_search_of_travel_lists_hotels_of_its_destination(logs: dict[str, Path]) -> None:
    rows = columns_of(logs["travel"] / "impressions.parquet")
    city = pq.read_table(logs["travel"] / "items.parquet")["city"].to_numpy()
    np.testing.assert_array_equal(rows["destination"], city[rows["item_id"] - 1])
    first = np.flatnonzero(np.diff(rows["request_id"], prepend=-1))
    np.testing.assert_array_equal(rows["nights"], rows["nights"][first][rows["request_id"]])
    assert rows["nights"].min() >= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"users": 0}, "'users'"),
        ({"users": 100, "events": 99}, "at least 100"),
        ({"items": 99}, "'items'"),
        ({"days": 1}, "'days'"),
    ],
)
def test_a_bad_size_is_refused(settings: dict[str, int], message: str) -> None:
    for world in SMALL:
        with pytest.raises(InputError, match=message):
            world_of_size(world, **settings)


@pytest.mark.parametrize("world", list(SMALL))
def test_smallest_sizes_work(world: WorldName, tmp_path: Path) -> None:
    log = write_market(world_of_size(world, users=3, events=3, items=100, days=2), tmp_path / world).parent
    assert market_figures(log).users == 3
