"""Answers to raw values about one user or many users, in batches.

The functions use the public methods of a model only: `encode_history`, `answer_questions`, `predict_feedback_logits`,
`items`, `catalogue` and `network`. One user is a batch of one, so the numbers are the same for one user and for many, up to
rounding.

Shapes: B users, Q questions of a user, n items, E width, V items of the catalogue.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openlum.arguments.values import is_missing, shown, whole_number
from openlum.errors import InputError
from openlum.model.allowed_items import allowed_items, as_filter
from openlum.model.batch import Fields, History, Questions
from openlum.model.content import compare_content, content_names
from openlum.model.histories import Users
from openlum.model.item_index import ExactIndex, Found, ItemIndex, Pairs, joined, top
from openlum.model.matching_head import similarity_names
from openlum.model.network import Network
from openlum.model.pointer import Copies, summed_copies
from openlum.model.processor import Processor
from openlum.model.request import (
    Request,
    check_ids,
    check_items,
    check_question,
    check_questions,
    encode_conditions,
    encode_request,
    seconds,
)
from openlum.model.settings import ModelConfig

BATCH_SIZE = 256
"""Number of users that are encoded at a time by default."""


class Model(Protocol):
    """The methods of a Large User Model that this module needs."""

    config: ModelConfig
    processor: Processor
    network: Network

    @property
    def device(self) -> torch.device: ...
    def eval(self) -> Any: ...
    def items(self, ids: Tensor | None = None) -> Tensor: ...
    def catalogue(self) -> Tensor: ...
    def encode_history(self, history: History) -> Any: ...
    def answer_questions(self, state: Any, questions: Questions) -> Tensor: ...
    def predict_feedback_logits(self, state: Any, questions: Questions) -> list[Tensor]: ...


@dataclass(frozen=True)
class _Batch:
    """The requests of some users, and the state of their histories."""

    users: slice
    """The users of the batch."""
    requests: list[Request]
    """One per user."""
    state: Any
    """Of the windows of all requests, end to end."""
    first_window: list[int]
    """For each request, the index of its first window in `state`."""


@torch.inference_mode()
def ask(model: Model, histories: Any, questions: Any, batch_size: int = BATCH_SIZE) -> Any:
    """Return answers; see `LargeUserModel.ask`."""
    users = Users.of(histories)
    answers: list[Tensor] = []
    for batch in _batches(model, users, users.per_user("questions", questions, _is_list_of_questions), batch_size):
        answers += _answers(model, batch)
    return users.stacked(answers)


@torch.inference_mode()
def recommend(
    model: Model,
    histories: Any,
    k: int = 10,
    question: Any = None,
    filter: Any = None,
    exclude_seen: bool = True,
    batch_size: int = BATCH_SIZE,
    index: ItemIndex | None = None,
) -> Any:
    """Return the top items of every user; see `LargeUserModel.recommend`."""
    k = whole_number("k", k, minimum=1)
    users = Users.of(histories)
    questions = [[check_question(own)] for own in users.per_user("question", question, _is_question)]
    item_filter = as_filter(filter)
    allowed = None if item_filter is None else allowed_items(item_filter, model.processor, model.network.item_encoder)
    model.eval()
    index = _index_of(model, index)
    recommendations: list[list[dict[str, Any]]] = []
    for batch in _batches(model, users, questions, batch_size):
        questions_of_batch = _joined_questions([own.questions for own in batch.requests], batch.first_window)
        answers, copies = model.network.answer_with_copies(batch.state, questions_of_batch.to(model.device))
        if exclude_seen:
            found = index.search(answers, k, allowed, _seen_items(model, batch, users.histories))
        else:
            copied = summed_copies(copies, model.config.items, 0, len(answers))
            found = index.search(answers, k, allowed, Pairs(copied.question, copied.item))
            found = top(joined(found, _copied_items(model, answers, copied, allowed)), k)
        recommendations += _found_items(model, found)
    return users.results(recommendations)


@torch.inference_mode()
def predict_feedback(
    model: Model, histories: Any, items: Any, question: Any = None, batch_size: int = BATCH_SIZE
) -> Any:
    """Return the probabilities of feedback values; see `LargeUserModel.predict_feedback`."""
    _check_predicts_feedback(model)
    users = Users.of(histories)
    user_items = [check_items(own) for own in users.per_user("items", items, _is_list_of_items)]
    questions = [[_without_feedback(model, own)] for own in users.per_user("question", question, _is_question)]
    predictions: list[list[dict[str, Any]]] = []
    for batch in _batches(model, users, questions, batch_size):
        predictions += _feedback(model, batch, user_items[batch.users])
    return users.results(predictions)


@torch.inference_mode()
def match(
    model: Model, vectors: Any, items: Any, context: Any = None, last_event: Any = None, history: Any = None
) -> list[dict[str, Any]]:
    """Return probabilities of feedback values and similarities from user vectors; see `LargeUserModel.match`."""
    _check_predicts_feedback(model)
    model.eval()
    raw_items, condition = check_items(items), _without_feedback(model, context)
    last = None if is_missing(last_event) else math.floor(seconds("last_event", last_event))
    time = check_questions([condition])
    fields = encode_conditions(
        model.processor, model.config, [condition], time, [last], lambda _: "context", strict=True
    )
    ids = torch.from_numpy(model.processor.item_ids(raw_items, "to predict feedback for"))
    n, none = len(ids), torch.zeros_like(ids)  # the matching head knows no history
    questions = Questions({name: value.expand(n, *value.shape[1:]) for name, value in fields.items()}, none, none, ids)
    matched = model.network.match(_user_vectors(model, vectors), questions.to(model.device))
    names, scores = similarity_names(model.processor, model.network.condition_specs), matched.similarities
    content = model.config.content_fields
    if content and history is not None:
        last_items = torch.from_numpy(model.processor.items.encode(check_ids("history", history)))
        compared = compare_content(
            model.network.item_encoder, content, ids.to(model.device), last_items.to(model.device)
        )
        names, scores = names + content_names(content), torch.cat([scores, compared], 1)
    rows = _predictions(model, raw_items, matched.logits)
    for row, values in zip(rows, scores.tolist(), strict=True):
        row |= dict(zip(names, values, strict=True))
    return rows


@torch.inference_mode()
def similar_items(model: Model, items: Any, k: int = 10) -> Any:
    """Return the items nearest to items; see `LargeUserModel.similar_items`."""
    k = whole_number("k", k, minimum=1)
    is_single = _is_single(items)
    raw = check_items([items] if is_single else items)
    ids = model.processor.items.encode(raw)
    for item, index in zip(raw, ids, strict=True):
        if index == 0:
            raise InputError(f"items: the model does not know the item {shown(item)}")
    model.eval()
    catalogue = model.catalogue()  # (V, E)
    index = torch.from_numpy(ids).to(catalogue.device)
    themselves = Pairs(torch.arange(len(index)), index)
    similar = _found_items(model, ExactIndex(catalogue).search(catalogue[index], k, excluded=themselves))
    return similar[0] if is_single else similar


@torch.inference_mode()
def embed_items(model: Model, items: Any = None) -> Tensor:
    """Return the embeddings of items; see `LargeUserModel.embed_items`."""
    model.eval()
    if items is None:
        return model.catalogue()[1:]
    is_single = _is_single(items)
    ids = torch.from_numpy(model.processor.item_ids(check_items([items] if is_single else items), "to embed"))
    embeddings = model.items(ids.to(model.device))
    return embeddings[0] if is_single else embeddings


def _batches(model: Model, users: Users, questions: Sequence[Any], batch_size: int) -> Iterator[_Batch]:
    """Yield the users in batches, with their encoded histories and questions."""
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    model.eval()
    for first in range(0, len(users.histories), batch_size):
        batch = slice(first, min(first + batch_size, len(users.histories)))
        requests = []
        for index in range(batch.start, batch.stop):
            with users.named_in_errors(index):
                requests.append(encode_request(model.processor, model.config, users.histories[index], questions[index]))
        windows = [len(request.history.offsets) - 1 for request in requests]
        state = model.encode_history(_joined_histories([request.history for request in requests]).to(model.device))
        yield _Batch(batch, requests, state, [0, *np.cumsum(windows).tolist()][:-1])


def _answers(model: Model, batch: _Batch) -> list[Tensor]:
    """Return the answers to each user's questions, (Q, E) each, in the user's order."""
    questions = [request.questions for request in batch.requests]
    answers = model.answer_questions(batch.state, _joined_questions(questions, batch.first_window).to(model.device))
    by_user = answers.split([len(request.order) for request in batch.requests])
    return [own[request.order] for own, request in zip(by_user, batch.requests, strict=True)]


def _feedback(model: Model, batch: _Batch, items: Sequence[list[Any]]) -> list[list[dict[str, Any]]]:
    """Return the feedback predictions for each user's items."""
    questions = []
    for request, own in zip(batch.requests, items, strict=True):
        ids = torch.from_numpy(model.processor.item_ids(own, "to predict feedback for"))
        encoded, n = request.questions, len(own)
        condition = {name: value.expand(n, *value.shape[1:]) for name, value in encoded.condition.items()}
        questions.append(Questions(condition, encoded.user_index.expand(n), encoded.prefix.expand(n), ids))
    joined = _joined_questions(questions, batch.first_window).to(model.device)
    raw_items = [item for own in items for item in own]
    rows = iter(_predictions(model, raw_items, model.predict_feedback_logits(batch.state, joined)))
    return [[next(rows) for _ in own] for own in items]


