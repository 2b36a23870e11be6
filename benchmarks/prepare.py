"""Time and memory of `lum prepare`, against a bare sort of the same log.

    python benchmarks/prepare.py --events 1e6 1e7 1e8 --json OUT.json

The log is simulated: about 100 events a user, half as many items as users, three condition fields, in the order of time.
The reference, measured in the same run just before ours, is DuckDB reading that log, sorting it by (user, time) and writing
Parquet, with the same memory limit and threads. Each is a process of its own; a size runs `--repeats` times and the median
counts. With `--spark`, that size is prepared on Spark (local mode) too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from openlum.artefact.directory import write_json
from openlum.pipeline.summary import environment
from openlum.training.memory import peak_memory_bytes

SCHEMA = """\
name: benchmark
events:
  path: {log}
  user: user_id
  item: item_id
  time: time
  condition: {{scenario: {{}}, query: {{}}, feedback: {{feedback: true}}}}
engine: {{name: {engine}, memory: {memory}, threads: {threads}, spark: {spark}}}
"""


def simulate(events: int, work: Path) -> Path:
    """The log of a size, ordered by time; made once."""
    log = work / f"log-{events}.parquet"
    if not log.exists():
        from openlum.sources.market.settings import market_of_size
        from openlum.sources.market.write import write_market

        users = max(events // 100, 100)
        write_market(market_of_size(users, events, max(users // 2, 1500), 60, 0), work / "market")
        with duckdb.connect(config={"temp_directory": str(work / "spill"), "memory_limit": "4GB"}) as connection:
            rows = connection.read_parquet(str(work / "market" / "events.parquet"))
            rows.order("time, user_id, item_id").write_parquet(str(log))
    return log


def reference(log: Path, out: Path, memory: str, threads: int) -> None:
    """Read, sort by user and time, write."""
    settings = {"memory_limit": memory, "threads": threads, "temp_directory": str(out / "spill")}
    with duckdb.connect(config=settings) as connection:
        connection.read_parquet(str(log)).order("user_id, time").write_parquet(str(out / "sorted.parquet"))


def ours(log: Path, out: Path, memory: str, threads: int, engine: str) -> None:
    """`lum prepare`."""
    from openlum.prepare.run import prepare

    schema = out / "schema.yaml"
    spark = {
        "spark.master": f"local[{threads}]",
        "spark.driver.memory": memory.removesuffix("B").lower(),
        "spark.sql.shuffle.partitions": "64",
    }
    text = SCHEMA.format(log=log, engine=engine, memory=memory, threads=threads, spark=json.dumps(spark))
    schema.write_text(text, encoding="utf-8")
    prepare(schema, out / "dataset")


def measure(what: str, log: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak memory of one process, imports left out."""
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        command = [sys.executable, __file__, "--one", what, str(log), out]
        command += ["--memory", args.memory, "--threads", str(args.threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(events: int, args: argparse.Namespace) -> dict[str, Any]:
    """Reference and ours in turn, `repeats` times."""
    import pyarrow.parquet as pq

    log = simulate(events, args.work)
    rows = pq.read_metadata(log).num_rows
    kinds = ["reference", "duckdb"] + (["spark"] if args.spark == events else [])
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(args.repeats):
        for kind in kinds:
            found[kind].append(measure(kind, log, args))
            print(f"{rows:>12,} events  {kind:10} {found[kind][-1]}", file=sys.stderr, flush=True)
    seconds = {kind: statistics.median(run["seconds"] for run in runs) for kind, runs in found.items()}
    return {
        "events": rows,
        "seconds": seconds,
        "runs": found,
        "events_per_second": rows / seconds["duckdb"],
        "microseconds_per_event": 1e6 * seconds["duckdb"] / rows,
        "peak_memory_bytes": {kind: max(run["peak_memory_bytes"] for run in runs) for kind, runs in found.items()},
        "ratio_to_reference": seconds["duckdb"] / seconds["reference"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--spark", type=float, help="also prepare this size on Spark")
    parser.add_argument("--memory", default="4GB", help="DuckDB's limit; Spark's driver memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lum-benchmark")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "LOG", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, log, out = args.one[0], Path(args.one[1]), Path(args.one[2])
        began = time.perf_counter()
        if what == "reference":
            reference(log, out, args.memory, args.threads)
        else:
            ours(log, out, args.memory, args.threads, what)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": round(seconds, 2), "peak_memory_bytes": peak_memory_bytes()}))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    sizes = [compare(int(events), args) for events in args.events]
    print(
        f"{'events':>12} {'events/s':>10} {'us/event':>9} {'peak MB':>8} {'reference s':>12} {'ours s':>8} {'ratio':>6}"
    )
    for size in sizes:
        print(
            f"{size['events']:>12,} {size['events_per_second']:>10,.0f} {size['microseconds_per_event']:>9.2f} "
            f"{size['peak_memory_bytes']['duckdb'] / 1e6:>8,.0f} {size['seconds']['reference']:>12.1f} "
            f"{size['seconds']['duckdb']:>8.1f} {size['ratio_to_reference']:>6.2f}"
        )
        if "spark" in size["seconds"]:
            print(f"{'Spark':>12} {size['seconds']['spark']:.1f} s")
    if args.json:
        settings = {"memory": args.memory, "threads": args.threads, "repeats": args.repeats}
        write_json(args.json, {"sizes": sizes, "settings": settings, "environment": environment()})


if __name__ == "__main__":
    main()
