"""The steps of the paradigm as Python functions: a path or an object in, an object out.

    import openlum as ol

    dataset = ol.prepare(events, items, impressions=impressions, schema="schema.yaml", out="shop/dataset")
    model = ol.pretrain(dataset, "shop/model", epochs=3)
    knowledge = ol.query(dataset, model, "shop/knowledge", questions={"click": {"feedback": "click"}})
    ranking = ol.rank(dataset, knowledge, "shop/ranker", rankers=["din"])

Every function does the same as the command of `lum` with its name. Heavy libraries are imported when a function needs them.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from openlum.arguments.frames import is_frame, tables_on_disk
from openlum.arguments.values import as_path, as_path_or_none, shown
from openlum.config import Settings, parse_settings, with_overrides
from openlum.console import new_console, output
from openlum.data.dataset import Dataset
from openlum.data.knowledge import Knowledge
from openlum.errors import InputError
from openlum.results import Ranking, Retrieval, Run
from openlum.schema import Schema
from openlum.yaml_file import Document, dump_yaml, parse_yaml, read_yaml

if TYPE_CHECKING:
    from openlum.model.large_user_model import LargeUserModel
    from openlum.model.settings import ModelSettings
    from openlum.pipeline.experiment import Experiment
    from openlum.pretrain.settings import PretrainSettings
    from openlum.query.settings import QuerySettings
    from openlum.rank.settings import RankSettings
    from openlum.retrieve.settings import RetrieveSettings

S = TypeVar("S", bound=Settings)


def prepare(
    events: Any = None,
    items: Any = None,
    users: Any = None,
    impressions: Any = None,
    schema: str | Path | Schema | Mapping[str, Any] | None = None,
    out: str | Path = "dataset",
    progress: bool = True,
) -> Dataset:
    """Turn an event log and its tables into a dataset, as `lum prepare` does.

    A table is a path (a file, a directory or a pattern, Parquet or CSV) or a frame in memory: Arrow, pandas or Polars. A frame is
    written to Parquet beside `out` meanwhile, or in `engine.scratch` of the schema; its column types are kept.

    Args:
        events: the behaviour log; None for the path in the schema.
        items: the item table.
        users: the user table.
        impressions: the impression log.
        schema: the description of the tables: a YAML file, a `Schema`, or the same as a dictionary. A table that is passed needs
            no `path` in a file or a dictionary. None infers the schema from samples of the tables and shows it.
        out: the directory to write.
        progress: whether progress and an inferred schema are shown.

    Raises:
        InputError: as in `lum prepare`; or the schema could not be inferred, or does not describe a table that was passed.

    Example:
        >>> dataset = ol.prepare(events=frame, schema={"name": "shop", "events": {                       # doctest: +SKIP
        ...     "user": "user_id", "item": "sku", "time": "timestamp"}}, out="shop/dataset")
    """
    from openlum.artefact.lock import check_writable
    from openlum.prepare.run import prepare as write_dataset

    out = as_path("out", out)
    check_writable(out)
    given = {"events": events, "items": items, "users": users, "impressions": impressions}
    tables = {name: table for name, table in given.items() if table is not None}
    if schema is not None and not tables and not isinstance(schema, Mapping | Schema):
        with output(progress):
            write_dataset(schema, out)
        return Dataset(out)
    document, schema_root = _schema_content(schema)
    scratch = _scratch(document.content) or out.resolve().parent
    with output(progress), tables_on_disk(tables, scratch, schema_root) as (paths, root):
        if schema is None:
            document = _inferred_schema(paths, root, out.name if is_frame(events) else None)
        content = dict(document.content)
        if root != schema_root:
            paths = _other_paths(content, schema_root) | paths
        for name, path in paths.items():
            if not isinstance(content.get(name), Mapping):
                raise InputError(
                    f"{name}: the schema has no section '{name}'; describe the columns of this table in it"
                )
            content[name] = {**content[name], "path": path}
        where = str(schema) if isinstance(schema, str | Path) else "schema"
        write_dataset(parse_settings(content, Schema, where, document.lines), out, root)
    return Dataset(out)


def pretrain(
    dataset: str | Path | Dataset,
    out: str | Path = "model",
    model: "ModelSettings | Mapping[str, Any] | None" = None,
    settings: "PretrainSettings | Mapping[str, Any] | None" = None,
    init_from: "str | Path | LargeUserModel | None" = None,
    progress: bool = True,
    **keywords: Any,
) -> "LargeUserModel":
    """Step 1, knowledge construction: train a Large User Model, as `lum pretrain` does.

    Args:
        dataset: from `prepare`.
        out: the directory to write. Call the function again to resume an interrupted training.
        model: shape of the model: `ModelSettings`, or keys of the section `model` of an experiment file, such as
            `{"width": 128}`.
        settings: of the training: `PretrainSettings`, or keys of the section `pretrain`.
        init_from: a model to start from.
        progress: whether progress is shown.
        keywords: further keys of the section `pretrain`, such as `epochs=3`.

    Returns:
        The model, on the CPU.

    Raises:
        InputError: as in `lum pretrain`; the message for an unknown key names the nearest key.
    """
    from openlum.model.large_user_model import LargeUserModel
    from openlum.model.settings import ModelSettings
    from openlum.pretrain.settings import PretrainSettings
    from openlum.pretrain.train import pretrain as train

    shape = _settings("model", ModelSettings, model, {})
    parsed = _settings("pretrain", PretrainSettings, settings, keywords)
    out = as_path("out", out)
    with output(progress):
        train(
            _path("dataset", dataset), out, shape, parsed, None if init_from is None else _path("init_from", init_from)
        )
    return LargeUserModel.load(out)


def query(
    dataset: str | Path | Dataset,
    model: "str | Path | LargeUserModel",
    out: str | Path = "knowledge",
    settings: "QuerySettings | Mapping[str, Any] | None" = None,
    users: Any = None,
    as_of: Any = None,
    only_new: bool = False,
    progress: bool = True,
    processes: int = 1,
    engine: str = "local",
    **keywords: Any,
) -> Knowledge:
    """Step 2, knowledge querying: answer questions for every impression, or for users as of one time, as `lum query` does.

    Args:
        dataset: from `prepare`.
        model: from `pretrain`, or its directory.
        out: the directory to write.
        settings: `QuerySettings`, or keys of the section `query` of an experiment file. Its key `as_of` is here, not among the
            keywords.
        users: for knowledge per user: `"all"`, a list of raw ids, a frame with a column `user`, or a file (Parquet or CSV with
            this column, or text with one id in a line). Ids that the dataset does not have are written to `rejected/`.
        as_of: with `users`: only events before this time count: ISO 8601 text or a datetime (UTC without a time zone), or seconds
            since 1970. By default `"now"`, the second after the last event of the dataset.
        only_new: whether only impressions are answered that `out` does not have yet. Its parts stay unchanged.
        progress: whether progress is shown.
        processes: how many processes answer. With more than one, a script needs `if __name__ == "__main__":`.
        engine: `local`, or `ray` for the workers of a Ray cluster (`openlum[ray]`). They see the inputs and `out` too.
        keywords: further keys of the section `query`, such as `questions={"click": {"feedback": "click"}}`.

    Raises:
        InputError: as in `lum query`; the message for an unknown key names the nearest key.
    """
    from openlum.query.bulk import query as answer
    from openlum.query.settings import QuerySettings

    parsed = _settings("query", QuerySettings, settings, keywords)
    out = as_path("out", out)
    with output(progress):
        inputs = _path("dataset", dataset), _path("model", model)
        answer(*inputs, out, parsed, users, as_of, only_new, processes, engine)
    return Knowledge(out)


def join_knowledge(
    log: Any,
    out: str | Path,
    user: str,
    time: str,
    item: str | None = None,
    knowledge: Any = None,
    dataset: str | Path | Dataset | None = None,
    model: "str | Path | LargeUserModel | None" = None,
    settings: "QuerySettings | Mapping[str, Any] | None" = None,
    prefix: str = "",
    time_unit: str = "s",
    date_order: str | None = None,
    progress: bool = True,
    **keywords: Any,
) -> dict[str, Any]:
    """Add knowledge to the rows of any table, each row as of its own time, as `lum knowledge join` does.

    Give `knowledge` per user, or `dataset` and `model`, or all three. With `knowledge`, a row gets the newest row of its user as
    of a time that is not later. Without it, the model answers every row from the events before the second of the row.

    Args:
        log: a path (a file, a directory or a pattern, Parquet or CSV) or a frame.
        out: the Parquet file to write: all rows and columns of the log, in their order, and the added columns.
        user: column of the user id.
        time: column of the time.
        item: column of the item id, for similarities and predictions.
        knowledge: per user, from `query(users=...)`: a directory or an object, or a list of them, one for each night.
        dataset: with the histories. Its schema names the columns of conditions.
        model: that answers or, with `knowledge`, whose matching head predicts the feedback to the items.
        settings: of the questions without `knowledge`: `QuerySettings`, or keys of the section `query` of an experiment file.
        prefix: of the names of the added columns.
        time_unit: of numeric times since 1970: `s`, `ms`, `us`, `ns` or `yyyymmdd`.
        date_order: `dmy` or `mdy`, for dates such as 01/02/2026.
        progress: whether progress is shown.
        keywords: further keys of the section `query`, such as `questions={"click": {"feedback": "click"}}`.

    Returns:
        Figures: the rows, and how many users, items and condition fields are unknown.

    Raises:
        InputError: as in `lum knowledge join`.

    Example:
        >>> ol.join_knowledge(clicks, "joined.parquet", user="user_id", time="timestamp", knowledge="users")   # doctest: +SKIP
    """
    from openlum.prepare.outside_log import LogColumns
    from openlum.query.join import join
    from openlum.query.settings import QuerySettings

    named = {"user": user, "time": time, "item": item, "time_unit": time_unit, "date_order": date_order}
    columns = parse_settings(named, LogColumns, where="join_knowledge")
    has_settings = settings is not None or bool(keywords)
    parsed = _settings("query", QuerySettings, settings, keywords) if has_settings else None
    listed = knowledge if isinstance(knowledge, list | tuple) else [] if knowledge is None else [knowledge]
    published = [_path("knowledge", one) for one in listed]
    data = None if dataset is None else _path("dataset", dataset)
    lum = None if model is None else _path("model", model)
    out = as_path("out", out)
    with output(progress), tables_on_disk({"log": log}, out.resolve().parent, Path()) as (paths, root):
        return join(os.path.join(root, paths["log"]), out, columns, published, data, lum, parsed, prefix)


def rank(
    dataset: str | Path | Dataset,
    knowledge: str | Path | Knowledge | None = None,
    out: str | Path = "ranker",
    settings: "RankSettings | Mapping[str, Any] | None" = None,
    truth: str | Path | None = None,
    progress: bool = True,
    **keywords: Any,
) -> Ranking:
    """Step 3, knowledge utilization: train rankers with and without knowledge, as `lum rank` does.

    Args:
        dataset: from `prepare`.
        knowledge: from `query`, or its directory; without it, rankers are trained without knowledge only.
        out: the directory to write.
        settings: `RankSettings`, or keys of the section `rank` of an experiment file. How knowledge enters is here, not among the
            keywords: `settings={"knowledge": {"fusion": "early"}}`.
        truth: Parquet file with the true label probabilities of a simulation.
        progress: whether progress is shown.
        keywords: further keys of the section `rank`, such as `rankers=["din", "sim"]`.

    Raises:
        InputError: as in `lum rank`; the message for an unknown key names the nearest key.
    """
    from openlum.rank.run import rank as train
    from openlum.rank.settings import RankSettings

    parsed = _settings("rank", RankSettings, settings, keywords)
    out = as_path("out", out)
    with output(progress):
        train(
            _path("dataset", dataset), None if knowledge is None else _path("knowledge", knowledge), out, parsed, truth
        )
    return Ranking(out)


def retrieve(
    dataset: str | Path | Dataset,
    model: "str | Path | LargeUserModel",
    out: str | Path = "retrieval",
    settings: "RetrieveSettings | Mapping[str, Any] | None" = None,
    progress: bool = True,
    **keywords: Any,
) -> Retrieval:
    """Evaluate retrieval: the rank of every user's held-out item among all items, as `lum retrieve` does.

    Args:
        dataset: from `prepare`.
        model: from `pretrain`, or its directory.
        out: the directory to write.
        settings: `RetrieveSettings`, or keys of the section `retrieve` of an experiment file.
        progress: whether progress is shown.
        keywords: further keys of the section `retrieve`, such as `at=[10, 50]`.

    Raises:
        InputError: as in `lum retrieve`; the message for an unknown key names the nearest key.
    """
    from openlum.retrieve.evaluate import retrieve as evaluate
    from openlum.retrieve.settings import RetrieveSettings

    parsed = _settings("retrieve", RetrieveSettings, settings, keywords)
    out = as_path("out", out)
    with output(progress):
        evaluate(_path("dataset", dataset), _path("model", model), out, parsed)
    return Retrieval(out)


def run(
    config: "str | Path | Experiment | Mapping[str, Any]",
    runs: str | Path = "runs",
    from_dir: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Run the whole pipeline of an experiment, as `lum run` does. Steps with unchanged inputs, settings and code are skipped.

    Args:
        config: an experiment file; or an `Experiment`, or the same as a dictionary, whose paths are relative to the working
            directory.
        runs: the directory for the directory NAME of the experiment.
        from_dir: directory with the publisher's files of a public data set.
        overrides: path of keys to a new value, such as `{"pretrain.epochs": 3}`.
        progress: whether progress is shown.

    Raises:
        InputError: as in `lum run`.
    """
    from openlum.pipeline.experiment import Experiment
    from openlum.pipeline.run import run as run_pipeline

    changes = [
        f"{key}={dump_yaml(value, default_flow_style=True, width=10**6)}" for key, value in (overrides or {}).items()
    ]
    if isinstance(config, Experiment | Mapping):
        content = config.model_dump() if isinstance(config, Experiment) else dict(config)
        document = with_overrides(Document(content, {}), changes)
        experiment = parse_settings(document.content, Experiment, "experiment", document.lines)
        if not changes and isinstance(config, Experiment):
            experiment = config
        source: Path | Experiment = experiment
    else:
        source = as_path("config", config)
    with output(progress):
        _, report = run_pipeline(
            source, as_path("runs", runs), new_console(), as_path_or_none("from_dir", from_dir), changes
        )
    return Run(report.parent)