def _predictions(model: Model, items: Sequence[Any], logits: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Return the feedback predictions for n items from the logits, (n, R), of each target."""
    rows: list[dict[str, Any]] = [{"item": item} for item in items]
    for spec, target_logits in zip(model.config.trained_feedback_targets, logits, strict=True):
        values = model.processor.feedback_values(spec)
        for row, probabilities in zip(rows, target_logits.softmax(1).tolist(), strict=True):
            row[spec.name] = dict(zip(values, probabilities, strict=True))
    return rows


def _user_vectors(model: Model, values: Any) -> Tensor:
    """Return a caller's user vectors, (1, M, E), of unit length."""
    m, width = len(model.network.user_vector_names), model.config.settings.embedding_width
    try:
        with np.errstate(over="ignore"):  # an infinite number is refused below
            vectors = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float32))
    except (TypeError, ValueError, OverflowError):
        vectors = torch.empty(0)
    if tuple(vectors.shape) not in ((m, width), (m * width,)) or not vectors.isfinite().all():
        raise InputError(
            f"vectors: expected {m} vectors of width {width}, all finite, as ({m}, {width}) or ({m * width},) numbers; found "
            f"{shown(values)}"
        )
    return F.normalize(vectors.to(model.device, torch.float32).view(1, m, width), dim=-1)


