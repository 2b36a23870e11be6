"""The answers to raw questions about one user equal the answers of bulk queries, as of the time of each question."""

import numpy as np
import pytest
import torch

from openlum.data.dataset import SPLITS, Dataset, Split
from openlum.data.histories import raw_history
from openlum.model import LargeUserModel
from openlum.query.answers import answer_impressions
from openlum.query.questions import QuestionSet
from openlum.query.settings import QuerySettings

from .test_bulk import model

__all__ = ["model"]
"""A fixture. Histories are several of its windows long."""

QUESTIONS = {"here": {"*": "$row"}, "like": {"rating": 5, "*": "$row"}}


@pytest.mark.parametrize("split", SPLITS)
def test_answers_for_one_user_equal_those_of_bulk_queries(
    small_dataset: Dataset, model: LargeUserModel, split: Split
) -> None:
    """The raw history is complete: it has events after most of the impressions."""
    rows, items = small_dataset.impressions(split), model.items().detach()
    questions = QuestionSet(model.processor, model.config.condition, QUESTIONS)
    answers, probabilities = torch.empty(len(rows.row), 2, items.shape[1]), torch.empty(len(rows.row), 5)
    bulk = answer_impressions(model, small_dataset.sequences, rows, questions, QuerySettings(), items)
    for index, bulk_answers, _, feedback in bulk:
        answers[index], probabilities[index] = bulk_answers, feedback.sigmoid()
    for user in np.unique(rows.user):
        user_rows = np.flatnonzero(rows.user == user)
        history = raw_history(small_dataset, int(small_dataset.sequences.user_index(np.array([user]))[0]))
        scenarios = small_dataset.vocabulary("condition.scenario").decode(rows.condition["scenario"][user_rows])
        row_questions = [
            {"time": int(time)} | ({} if scenario == "(unknown)" else {"scenario": scenario})
            for time, scenario in zip(rows.time[user_rows], scenarios, strict=True)
        ]
        questions_with_feedback = [question | extra for question in row_questions for extra in ({}, {"rating": "5"})]
        online = model.ask(history, questions_with_feedback).view(len(user_rows), 2, -1)
        torch.testing.assert_close(online, answers[user_rows], atol=1e-5, rtol=0)
        for row, question in list(zip(user_rows, row_questions, strict=True))[:5]:
            item = model.processor.items.decode(rows.item[row : row + 1])
            prediction = model.predict_feedback(history, item, question)[0]["rating"]
            assert list(prediction.values()) == pytest.approx(probabilities[row].tolist(), abs=1e-4)
    assert len(np.unique(rows.prefix)) > 1
