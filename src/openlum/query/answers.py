"""Point-in-time group query: one pass over a user's history answers the questions of all the user's impressions.

The questions of an impression see only the events before its time.

Shapes: I impressions, n impressions of a batch, G questions, J feedback predictions, R values of a feedback field, E width of an
answer, V items.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from openlum.data.sequences import Impressions, Sequences
from openlum.field_spec import SECONDS
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import to_tensors
from openlum.model.outputs import Answers
from openlum.query.encoding import encoded_moments
from openlum.query.questions import QuestionSet, take
from openlum.query.settings import QuerySettings


def before_the_day(sequences: Sequences, impressions: Impressions) -> Impressions:
    """Return the impressions of users with prefixes that end before the impression's day (UTC)."""
    midnight = impressions.time - impressions.time % SECONDS["d"]
    prefix = np.minimum(sequences.prefix_at(impressions.user, midnight), impressions.prefix)
    return impressions.with_prefix(sequences, prefix)


@torch.inference_mode()
def embed_items(model: LargeUserModel, items: int) -> Tensor:
    """Return the embeddings (V, E), on the CPU, of a dataset's items 0 to `items` - 1. An unknown item has that of item 0."""
    return torch.cat([model.items(ids) for ids in torch.arange(items, device=model.device).split(65_536)]).cpu()


@torch.inference_mode()
def answer_impressions(
    model: LargeUserModel,
    sequences: Sequences,
    impressions: Impressions,
    questions: QuestionSet,
    settings: QuerySettings,
    items: Tensor,
) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor]]:
    """Yield the answers for impressions, in batches. The impressions of one user are adjacent.

    Args:
        model: that answers.
        sequences: of the users.
        impressions: of these users.
        questions: for every impression.
        settings: of the run.
        items: (V, E) embeddings of the dataset's items.

    Yields:
        Indices of impressions, (n,); their answers, (n, G, E), similarities with the impressions' items, (n, G), and feedback
        predictions, (n, J), on the CPU.
    """
    row_values = questions.row_values(sequences, impressions.user, impressions.prefix, impressions)
    encoded = encoded_moments(
        model,
        sequences,
        impressions.user,
        impressions.prefix,
        len(questions) + settings.predict_feedback,
        settings.batch_events,
    )
    for index, state, moments in encoded:
        user_index, prefix = moments.user_index, moments.prefix
        item = torch.from_numpy(impressions.item[index].astype(np.int64))
        condition = to_tensors({name: values[index] for name, values in impressions.condition.items()})
        item_questions = Questions(
            questions.conditions(take(row_values, index), len(index)),
            user_index.repeat_interleave(len(questions)),
            prefix.repeat_interleave(len(questions)),
            item.repeat_interleave(len(questions)),
            questions.learned(len(index)),
        )
        distinct, place = distinct_questions(item_questions, len(questions))
        distinct, item_questions = distinct.to(model.device), item_questions.to(model.device)
        if settings.predict_feedback and model.config.trained_feedback_targets:
            feedback_questions = Questions(condition, user_index, prefix, item).to(model.device)
            (answer,), logits = model.answer_and_predict_feedback(
                state, [distinct], feedback_questions, items[item].to(model.device)
            )
            feedback = log_odds(logits).cpu()
        else:
            answer, feedback = model.network.answer(state, distinct), torch.empty(len(index), 0)
        answer = Answers(*(part[place.to(model.device)] for part in answer))
        answer = model.network.about_items(state, answer, item_questions)
        target = items[item].to(model.device).repeat_interleave(len(questions), 0)
        similarity = model.network.similarity(answer, target).view(len(index), len(questions))
        yield index, answer.vectors.view(len(index), len(questions), -1).cpu(), similarity.cpu(), feedback


def distinct_questions(questions: Questions, per_row: int) -> tuple[Questions, Tensor]:
    """Return questions without their items, each once in rows that follow each other, and the index of each question in them.

    The impressions of a request have the same moment and mostly the same condition, so they ask the same.

    Args:
        questions: (n G,) of n rows. Those of one row are adjacent.
        per_row: G.

    Returns:
        The distinct questions, and for each of `questions` the index of its like, (n G,).
    """
    is_new = torch.zeros(len(questions.user_index) // per_row, per_row, dtype=torch.bool)  # (n, G)
    is_new[:1] = True
    for field in (questions.user_index, questions.prefix, *questions.condition.values()):
        values = field.view(*is_new.shape, -1)
        both_missing = values[1:].isnan() & values[:-1].isnan()
        is_new[1:] |= ((values[1:] != values[:-1]) & ~both_missing).any(-1)
    number = is_new.flatten().cumsum(0).view_as(is_new) - 1
    place = number.where(is_new, 0).cummax(0).values.flatten()
    chosen = is_new.flatten().nonzero().squeeze(1)
    condition = {name: field[chosen] for name, field in questions.condition.items()}
    learned = None if questions.learned is None else questions.learned[chosen]
    return Questions(condition, questions.user_index[chosen], questions.prefix[chosen], learned=learned), place


def log_odds(logits: list[Tensor]) -> Tensor:
    """Return the log-odds, (n, J), of all values of all feedback targets from the logits, (n, R), of each target."""
    odds = []
    for target_logits in logits:
        log_p = target_logits.log_softmax(1)
        odds.append(log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-6))))
    return torch.cat(odds, 1)
