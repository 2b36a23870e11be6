import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.rank.knowledge import load_knowledge


@pytest.fixture
def copied(knowledge_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(knowledge_dir, tmp_path / "knowledge"))


def edit(path: Path, **changes: object) -> None:
    file = path / "knowledge.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_row_has_its_own_answers(knowledge_dir: Path, dataset: Dataset) -> None:
    knowledge = load_knowledge(knowledge_dir, dataset)
    expected = {}
    for part in (knowledge_dir / "impressions").glob("part-*.parquet"):
        for row in pq.read_table(part).to_pylist():
            expected[row["row"]] = row
    for split in SPLITS:
        rows = dataset.impressions(split).row
        for row, index in zip(rows.tolist(), knowledge.index_of(rows), strict=True):
            for question, name in enumerate(["like", "dislike"]):
                assert knowledge.answers[index, question].tolist() == expected[row][f"answer.{name}"]
                assert knowledge.scores[index, question] == np.float32(expected[row][f"similarity.{name}"])


def test_only_the_named_answers_are_read(knowledge_dir: Path, dataset: Dataset) -> None:
    whole, partial = load_knowledge(knowledge_dir, dataset), load_knowledge(knowledge_dir, dataset, ["dislike"])
    assert partial.answers.shape[1] == 1
    assert np.array_equal(partial.answers[:, 0], whole.answers[:, 1])
    assert np.array_equal(partial.scores, whole.scores)


def test_an_unknown_question_is_named(knowledge_dir: Path, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no question 'love'; choose from like, dislike"):
        load_knowledge(knowledge_dir, dataset, ["love"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "0123"}, "another dataset"),
        ({"form": "user"}, "per impression"),
        ({"rows": 7}, "knowledge.json has 7;"),
        ({"width": 3}, "has no vectors of width 3"),
        ({"width": "wide"}, "key .width.: .*valid integer"),
        ({"questions": 5}, "key .questions.: expected a list"),
        ({"rows": 10**6}, "knowledge.json has 1,000,000;"),
    ],
)
def test_knowledge_that_does_not_fit_is_refused(
    copied: Path, dataset: Dataset, changes: dict[str, object], message: str
) -> None:
    edit(copied, **changes)
    with pytest.raises(InputError, match=message):
        load_knowledge(copied, dataset)


def test_an_answer_that_is_not_finite_is_named(copied: Path, dataset: Dataset) -> None:
    file = sorted((copied / "impressions").glob("part-*.parquet"))[0]
    table = pq.read_table(file)
    values = table["answer.like"].combine_chunks().flatten().to_numpy().copy()
    values[3 * 4] = np.inf
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), 4)
    pq.write_table(table.set_column(table.column_names.index("answer.like"), "answer.like", column), file)
    with pytest.raises(InputError, match=rf"'answer.like' is not finite in row {table['row'][3]}"):
        load_knowledge(copied, dataset)


def test_knowledge_of_no_rows_has_no_answers(copied: Path, dataset: Dataset) -> None:
    edit(copied, rows=0)
    for part in (copied / "impressions").glob("part-*.parquet"):
        part.unlink()
    with pytest.raises(InputError, match="knowledge: has no answers for 2 of 2 impression rows, the first is row 4"):
        load_knowledge(copied, dataset).index_of(np.array([4, 5]))


def test_a_score_that_is_not_finite_is_named(copied: Path, dataset: Dataset) -> None:
    file = sorted((copied / "impressions").glob("part-*.parquet"))[0]
    table = pq.read_table(file)
    column = table.column_names.index("similarity.dislike")
    values = table["similarity.dislike"].to_numpy().copy()
    values[3] = np.nan
    pq.write_table(table.set_column(column, "similarity.dislike", [values]), file)
    row = table["row"][3].as_py()
    with pytest.raises(InputError, match=rf"{file.name}: column 'similarity.dislike' is nan in row {row}"):
        load_knowledge(copied, dataset)


def test_a_missing_key_part_column_or_file_is_named(copied: Path, dataset: Dataset) -> None:
    edit(copied, questions=["like", "love"])
    with pytest.raises(InputError, match=r"answer\.love"):
        load_knowledge(copied, dataset)
    edit(copied, questions=["like"])
    (copied / "items" / "part-00000.parquet").unlink()
    with pytest.raises(InputError, match=r"knowledge/items: has no Parquet file"):
        load_knowledge(copied, dataset)
    (copied / "knowledge.json").write_text('{"form": "impression"}')
    with pytest.raises(InputError, match="'questions' is missing"):
        load_knowledge(copied, dataset)
    shutil.rmtree(copied)
    with pytest.raises(InputError, match="lum query"):
        load_knowledge(copied, dataset)


def test_missing_and_duplicate_rows_are_refused(copied: Path, dataset: Dataset) -> None:
    first, second = sorted((copied / "impressions").glob("part-*.parquet"))
    table, total = pq.read_table(first), json.loads((copied / "knowledge.json").read_text())["rows"]
    pq.write_table(table.slice(1), first)
    edit(copied, rows=total - 1)
    knowledge = load_knowledge(copied, dataset)
    with pytest.raises(InputError, match=f"1 of .* impression rows, the first is row {table['row'][0]}"):
        [knowledge.index_of(dataset.impressions(split).row) for split in SPLITS]
    pq.write_table(table, first)
    shutil.copy(first, second)
    edit(copied, rows=2 * len(table))
    with pytest.raises(InputError, match="occurs twice"):
        load_knowledge(copied, dataset)
