"""Retrieval of new items by their fields: recall of items that were held out of training, against random and popularity.

    lum data ml-1m --from DIR --out data/ml-1m
    python benchmarks/cold_items.py data/ml-1m/schema.yaml --json OUT.json

A hash of the raw id makes a tenth of the items cold. If at least two events with other items precede a user's last event with a
cold item, the log of the user ends with that event, and the user's earlier events with cold items are removed. So the held-out
event has a cold item. All events of other users with cold items are removed. So no cold item has a training event. The model is
trained with the defaults (protocol `last`), then `lum retrieve` ranks all items, and the cold items alone. Popularity counts the
events before the moment that are left in the log: of a cold item, those with which the logs of other users end.
"""

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from openlum.artefact.json_file import read_json, write_json
from openlum.data.dataset import Dataset
from openlum.model import ModelSettings
from openlum.pipeline.summary import environment
from openlum.prepare.run import prepare
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.train import pretrain
from openlum.retrieve.evaluate import retrieve
from openlum.retrieve.settings import RetrieveSettings

SHARE, AT = 0.1, [10, 50, 200]


def is_cold(item: Any) -> bool:
    """Return whether the hash of a raw id makes an item cold."""
    return int(hashlib.md5(str(item).encode(), usedforsecurity=False).hexdigest()[:8], 16) < SHARE * 16**8


def cut_log(events: pa.Table, user: str, item: str, time: str) -> pa.Table:
    """Return the events that are left, see above. The names are those of the columns."""
    order = np.lexsort((np.arange(len(events)), events[time].to_numpy(), events[user].to_numpy()))
    users = events[user].to_numpy()[order]
    items, number = np.unique(events[item].to_numpy(), return_inverse=True)
    cold = np.array([is_cold(raw) for raw in items.tolist()])[number][order]
    kept = ~cold
    first = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    for begin, end in zip(first, [*first[1:], len(users)], strict=True):
        last = begin + np.flatnonzero(cold[begin:end])[-1:]  # the last cold event, if there is one
        if len(last) and (~cold[begin : last[0]]).sum() >= 2:
            kept[last[0]] = True
            kept[last[0] + 1 : end] = False
    return events.take(pa.array(np.sort(order[kept])))


def main() -> None:
    """Cut the log, train a model, and evaluate it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schema", type=Path, help="schema of a log in Parquet, with an item table")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--users", type=int, help="number of users, drawn at random (default: all)")
    parser.add_argument("--epochs", type=int, help="passes over the events (default: planned from the log)")
    arguments = parser.parse_args()
    schema = yaml.safe_load(arguments.schema.read_text(encoding="utf-8"))
    folder, columns = arguments.schema.resolve().parent, schema["events"]
    schema.pop("impressions", None)  # retrieval needs events only
    schema.pop("impressions_from_events", None)
    for table in ("items", "users"):
        if table in schema:
            schema[table]["path"] = str(folder / schema[table]["path"])
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        events = pq.read_table(folder / columns["path"])
        if arguments.users:
            every = np.unique(events[columns["user"]].to_numpy())
            chosen_users = np.random.default_rng(0).choice(every, arguments.users, replace=False)
            events = events.filter(pa.array(np.isin(events[columns["user"]].to_numpy(), chosen_users)))
        pq.write_table(cut_log(events, columns["user"], columns["item"], columns["time"]), directory / "events.parquet")
        columns["path"] = "events.parquet"
        (directory / "schema.yaml").write_text(yaml.safe_dump(schema, sort_keys=False), encoding="utf-8")
        prepare(directory / "schema.yaml", directory / "dataset")
        chosen = {} if arguments.epochs is None else {"epochs": arguments.epochs}
        settings = PretrainSettings.model_validate({"protocol": "last", **chosen})
        pretrain(directory / "dataset", directory / "model", ModelSettings(), settings)
        retrieve(directory / "dataset", directory / "model", directory / "retrieval", RetrieveSettings(at=AT))
        metrics = read_json(directory / "retrieval" / "metrics.json", "lum retrieve")
        counts = Dataset(directory / "dataset").info.counts
        training = read_json(directory / "model" / "pretrain.json", "lum pretrain")
    cold = metrics["cold_items"]
    print(f"{schema['name']}: {cold['users']:,} users, {cold['candidates']:,} cold items of {counts['items']:,}")
    for place in ("among_cold", "among_all"):
        for method, values in cold[place].items():
            print(f"{place:12} {method:20} " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
    if arguments.json:
        content = {"benchmark": "cold_items", "dataset": schema["name"], "share": SHARE, "counts": counts}
        details = {"training": training, "protocol": metrics["protocol"], "environment": environment()}
        write_json(arguments.json, content | {"cold_items": cold} | details)


if __name__ == "__main__":
    main()