def _joined_histories(histories: Sequence[History]) -> History:
    """Return the histories of several requests, end to end."""
    sizes = np.cumsum([0, *(len(history.item) for history in histories)])
    offsets = [history.offsets[1:] + int(size) for history, size in zip(histories, sizes, strict=False)]
    return History(
        torch.cat([history.item for history in histories]),
        _joined_fields([history.condition for history in histories]),
        torch.cat([torch.zeros(1, dtype=torch.int64), *offsets]),
    )


def _joined_questions(questions: Sequence[Questions], first_window: Sequence[int]) -> Questions:
    """Return the questions of several requests, end to end; `first_window` is each request's first window in the batch."""
    item = [question.item for question in questions if question.item is not None]
    return Questions(
        _joined_fields([question.condition for question in questions]),
        torch.cat([question.user_index + first for question, first in zip(questions, first_window, strict=True)]),
        torch.cat([question.prefix for question in questions]),
        torch.cat(item) if item else None,
    )


def _joined_fields(fields: Sequence[Fields]) -> Fields:
    return {name: torch.cat([own[name] for own in fields]) for name in fields[0]}


def _index_of(model: Model, index: ItemIndex | None) -> ItemIndex:
    """Return the caller's index, or the exact search if there is none.

    Raises:
        InputError: the index has other vectors than the model has now.
    """
    catalogue = model.catalogue()  # (V, E)
    if index is None:
        return ExactIndex(catalogue)
    if index.vectors is not catalogue and not torch.equal(index.vectors.to(catalogue), catalogue):
        raise InputError("index: has the items of other weights; build it again from catalogue() of this model")
    return index