def _settings(section: str, kind: type[S], settings: Any, keywords: Mapping[str, Any]) -> S:
    """Return the settings of a step from an object or a mapping, with keys replaced by keywords."""
    if isinstance(settings, kind) and not keywords:
        return settings
    if isinstance(settings, kind):
        settings = settings.model_dump(exclude_unset=True)
    elif settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"{section}: expected {kind.__name__} or a mapping of keys to values, found {shown(settings)}")
    return parse_settings(dict(settings or {}) | dict(keywords), kind, where=section)


def _path(name: str, value: Any) -> Path:
    """Return the directory of an artefact, given as a path or as an object."""
    if isinstance(value, str | os.PathLike) or not hasattr(value, "path"):
        return as_path(name, value)
    if value.path is None:
        raise InputError(
            f"{name}: was not loaded from a directory; save it with save_pretrained(DIRECTORY), and pass the directory"
        )
    return Path(value.path)


def _schema_content(schema: Any) -> tuple[Document, Path]:
    """Return the content of a schema, and the directory that its paths are relative to."""
    if isinstance(schema, Schema):
        return Document(schema.model_dump(), {}), Path()
    if schema is None or isinstance(schema, Mapping):
        return Document(dict(schema or {}), {}), Path()
    file = as_path("schema", schema)
    return read_yaml(file), file.parent


