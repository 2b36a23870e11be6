"""A small simulated log with a planted signal, prepared as a dataset, and knowledge that has the signal.

The label depends on the item's quality and on whether the item's colour is the user's taste. No feature gives the taste: it
shows in the history alone.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openlum.artefact.json_file import write_json
from openlum.data.dataset import SPLITS, Dataset
from openlum.prepare.run import prepare
from tests.prepare.logs import START, write_log

COLOURS = ["red", "green", "blue"]
USERS, ITEMS, ROUNDS = 75, 30, 80


def write_planted_dataset(directory: Path, seed: int = 0, events_per_part: int = 2**20) -> Path:
    """Write a log in which every user sees one item each hour, prepare it, and return the dataset directory."""
    rng = np.random.default_rng(seed)
    user = np.tile(np.arange(USERS), ROUNDS)
    item = rng.integers(ITEMS, size=USERS * ROUNDS)
    time = START + 3600 * np.repeat(np.arange(ROUNDS), USERS) + user
    probability = _click_probability(user, item)
    label = (rng.random(len(user)) < probability).astype(np.int64)
    ids = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item], "time": time}
    scene = rng.choice(["home", "search"], len(user)).tolist()
    log = write_log(
        directory / "log",
        {
            "events": {**ids, "scene": scene, "feedback": np.where(label, "click", "skip").tolist()},
            "impressions": {**ids, "scene": scene, "label": label, "position": rng.random(len(user))},
            "items": {"item": [f"i{i}" for i in range(ITEMS)], "colour": [COLOURS[i % 3] for i in range(ITEMS)]},
            "users": {"user": [f"u{u}" for u in range(USERS)], "age": [str(u % 5) for u in range(USERS)]},
        },
        events={
            "path": "events.parquet",
            "user": "user",
            "item": "item",
            "time": "time",
            "condition": {"scene": {}, "feedback": {"feedback": True}},
        },
        impressions={
            "path": "impressions.parquet",
            "user": "user",
            "item": "item",
            "time": "time",
            "label": "label",
            "context": {"position": {"type": "numeric"}},
        },
        items={"path": "items.parquet", "id": "item", "features": {"colour": {}}},
        users={"path": "users.parquet", "id": "user", "features": {"age": {}}},
        splits={"valid": 0.6, "test": 0.8},
        engine={"events_per_part": events_per_part},
    )
    prepare(log, directory / "dataset")
    return directory / "dataset"


def write_knowledge(
    directory: Path,
    dataset: Dataset,
    informed: bool = True,
    width: int = 4,
    seed: int = 0,
    matched: dict[str, float] | None = None,
) -> Path:
    """Write answers in random order and two parts, and return the directory. Scores are noise, plus the true signal if
    `informed`. `matched` has the weight of the signal in the matching head's predictions, by tier."""
    rng = np.random.default_rng(seed)
    rows = [dataset.impressions(split) for split in SPLITS]
    row, user, item = (
        np.concatenate([getattr(impressions, name) for impressions in rows]) for name in ("row", "user", "item")
    )
    signal = true_probability(dataset, user, item) - 0.5
    noise = rng.normal(size=(len(row), 2))
    scores = np.stack([signal, -signal], 1) * informed + 0.1 * noise
    answers = rng.normal(size=(len(row), 2, width)).astype(np.float16)
    (directory / "impressions").mkdir(parents=True)
    (directory / "items").mkdir()
    for part, index in enumerate(np.array_split(rng.permutation(len(row)), 2)):
        columns: dict[str, pa.Array] = {"row": pa.array(row[index])}
        for question, name in enumerate(["like", "dislike"]):
            flat = pa.array(answers[index, question].ravel())
            columns[f"answer.{name}"] = pa.FixedSizeListArray.from_arrays(flat, width)
            columns[f"similarity.{name}"] = pa.array(scores[index, question].astype(np.float32))
        for tier, weight in (matched or {}).items():
            columns[f"{tier}.feedback=click"] = pa.array(
                (weight * signal + 0.1 * noise[:, 0])[index].astype(np.float32)
            )
        pq.write_table(pa.table(columns), directory / "impressions" / f"part-{part:05d}.parquet")
    items = rng.normal(size=(len(dataset.vocabulary("items")), width)).astype(np.float16)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(items.ravel()), width)
    pq.write_table(
        pa.table({"id": np.arange(len(items), dtype=np.int32), "embedding": embedding}),
        directory / "items" / "part-00000.parquet",
    )
    content = {
        "form": "impression",
        "questions": ["like", "dislike"],
        "fixed_questions": ["like"],
        "feedback_names": [],
        "matched_names": [f"{tier}.feedback=click" for tier in matched or {}],
        "width": width,
        "dtype": "float16",
        "model": "m",
    }
    write_json(directory / "knowledge.json", content | {"dataset": dataset.info.fingerprint, "rows": len(row)})
    return directory


def true_probability(dataset: Dataset, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return the true probability of a click, for user and item ids of the dataset."""
    raw_user = [int(value[1:]) for value in dataset.vocabulary("users").decode(user)]
    raw_item = [int(value[1:]) for value in dataset.vocabulary("items").decode(item)]
    return _click_probability(np.array(raw_user), np.array(raw_item))


def _click_probability(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    return 0.1 + 0.6 * (user % 3 == item % 3) + 0.25 * (item // 3 / (ITEMS // 3))
