"""How well a model predicts the validation period while it is trained."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from openlum.data.dataset import Dataset
from openlum.data.packing import Protocol, Spans, batches
from openlum.model import History, LargeUserModel, ModelConfig, Questions
from openlum.model.batch import blank
from openlum.model.losses import positions_at_once
from openlum.model.settings import TAKEN
from openlum.pretrain.objective import feedback_contrast_questions, feedback_prediction_questions
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives

RECALL_AT = 10


@dataclass(frozen=True)
class ValidationSet:
    """Spans of histories, and in each the first event of it that is judged; all after that are."""

    spans: Spans
    first: np.ndarray
    """(B,) index in the user's events."""
    others: TimeMatchedNegatives
    """The judged events, which stand for what users did not take."""


def validation_set(dataset: Dataset, protocol: Protocol, max_events: int, events: int, seed: int) -> ValidationSet:
    """Users at random until about `events` events of the validation period (or held-out ones, for `last`) are judged.

    Events that the test of the protocol is about are never among them.
    """
    sequences = dataset.sequences
    lengths = np.diff(sequences.offsets)
    if protocol == "last":
        first, end = sequences.valid_at, np.minimum(sequences.valid_at + 1, lengths)
    else:
        before = [
            np.concatenate([[0], np.cumsum(sequences.time < t)])
            for t in (dataset.info.valid_time, dataset.info.test_time)
        ]
        first, end = (c[sequences.offsets[1:]] - c[sequences.offsets[:-1]] for c in before)
        if protocol == "both":
            end = np.minimum(end, sequences.test_at)
    first = np.maximum(first, end - max_events // 2)
    users = np.random.default_rng(seed).permutation(np.flatnonzero(end > first))
    enough = int(np.searchsorted(np.cumsum((end - first)[users]), events)) + 1
    users = users[:enough]
    start = np.maximum(end[users] - max_events, 0)
    judged, _ = Spans(users, first[users], end[users]).events(sequences)
    return ValidationSet(Spans(users, start, end[users]), first[users], TimeMatchedNegatives(sequences, judged))


@torch.inference_mode()
def validate(model: LargeUserModel, dataset: Dataset, chosen: ValidationSet, batch_events: int) -> dict[str, float]:
    """Losses and recall on the judged events.

    Returns:
        `item_loss` and `recall@10` with each event's condition known, `recall@10 any` with nothing known, and for each feedback
        field `feedback_contrast_loss` (summed) and its area under the curve (one against the rest, averaged, where it has several values);
        likewise `feedback_prediction_loss` and `auc FIELD predicted` of questions about items. The same items are drawn for `taken` every time.
    """
    if not len(chosen.spans):
        return {}
    model.eval()
    e = model.items()
    found: dict[str, list[Tensor]] = {}
    done, generator = 0, torch.Generator().manual_seed(0)
    for batch in batches(chosen.spans, batch_events):
        history = History.gather(dataset.sequences, batch)
        lengths, offsets = np.diff(history.offsets), history.offsets.numpy()
        within = np.arange(offsets[-1]) + np.repeat(batch.start - offsets[:-1], lengths)
        judged = within >= np.repeat(chosen.first[done : done + len(batch)], lengths)
        done += len(batch)
        positions = torch.from_numpy(np.flatnonzero(judged & (history.item.numpy() > 0)))
        others = (
            chosen.others.questions(history, positions, 1, generator)
            if TAKEN in model.config.trained_feedback_targets
            else None
        )
        figures = _judge(model, e, history, positions, others)
        for name, values in figures.items():
            found.setdefault(name, []).append(values.cpu())
    return _summarise(model, {name: torch.cat(parts) for name, parts in found.items()})


def _judge(
    model: LargeUserModel, e: Tensor, history: History, positions: Tensor, others: tuple[Questions, Tensor] | None
) -> dict[str, Tensor]:
    """Figures of the judged events of a batch, (N,) indices, (N, ...).

    Args:
        model: that is judged.
        e: (V, E) embeddings of its items.
        history: of the batch.
        positions: of the judged events.
        others: where there is no feedback, questions about the events' items and about others, and whether each was taken.
    """
    config, state = model.config, model.encode_history(history.to(model.device))
    given = {spec.name: (history.condition[spec.name][positions] > 0) for spec in config.feedback}
    own = _looking_for_items(config, history, positions)
    questions = [own, replace(own, condition=blank(config.condition, len(positions)))]
    questions += [
        feedback_contrast_questions(config, history, positions[given[spec.name]], spec) for spec in config.feedback
    ]
    about = (
        others[0]
        if others
        else feedback_prediction_questions(
            config, history, positions if config.trained_feedback_targets else positions[:0]
        )
    )
    answers, judged = model.answer_and_predict_feedback(
        state, [group.to(model.device) for group in questions], about.to(model.device)
    )
    target, found = history.item[positions].to(model.device), {}
    for name, o in zip(("", " any"), answers, strict=False):
        found[f"recall@{RECALL_AT}{name}"], loss = _recall_and_loss(o, e, target, model.scale("item"))
        if not name:
            found["item_loss"] = loss
    for spec, o in zip(config.feedback, answers[2:], strict=True):
        some = given[spec.name]
        found[f"value:{spec.name}"] = history.condition[spec.name][positions[some]] - 1
        o = o.unflatten(0, (int(some.sum()), spec.size - 1))  # (n, R, E)
        similarity = (o @ e[target[some.to(e.device)]].unsqueeze(-1)).squeeze(-1)  # (n, R)
        found[f"score:{spec.name}"] = model.scale("feedback") * similarity
    for spec, logits in zip(config.trained_feedback_targets, judged, strict=False):
        found[f"feedback_prediction:{spec.name}"] = logits if others else logits[given[spec.name].to(logits.device)]
    if others:
        found[f"value:{TAKEN.name}"] = others[1]
    return found


def _looking_for_items(config: ModelConfig, history: History, positions: Tensor) -> Questions:
    """Questions that look for the items of events, (N,) indices, each under the event's own condition.

    They see what such questions see when the model is used: the events of earlier seconds, as impressions' do; where the model is
    for retrieval alone (protocol `last`), all events that the log has before.
    """
    assert history.before is not None
    user = history.user_of(positions)
    prefix = positions - history.offsets[user] if config.protocol == "last" else history.before[positions]
    return Questions({name: field[positions] for name, field in history.condition.items()}, user, prefix)


def _recall_and_loss(o: Tensor, e: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the target is among the first items, and its loss, of answers (N, E) among all items (V, E): (N,) each."""
    recall, loss = [o.new_zeros(0)], [o.new_zeros(0)]
    at_once = positions_at_once(e)
    for some, wanted in zip(o.split(at_once), target[:, None].split(at_once), strict=True):
        logits = scale * (some @ e.T)  # (n, V)
        logits[:, 0] = -torch.inf
        own = logits.gather(1, wanted)
        recall.append(((logits > own).sum(1) < RECALL_AT).float())
        loss.append(logits.logsumexp(1) - own.squeeze(1))
    return torch.cat(recall), torch.cat(loss)


def _summarise(model: LargeUserModel, found: dict[str, Tensor]) -> dict[str, float]:
    result = {name: float(values.mean()) for name, values in found.items() if ":" not in name}
    for spec in model.config.feedback_targets:
        value = found.get(f"value:{spec.name}")
        if value is None or not len(value):
            continue
        for kind, loss, auc in (
            ("score", "feedback_contrast_loss", f"auc {spec.name}"),
            ("feedback_prediction", "feedback_prediction_loss", f"auc {spec.name} predicted"),
        ):
            logits = found.get(f"{kind}:{spec.name}")
            if logits is not None:
                result[loss] = result.get(loss, 0.0) + float(torch.nn.functional.cross_entropy(logits, value))
                if len(value.unique()) > 1:
                    result[auc] = _auc(value, logits.softmax(-1))
    return result


def _auc(value: Tensor, probability: Tensor) -> float:
    """One value against the rest, averaged over the values that occur, both ways."""
    each = [
        roc_auc_score((value == r).numpy(), probability[:, r].numpy())
        for r in range(probability.shape[1])
        if 0 < int((value == r).sum()) < len(value)
    ]
    return float(np.mean(each))
