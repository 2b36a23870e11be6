"""One user asked in raw values gets the very answers of bulk queries, each as of its own time."""

import numpy as np
import pytest
import torch

from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.model import LargeUserModel
from openlum.pipeline.example import raw_history
from openlum.query.bulk import answer_impressions
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings

from .test_bulk import model

__all__ = ["model"]
"""Its histories are several windows long."""

QUESTIONS = {"here": {"*": "$row"}, "like": {"rating": 5, "*": "$row"}}


@pytest.mark.parametrize("split", SPLITS)
def test_a_user_gets_the_answers_of_bulk_queries(small_dataset: Dataset, model: LargeUserModel, split: Split) -> None:
    """With the whole history in hand, which goes on after most of the rows."""
    rows, items = small_dataset.impressions(split), model.items().detach()
    questions = QuestionSet(model.processor, model.config.condition, QUESTIONS)
    answers, chances = torch.empty(len(rows.row), 2, items.shape[1]), torch.empty(len(rows.row), 5)
    bulk = answer_impressions(model, small_dataset, rows, questions, QuerySettings(), items, split)
    for index, found, judged in bulk:
        answers[index], chances[index] = found, judged.sigmoid()
    for user in np.unique(rows.user):
        mine = np.flatnonzero(rows.user == user)
        history = raw_history(small_dataset, int(small_dataset.sequences.position_of(np.array([user]))[0]))
        scenarios = small_dataset.vocabulary("condition.scenario").decode(rows.condition["scenario"][mine])
        here = [
            {"time": int(time)} | ({} if scenario == "(unknown)" else {"scenario": scenario})
            for time, scenario in zip(rows.time[mine], scenarios, strict=True)
        ]
        asked = [question | feedback for question in here for feedback in ({}, {"rating": "5"})]
        online = model.ask(history, asked).view(len(mine), 2, -1)
        torch.testing.assert_close(online, answers[mine], atol=1e-5, rtol=0)
        for row, question in list(zip(mine, here, strict=True))[:5]:
            item = model.processor.items.decode(rows.item[row : row + 1])
            found = model.predict_feedback(history, item, question)[0]["rating"]
            assert list(found.values()) == pytest.approx(chances[row].tolist(), abs=1e-4)
    assert len(np.unique(rows.prefix)) > 1