def _seen_items(model: Model, batch: _Batch, histories: Sequence[Any]) -> Pairs:
    """Return the items of the events that each question of a batch sees."""
    seen = [
        model.processor.items.encode([event["item"] for event in list(history)[: request.prefix[0]]])
        for request, history in zip(batch.requests, histories[batch.users], strict=True)
    ]
    return Pairs(
        torch.from_numpy(np.repeat(np.arange(len(seen)), list(map(len, seen)))), torch.from_numpy(np.concatenate(seen))
    )


def _copied_items(model: Model, answers: Tensor, copied: Copies, allowed: Tensor | None) -> Found:
    """Return the items of the histories that may be recommended, with their scores, in any order.

    Args:
        model: the model.
        answers: (Q, E).
        copied: one copy for each question and item, by question.
        allowed: as in `ItemIndex.search`.
    """
    scale = model.network.scale("item")
    cosine = (answers[copied.question] * model.catalogue()[copied.item]).sum(-1)
    score = torch.logaddexp(scale * cosine, copied.score) / scale
    may_be_found = (
        copied.item > 0 if allowed is None else (copied.item > 0) & allowed.to(copied.item.device)[copied.item]
    )
    number = copied.question.bincount(minlength=len(answers))  # (Q,)
    column = torch.arange(len(score), device=score.device) - (number.cumsum(0) - number)[copied.question]
    shape = len(answers), int(number.max())
    item, scores = copied.item.new_zeros(shape), score.new_full(shape, -torch.inf)
    item[copied.question, column] = copied.item
    scores[copied.question, column] = score.masked_fill(~may_be_found, -torch.inf)
    return Found(item, scores)


def _found_items(model: Model, found: Found) -> list[list[dict[str, Any]]]:
    """Return the items of each query, best first."""
    rows = []
    for ids, scores in zip(found.item.tolist(), found.score.tolist(), strict=True):
        items = zip(model.processor.items.decode(ids), ids, scores, strict=True)
        rows.append(
            [
                {"item": item, "title": model.processor.titles[index], "similarity": score}
                for item, index, score in items
                if score > -math.inf
            ]
        )
    return rows


def _without_feedback(model: Model, question: Any) -> Mapping[str, Any]:
    """Return the question of a feedback prediction.

    Raises:
        InputError: the question has the feedback that the model predicts.
    """
    condition = check_question(question)
    feedback = sorted({spec.name for spec in model.config.condition if spec.feedback} & set(condition))
    if feedback:
        raise InputError(
            f"question: condition field '{feedback[0]}' is feedback, which the model predicts; leave it out"
        )
    return condition


def _check_predicts_feedback(model: Model) -> None:
    if not model.config.trained_feedback_targets:
        raise InputError(
            "the model was not trained to predict feedback; pretrain it with pretrain.feedback_prediction_weight above 0"
        )


def _is_single(items: Any) -> bool:
    return isinstance(items, str | bytes) or not hasattr(items, "__len__")


def _is_list_of_questions(questions: Any) -> bool:
    """Return whether questions are those of one user: mappings, not one list of mappings per user."""
    return not isinstance(questions, Sequence) or not len(questions) or not isinstance(questions[0], list | tuple)


def _is_question(question: Any) -> bool:
    return not isinstance(question, list | tuple)


def _is_list_of_items(items: Any) -> bool:
    return not isinstance(items, list | tuple) or not len(items) or not isinstance(items[0], list | tuple)