def _scratch(content: Mapping[str, Any]) -> Path | None:
    """Return the directory `engine.scratch` of a schema, if there is one."""
    engine = content.get("engine")
    scratch = engine.get("scratch") if isinstance(engine, Mapping) else None
    return Path(scratch) if isinstance(scratch, str) else None


def _other_paths(content: Mapping[str, Any], root: Path) -> dict[str, str]:
    """Return the absolute paths of all tables of a schema that have a path."""
    sections = {name: content.get(name) for name in ("events", "items", "users", "impressions")}
    return {
        name: os.path.abspath(root / section["path"])
        for name, section in sections.items()
        if isinstance(section, Mapping) and isinstance(section.get("path"), str)
    }


def _inferred_schema(paths: Mapping[str, str], root: Path, name: str | None) -> Document:
    """Return the schema that the wizard proposes for tables, and show it. `name` is the name of the data set, if it is known."""
    from openlum.schema_wizard import propose

    if "events" not in paths:
        raise InputError("events: pass the behaviour log, or a schema with its path")
    files = {table: os.path.join(root, path) for table, path in paths.items()}
    proposal = propose(files["events"], files.get("items"), files.get("users"), files.get("impressions"), root)
    text = proposal.text
    if name is not None:
        text = re.sub(
            "^name: .*$", lambda _: f"name: {dump_yaml(name).splitlines()[0]}", text, count=1, flags=re.MULTILINE
        )
    new_console(stderr=True).print(text, soft_wrap=True)
    if proposal.missing:
        raise InputError(
            f"the schema could not be inferred: no column was recognised for {', '.join(proposal.missing)}; pass "
            "schema={...} with these keys ('lum schema' writes a draft for a log in files)"
        )
    return parse_yaml(text, "inferred schema")
