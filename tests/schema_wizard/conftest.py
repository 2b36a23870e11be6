"""Logs of three kinds: a simulated market, a publisher's CSV, and a messy export."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from openlum.sources.market.settings import MarketSettings
from openlum.sources.market.write import write_market


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a simulated market."""
    return write_market(MarketSettings(users=200, items=200, sessions=5), tmp_path_factory.mktemp("m") / "log").parent


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with ratings and movies in the CSV form of MovieLens."""
    folder, rng = tmp_path_factory.mktemp("ml-like"), random.Random(1)
    with (folder / "ratings.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["userId", "movieId", "rating", "timestamp"])
        for row in range(3000):
            out.writerow([row // 50 + 1, rng.randint(1, 200), rng.randint(1, 10) / 2, 1_100_000_000 + 97 * row])
    with (folder / "movies.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["movieId", "title", "genres"])
        for movie in range(1, 190):
            genres = rng.sample(["Action", "Drama", "Comedy", "Sci-Fi"], rng.randint(1, 3))
            out.writerow([movie, f'Movie, "The {movie}" (19{movie % 90 + 10})', "|".join(genres)])
    return folder


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a CSV file with a row number, free text, constants and line ends in its values."""
    path, rng = tmp_path_factory.mktemp("messy") / "export.csv", random.Random(2)
    names = ["", "Customer ID", "SKU", "Created At", "Price (EUR)", "Event Type", "Note", "qty", "Session ID", "const"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.writer(file)
        out.writerow([*names, "yes", "discount", "gap"])
        for row in range(2000):
            moment = datetime(2024, 1, 1) + timedelta(minutes=7 * row)
            price = "" if rng.random() < 0.1 else f"{rng.lognormvariate(3, 1.2):.2f}"
            note = " ".join(rng.choices(["nice", "bad\nline", 'so "so"', "thanks", "a", "lot"], k=9))
            kind = rng.choice(["view", "view", "add_to_cart", "purchase"])
            ids = f"C{rng.randint(1, 90):05d}", f"{rng.randint(1, 99):06d}"
            rest = f"{rng.randint(1, 5)}.0", f"{rng.getrandbits(128):032x}", "web", rng.choice(["true", "false"])
            out.writerow(
                [row, *ids, moment.isoformat() + "Z", price, kind, note, *rest, rng.choice(["0.1", "nan"]), row % 9]
            )
    return str(path)
