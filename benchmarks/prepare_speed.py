"""Fixed costs of `lum prepare`: the whole command on one log, against a bare sort of the same log in a process of its own.

    python benchmarks/prepare_speed.py data/ml-1m/schema.yaml --json OUT.json

The reference is a Python process that imports DuckDB, reads the log's events (Parquet or CSV), sorts them by user and time and
writes Parquet. Both processes are timed from start to end, imports included, in alternation. Seconds of wall time depend on what
else the machine does, so seconds of processor time are reported too. `benchmarks/prepare.py` measures large logs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from openlum.artefact.json_file import write_json
from openlum.config import load_settings
from openlum.pipeline.summary import environment
from openlum.prepare.inputs.paths import find_files
from openlum.schema import Schema

REFERENCE = """
import sys, duckdb
threads, out, user, time, *files = sys.argv[1:]
with duckdb.connect(config={"threads": int(threads)}) as connection:
    read = connection.read_csv if ".csv" in files[0] else connection.read_parquet
    read(files).order(f'"{user}", "{time}"').write_parquet(out)
"""
LUM = "from openlum.cli import main; main()"


def seconds_of(command: list[str]) -> dict[str, float]:
    """Return the wall time and the processor time of a process."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "processor": processor}


def compare(schema: Path, threads: int, repeats: int) -> dict[str, Any]:
    """Return the medians of both commands, measured in alternation, and their ratios."""
    log = load_settings(schema, Schema).events
    files = [str(file) for file in find_files(schema.parent, log.path)]
    runs: dict[str, list[dict[str, float]]] = {"reference": [], "prepare": []}
    with tempfile.TemporaryDirectory() as work:
        names = str(threads), f"{work}/sorted.parquet", log.user, log.time, *files
        commands = {
            "reference": [sys.executable, "-c", REFERENCE, *names],
            "prepare": [sys.executable, "-c", LUM, "prepare", str(schema), "--out", f"{work}/dataset"],
        }
        for _ in range(repeats + 1):
            for name, command in commands.items():
                runs[name].append(seconds_of(command))
    medians = {
        name: {kind: round(statistics.median(run[kind] for run in timed[1:]), 3) for kind in ("wall", "processor")}
        for name, timed in runs.items()  # without the first run, a warm-up
    }
    ratios = {kind: round(medians["prepare"][kind] / medians["reference"][kind], 1) for kind in ("wall", "processor")}
    return {"seconds": medians, "ratio_to_reference": ratios}


def main() -> None:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schema", type=Path, help="schema of a log, such as the output of 'lum data ml-1m'")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the reference")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = compare(args.schema, args.threads, args.repeats)
    print(f"{'seconds':12} {'reference':>10} {'prepare':>10} {'ratio':>7}")
    for kind, ratio in result["ratio_to_reference"].items():
        numbers = (result["seconds"][name][kind] for name in ("reference", "prepare"))
        print(f"{kind:12} {''.join(f'{number:>10.2f} ' for number in numbers)}{ratio:>7}")
    if args.json:
        settings = {"log": load_settings(args.schema, Schema).name, "threads": args.threads, "repeats": args.repeats}
        write_json(
            args.json, {"benchmark": "prepare_speed", **result, "settings": settings, "environment": environment()}
        )


if __name__ == "__main__":
    main()
