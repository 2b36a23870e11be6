"""Damaged artefacts: a reader raises an error that names the file, or returns the same result. `lum verify` finds all damage."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openlum.artefact.directory import files_of, whole_directory
from openlum.artefact.json_file import write_json
from openlum.artefact.manifest import MANIFEST, is_page
from openlum.artefact.verify import verify
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.model import LargeUserModel, ModelSettings
from openlum.pipeline.summary import write_summary
from openlum.prepare.run import append
from openlum.pretrain.initialization import build_model
from openlum.query.bulk import query
from openlum.query.settings import QuerySettings
from openlum.rank.knowledge import load_knowledge

SHAPE = ModelSettings(width=8, layers=1, heads=2, embedding_width=8, field_width=4, max_events=16)
HISTORY = [{"item": "i1", "scenario": "home", "rating": 5}]


@pytest.fixture(scope="module")
def run(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one artefact of each kind."""
    directory: Path = tmp_path_factory.mktemp("run")
    shutil.copytree(small_dataset.path, directory / "dataset")
    with whole_directory(directory / "model", "model") as draft:
        build_model(small_dataset, SHAPE, seed=0).save_pretrained(draft)
        write_json(draft / "pretrain.json", {"steps": 1})
        (draft / "README.md").write_text("a card")
    query(directory / "dataset", directory / "model", directory / "knowledge", QuerySettings(rows_per_part=200))
    for kind, content in (
        ("ranker", {"ranking": {}, "comparisons": []}),
        ("retrieval", {"retrieval": {}, "protocol": {}}),
    ):
        with whole_directory(directory / kind, kind) as draft:  # type: ignore[arg-type]
            write_json(draft / "metrics.json", content)
    return directory


def read_dataset(run: Path) -> Any:
    dataset = Dataset(run / "dataset")
    words = [dataset.vocabularies(kind) for kind in ("condition", "item", "user", "context")]
    return [
        vars(dataset.sequences),
        *(vars(dataset.impressions(split)) for split in SPLITS),
        [dataset.item_features(), dataset.user_features(), dataset.item_titles()],
        [dataset.vocabulary(name).values for name in ("items", "users")],
        [{name: vocabulary.values for name, vocabulary in vocabularies.items()} for vocabularies in words],
    ]


def read_model(run: Path) -> Any:
    model = LargeUserModel.load(run / "model")
    return [model.state_dict(), model.ask(HISTORY, [{"rating": 5}]), model.recommend(HISTORY, k=3)]


def read_knowledge(run: Path) -> Any:
    knowledge = vars(load_knowledge(run / "knowledge", Dataset(run / "dataset")))
    return [knowledge[name] for name in ("row", "answers", "scores", "items")]


def read_metrics(run: Path) -> Any:
    return write_summary(run, ["query", "rank", "retrieve"], seed=0)


READERS: dict[str, Callable[[Path], Any]] = {
    "dataset": read_dataset,
    "model": read_model,
    "knowledge": read_knowledge,
    "ranker": read_metrics,
    "retrieval": read_metrics,
}


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x20]) + content[middle + 1 :]


SAME_SIZE = {
    "flip": flip,
    "zeros in the middle": lambda content: (
        content[: len(content) // 3] + bytes(len(content) // 3) + content[2 * (len(content) // 3) :]
    ),
}
OTHER_SIZE: dict[str, Callable[[bytes], bytes | None]] = {
    "delete": lambda content: None,
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "list": lambda content: b"[]",
    "mapping": lambda content: b"{}",
    "null": lambda content: b"null",
    "nesting": lambda content: b"[" * 100_000,
    "no text": lambda content: b"\xff\x00" * 40,
}


@contextmanager
def damaged(file: Path, damage: Callable[[bytes], bytes | None]) -> Iterator[None]:
    content = file.read_bytes()
    try:
        changed = damage(content)
        file.unlink() if changed is None else file.write_bytes(changed)
        yield
    finally:
        file.write_bytes(content)


@contextmanager
def without_manifest(directory: Path) -> Iterator[None]:
    """Remove the manifest for a while, as of a model from `save_pretrained`: readers must check the parts themselves."""
    with damaged(directory / MANIFEST, lambda content: None):
        yield


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, torch.Tensor):
        return equal(a.numpy(), b.numpy())
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b


def failure(read: Callable[[Path], Any], run: Path) -> tuple[str, Any]:
    """Return the reader's error message and None, or an empty message and the result. Any other exception fails the test."""
    try:
        return "", read(run)
    except InputError as error:
        return str(error), None


