"""Step 2, knowledge querying, in bulk: a loop over the shards of a dataset that writes `knowledge/`.

During the run, the finished parts lie in the directory `OUT.work`. A run that was interrupted continues there if it is started
again with the same dataset, model and settings.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn

from openlum.arguments.values import as_path, check_kind
from openlum.artefact.directory import check_replaceable, whole_directory
from openlum.artefact.json_file import fingerprint, named_failures, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_progress
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, default_device
from openlum.query.checks import check_knowledge_fits
from openlum.query.settings import QuerySettings
from openlum.query.shard import ShardQuery
from openlum.query.writer import PartStore, part_name, write_part

AS_OF = {
    "impression": "the events strictly before the impression's time",
    "day": "the events before the impression's day (UTC)",
}


def query(dataset_dir: str | Path, model_dir: str | Path, out: str | Path, settings: QuerySettings) -> dict[str, Any]:
    """Answer the questions of every impression and write `knowledge/` with one row per impression.

    Args:
        dataset_dir: from `lum prepare`.
        model_dir: from `lum pretrain`.
        out: the knowledge directory.
        settings: with the questions.

    Returns:
        The section `query` of `summary.json`.

    Raises:
        InputError: if the dataset or a question does not fit the model, or the disk is too full.
    """
    start_time = time.perf_counter()
    dataset_dir, model_dir = as_path("dataset_dir", dataset_dir), as_path("model_dir", model_dir)
    out = as_path("out", out)
    check_kind("settings", settings, QuerySettings)
    dataset = Dataset(dataset_dir)
    model = LargeUserModel.load(model_dir, default_device())
    model.check_compatible(dataset)
    if model.config.protocol == "last":
        raise InputError(
            f"{model_dir}: was trained on events of the test period; pretrain with pretrain.protocol 'time' or 'both' for ranking"
        )
    if model.config.valid_time is not None and model.config.valid_time > dataset.info.valid_time:
        raise InputError(f"{model_dir}: was trained on events of the dataset's validation period; pretrain again")
    query = ShardQuery(model, dataset, settings)
    check_replaceable(out, "knowledge")
    check_knowledge_fits(dataset, settings, model.config.settings.embedding_width, len(query.score_names), out)
    key = fingerprint(step_key("query", settings.model_dump(), {"dataset": dataset_dir, "model": model_dir}))
    work = out.resolve().with_name(out.resolve().name + ".work")
    with locked(out), named_failures(work):
        for other in work.glob("*"):  # of a run with other settings or inputs, which cannot continue
            if other.name != key:
                shutil.rmtree(other)
        store = PartStore(work / key)
        rows = _write_parts(query, dataset, store)
        if rows != dataset.impression_count:
            raise InputError(
                f"{dataset_dir / 'impressions'}: has {rows:,} rows, but dataset.json has {dataset.impression_count:,}; "
                "run 'lum prepare' again"
            )
        seconds = round(time.perf_counter() - start_time, 1)
        with whole_directory(out, "knowledge") as directory:
            store.link_into(directory / "impressions")
            (directory / "items").mkdir()
            write_part(query.item_table(), directory / "items" / "part-00000.parquet")
            write_json(directory / "knowledge.json", _description(query, dataset, rows, seconds))
        shutil.rmtree(work)
    return {"rows": rows, "questions": len(query.questions), "seconds": seconds}


def _write_parts(query: ShardQuery, dataset: Dataset, store: PartStore) -> int:
    """Write the parts of all shards that are not finished, and return the number of rows of all parts."""
    step, columns = query.settings.rows_per_part, ("{task.description}", BarColumn(), TaskProgressColumn())
    with new_progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("query", total=dataset.impression_count, completed=store.rows)
        for number, shard in enumerate(dataset.shards()):
            names = [part_name(number, piece) for piece in range(store.shards.get(shard.name, 0))]
            if shard.name in store.shards and all(name in store.parts for name in names):
                continue
            impressions = query.impressions(shard)
            pieces = [slice(start, start + step) for start in range(0, len(impressions), step)]
            for piece, piece_rows in enumerate(pieces):
                name = part_name(number, piece)
                if name not in store.parts:
                    tables = [query.schema.empty_table()]
                    for table in query.tables(shard, impressions.take(piece_rows)):
                        tables.append(table)
                        bar.advance(task, len(table))
                    store.write(name, pa.concat_tables(tables))
            store.finish_shard(shard.name, len(pieces))
    if not store.parts:  # a reader needs the columns
        store.write(part_name(0, 0), query.schema.empty_table())
    return store.rows


def _description(query: ShardQuery, dataset: Dataset, rows: int, seconds: float) -> dict[str, Any]:
    """Return the content of `knowledge.json`."""
    settings, config, info = query.settings, query.model.config, dataset.info
    return {
        "form": "impression",
        "questions": query.questions.names,
        "fixed_questions": query.questions.fixed_names,
        "feedback_names": query.feedback_names,
        "matched_names": query.matched_names,
        "asked": settings.questions,
        "width": config.settings.embedding_width,
        "dtype": settings.dtype,
        "rows": rows,
        "seconds": seconds,
        "as_of": AS_OF[settings.as_of],
        "model": config.fingerprint,
        "dataset": info.fingerprint,
        "fingerprint": fingerprint(
            config.fingerprint,
            info.fingerprint,
            settings.questions,
            settings.predict_feedback,
            settings.matching_head,
            settings.as_of,
            settings.dtype,
        ),
    }
