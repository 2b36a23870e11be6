"""Time and memory of `lum prepare`, against a bare sort of the same log.

    python benchmarks/prepare.py --events 1e6 1e7 1e8 --json OUT.json

The log is simulated: about 100 events per user, half as many items as users, three condition fields, in the order of time. The
reference is DuckDB: it reads the log, sorts it by (user, time) and writes Parquet, with the same memory limit and threads. It
runs just before `lum prepare`. Each measurement has its own process. A size is measured `--repeats` times, and the median is
reported. With `--spark`, the given size is prepared on Spark (local mode) too.
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

from openlum.artefact.json_file import write_json
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
    """Return the log of a size, ordered by time. It is written only once."""
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
    """Read the log, sort it by user and time, and write it."""
    settings = {"memory_limit": memory, "threads": threads, "temp_directory": str(out / "spill")}
    with duckdb.connect(config=settings) as connection:
        connection.read_parquet(str(log)).order("user_id, time").write_parquet(str(out / "sorted.parquet"))


def run_prepare(log: Path, out: Path, memory: str, threads: int, engine: str) -> None:
    """Run `lum prepare` on the log."""
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


def measure(kind: str, log: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return seconds (without imports) and peak memory of one process."""
    with tempfile.TemporaryDirectory(dir=args.work) as out:
        command = [sys.executable, __file__, "--one", kind, str(log), out]
        command += ["--memory", args.memory, "--threads", str(args.threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(events: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the reference and `lum prepare` in alternation, `repeats` times."""
    import pyarrow.parquet as pq

    log = simulate(events, args.work)
    rows = pq.read_metadata(log).num_rows
    kinds = ["reference", "duckdb"] + (["spark"] if args.spark == events else [])
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(args.repeats):
        for kind in kinds:
            runs[kind].append(measure(kind, log, args))
            print(f"{rows:>12,} events  {kind:10} {runs[kind][-1]}", file=sys.stderr, flush=True)
    seconds = {kind: statistics.median(run["seconds"] for run in kind_runs) for kind, kind_runs in runs.items()}
    return {
        "events": rows,
        "seconds": seconds,
        "runs": runs,
        "events_per_second": rows / seconds["duckdb"],
        "microseconds_per_event": 1e6 * seconds["duckdb"] / rows,
        "peak_memory_bytes": {
            kind: max(run["peak_memory_bytes"] for run in kind_runs) for kind, kind_runs in runs.items()
        },
        "ratio_to_reference": seconds["duckdb"] / seconds["reference"],
    }


def main() -> None:
    """Measure every size, print a table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--spark", type=float, help="also prepare this size on Spark")
    parser.add_argument("--memory", default="4GB", help="DuckDB's limit; Spark's driver memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lum-benchmark")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "LOG", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, log, out = args.one[0], Path(args.one[1]), Path(args.one[2])
        began = time.perf_counter()
        if kind == "reference":
            reference(log, out, args.memory, args.threads)
        else:
            run_prepare(log, out, args.memory, args.threads, kind)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": round(seconds, 2), "peak_memory_bytes": peak_memory_bytes()}))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    sizes = [compare(int(events), args) for events in args.events]
    print(
        f"{'events':>12} {'events/s':>10} {'us/event':>9} {'peak MB':>8} {'reference s':>12} {'prepare s':>9} {'ratio':>6}"
    )
    for size in sizes:
        print(
            f"{size['events']:>12,} {size['events_per_second']:>10,.0f} {size['microseconds_per_event']:>9.2f} "
            f"{size['peak_memory_bytes']['duckdb'] / 1e6:>8,.0f} {size['seconds']['reference']:>12.1f} "
            f"{size['seconds']['duckdb']:>9.1f} {size['ratio_to_reference']:>6.2f}"
        )
        if "spark" in size["seconds"]:
            print(f"{'Spark':>12} {size['seconds']['spark']:.1f} s")
    if args.json:
        settings = {"memory": args.memory, "threads": args.threads, "repeats": args.repeats}
        write_json(args.json, {"sizes": sizes, "settings": settings, "environment": environment()})


if __name__ == "__main__":
    main()
