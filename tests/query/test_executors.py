"""Several processes and a Ray cluster write the same parts as one process, also if processes are killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.artefact.directory import files_of
from openlum.artefact.verify import verify
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings

from .test_bulk import QUESTIONS, model
from .test_shards import assert_same_answers, run

__all__ = ["model"]
"""A fixture."""

SETTINGS = QuerySettings(questions=QUESTIONS, rows_per_part=13, batch_events=40)
SCRIPT = """
import sys, time
from openlum.query import writer
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings

write = writer.PartStore.write

def write_slowly(store, name, table):
    write(store, name, table)
    time.sleep(1)

writer.PartStore.write = write_slowly
query(*sys.argv[1:4], QuerySettings.model_validate_json(sys.argv[4]))
"""


def table_of(knowledge: Path) -> pa.Table:
    return pq.read_table(knowledge / "impressions").sort_by("row")


def saved(model: LargeUserModel, directory: Path) -> Path:
    model.save_pretrained(directory / "model")
    return directory / "model"


def test_a_killed_process_is_resumed_with_its_missing_parts_only(
    sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path
) -> None:
    expected = run(sharded_dataset, model, tmp_path, SETTINGS)
    out = tmp_path / "killed" / "knowledge"
    arguments = [str(path) for path in (sharded_dataset.path, tmp_path / "model", out)]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments, SETTINGS.model_dump_json()])
    work = out.with_name("knowledge.work")
    try:
        while len(list(work.glob("*/part-*.parquet"))) < 3:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = {file.name: file.stat() for file in work.glob("*/part-*.parquet")}
    assert not out.exists()
    query(sharded_dataset.path, tmp_path / "model", out, SETTINGS)
    parts = out / "impressions"
    assert 3 <= len(finished) < len(files_of(parts))
    for name, before in finished.items():  # links to the files of the killed process
        assert (parts / name).stat().st_ino == before.st_ino
        assert (parts / name).stat().st_mtime_ns == before.st_mtime_ns
    assert table_of(out).equals(expected)
    assert verify(out)
    assert not work.exists()


def test_processes_write_the_same_parts(sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path) -> None:
    expected = run(sharded_dataset, model, tmp_path, SETTINGS)
    out = tmp_path / "processes"
    query(sharded_dataset.path, tmp_path / "model", out, SETTINGS, processes=2)
    assert_same_answers(table_of(out), expected)
    assert files_of(out / "impressions") == files_of(tmp_path / "knowledge" / "impressions")


def test_an_unknown_engine_is_refused(sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown engine 'spark'; choose from local, ray"):
        query(sharded_dataset.path, saved(model, tmp_path), tmp_path / "out", SETTINGS, engine="spark")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, with a connection to it."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_a_ray_cluster_writes_the_same_parts_also_if_a_worker_is_killed(
    sharded_dataset: Dataset, model: LargeUserModel, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process that answers a task kills itself. The cluster has two nodes, and both answer."""
    from openlum.query import executors

    assert len([node for node in cluster.nodes() if node["Alive"]]) == 2
    expected = run(sharded_dataset, model, tmp_path, SETTINGS)
    killed, nodes = tmp_path / "killed", tmp_path / "nodes"
    nodes.mkdir()
    work = executors.write_share_of_run

    def kill_once(run: Any, directory: Path, task: Any) -> Any:
        import ray

        (nodes / ray.get_runtime_context().get_node_id()).touch()
        parts = work(run, directory, task)
        try:
            killed.touch(exist_ok=False)
        except FileExistsError:
            return parts
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    monkeypatch.setattr(executors, "write_share_of_run", kill_once)
    out = tmp_path / "by ray"
    query(sharded_dataset.path, tmp_path / "model", out, SETTINGS, engine="ray")
    assert killed.exists()
    assert len(list(nodes.iterdir())) == 2
    assert_same_answers(table_of(out), expected)
    assert files_of(out / "impressions") == files_of(tmp_path / "knowledge" / "impressions")
    assert verify(out)