@pytest.mark.parametrize("kind", READERS)
def test_a_part_of_another_size_is_named_by_the_next_step(run: Path, kind: str) -> None:
    for name in files_of(run / kind):
        for what, damage in OTHER_SIZE.items():
            with damaged(run / kind / name, damage):
                message, _ = failure(READERS[kind], run)
                assert is_page(name) or (str(run / kind / name) in message and "'lum " in message), (
                    name,
                    what,
                    message,
                )
                with pytest.raises(InputError, match=name):
                    verify(run / kind)


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_part_of_the_same_size_is_named_by_verify(run: Path, kind: str) -> None:
    """The next step may miss it: it does not read that byte, or the byte now encodes another valid value."""
    for name in files_of(run / kind):
        for damage in SAME_SIZE.values():
            with damaged(run / kind / name, damage):
                failure(READERS[kind], run)
                with pytest.raises(InputError, match=f"{name}: has changed since it was written.*'lum "):
                    verify(run)
    assert verify(run) == sum(len(files_of(run / kind)) for kind in READERS)


@pytest.mark.parametrize("kind", READERS)
def test_without_a_manifest_damage_is_still_named(run: Path, kind: str) -> None:
    """Every part is damaged, removed, or replaced by another kind of JSON value."""
    read = READERS[kind]
    with without_manifest(run / kind):
        _, undamaged = failure(read, run)
        for name in files_of(run / kind):
            for damage in OTHER_SIZE.values():
                with damaged(run / kind / name, damage):
                    message, result = failure(read, run)
                    is_named = Path(name).name in message or str(run / kind / Path(name).parent) in message
                    assert is_named or (not message and equal(result, undamaged)), (name, message)


@pytest.mark.parametrize("kind", READERS)
def test_swapped_and_added_parts_are_named(run: Path, kind: str) -> None:
    names = [name for name in files_of(run / kind) if not is_page(name)]
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        content = (run / kind / other).read_bytes()
        if name != other and content != (run / kind / name).read_bytes():
            with damaged(run / kind / name, lambda _, content=content: content):  # type: ignore[misc]
                message, _ = failure(READERS[kind], run)
                assert name in message or len(content) == (run / kind / name).stat().st_size
                with pytest.raises(InputError, match=name):
                    verify(run / kind)
                with without_manifest(run / kind):
                    failure(READERS[kind], run)
    added = run / kind / "part-9.parquet"
    added.write_bytes(b"")
    assert str(added) in failure(READERS[kind], run)[0]
    added.unlink()


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_manifest_is_named(run: Path, kind: str) -> None:
    for damage in (*OTHER_SIZE.values(), lambda content: content.replace(b'"kind"', b'"kin"')):
        with damaged(run / kind / MANIFEST, damage):
            message, _ = failure(READERS[kind], run)
            assert MANIFEST in message or not (run / kind / MANIFEST).exists()


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("dataset", "dataset.json"),
        ("model", "config.json"),
        ("knowledge", "knowledge.json"),
        ("ranker", "metrics.json"),
    ],
)
def test_any_other_value_in_a_json_file_is_an_error_or_harmless(run: Path, kind: str, file: str) -> None:
    """A value of another type, huge, negative or null raises no exception but `InputError`."""
    content = json.loads((run / kind / file).read_text())
    paths = list(key_paths(content))
    rng = random.Random(0)
    values = ["x", -1, 10**18, 1e300, None, [], {}, True, [[1]], "\x00"]
    with without_manifest(run / kind):
        for path in rng.sample(paths, min(len(paths), 60)):
            changed = copy.deepcopy(content)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = rng.choice(values)
            with damaged(run / kind / file, lambda _, changed=changed: json.dumps(changed).encode()):  # type: ignore[misc]
                failure(READERS[kind], run)


def key_paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of keys to every value."""
    if path:
        yield path
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from key_paths(value, (*path, key))


def test_nothing_is_appended_to_a_damaged_dataset(run: Path, small_dataset: Dataset) -> None:
    """The new dataset would be computed from damaged parts and would have valid checksums."""
    events = small_dataset.path.parent / "events.parquet"
    for name in files_of(run / "dataset"):
        if not is_page(name):
            for damage in (flip, OTHER_SIZE["half"], OTHER_SIZE["delete"]):
                with damaged(run / "dataset" / name, damage), pytest.raises(InputError, match=name):
                    append(run / "dataset", events)


def test_an_artefact_of_another_kind_is_named(run: Path) -> None:
    with pytest.raises(InputError, match="model: is a model, not a dataset; 'lum prepare' writes one"):
        Dataset(run / "model")


def test_a_dataset_that_was_replaced_since_it_was_opened_is_not_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "dataset", tmp_path / "dataset")
    opened = Dataset(tmp_path / "dataset")
    with whole_directory(tmp_path / "dataset", "dataset") as draft:
        (draft / "other").write_text("x")
    with pytest.raises(InputError, match="another process has replaced this dataset"):
        _ = opened.sequences
