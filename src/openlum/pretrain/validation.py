"""Validation metrics of a model during its training.

Shapes: B users, N evaluated events of a batch, R values of a feedback field, E embedding width, V items.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from openlum.data.dataset import SPLITS, Dataset, DatasetInfo
from openlum.data.packing import Protocol, Spans, batches, copy_spans, events_before
from openlum.data.sequences import Sequences, concatenate, join_sequences
from openlum.evaluation.retrieval_metrics import rank_of_target
from openlum.model import History, LargeUserModel, ModelConfig, Questions
from openlum.model.batch import blank
from openlum.model.losses import positions_per_chunk
from openlum.model.pointer import Copies, add_copies
from openlum.model.settings import TAKEN
from openlum.pretrain.moments import draw_moments
from openlum.pretrain.objective import SHOWN_PER_EVENT, feedback_contrast_questions, feedback_prediction_questions
from openlum.pretrain.shown_items import ShownItems, has_shown_items, moved
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives

TOP = 10
"""Recall and NDCG count the items up to this rank."""
NDCG_ANY = f"ndcg@{TOP} any"
"""Name of the NDCG of the question "what next?", in the metrics."""
PREDICTED = " predicted"
"""End of the name of the AUC of a feedback prediction, in the metrics."""
MATCHED = " matched"
"""End of the name of the AUC of a prediction of the matching head, in the metrics."""
POPULARITY = f"recall@{TOP} popularity"
"""Name of the recall of the most popular training items, in the metrics."""


@dataclass(frozen=True)
class ValidationScores:
    """Scores of items at evaluated events, by the question *any*."""

    scores: Tensor
    """(N, 1 + C) on the CPU: the item that was met, then the candidates."""
    items: np.ndarray
    """(N,) the items that were met."""
    times: np.ndarray
    """(N,) seconds since 1970."""
    users: np.ndarray
    """(N,) user ids."""


@dataclass(frozen=True)
class ValidationSet:
    """Spans of histories whose last events are evaluated."""

    sequences: Sequences
    """The events of the spans, copied from the dataset's shards."""
    spans: Spans
    """B spans of `sequences`. A span ends with its evaluated events."""
    first_evaluated: np.ndarray
    """(B,) index of the first evaluated event in the user's events in `sequences`."""
    time_matched_negatives: TimeMatchedNegatives
    """Negatives from the evaluated events, for logs without feedback."""
    shown_items: ShownItems | None = None
    """Impressions, which are evaluated instead of negatives if the log has them."""

    def popularity_recall(self, item_counts: np.ndarray) -> float:
        """Return the recall of the items with the most training events, whatever the history; 0 without evaluated events.

        Args:
            item_counts: (V,) number of training events of each item.
        """
        spans = Spans(self.spans.user_index, self.first_evaluated, self.spans.end)
        item = self.sequences.item[spans.events(self.sequences)[0]]
        item = item[item > 0]
        most_popular = np.argsort(-item_counts[1:], kind="stable")[:TOP] + 1
        return float(np.isin(item, most_popular).mean()) if len(item) else 0.0


def validation_set(dataset: Dataset, protocol: Protocol, max_events: int, events: int, seed: int) -> ValidationSet:
    """Return a validation set of random users with about `events` evaluated events, never including test events.

    Args:
        dataset: with the histories.
        protocol: of the training. With `last`, the validation events are the held-out ones, otherwise those of the validation
            period.
        max_events: of the model.
        events: number of evaluated events to reach, if the dataset has that many.
        seed: of the random order of users.
    """
    candidates = []
    for sequences in dataset.groups_of_sequences():
        first, end = _evaluated_events(sequences, dataset.info, protocol, max_events)
        users = np.flatnonzero(end > first)
        candidates.append(np.stack([sequences.user[users], first[users], end[users]]))
        del sequences  # leaves the memory before the next group is read
    user, first, end = np.concatenate(candidates, 1)
    user, first, end = (values[np.argsort(user)] for values in (user, first, end))  # the order is that of one shard
    chosen = np.random.default_rng(seed).permutation(len(user))
    chosen = chosen[: int(np.searchsorted(np.cumsum((end - first)[chosen]), events)) + 1]
    user, first, end = user[chosen], first[chosen], end[chosen]
    start = np.maximum(end - max_events, 0)
    copies, begins = [], []
    for sequences in dataset.groups_of_sequences():
        index = sequences.user_index(user)
        in_group = index >= 0
        copy, begin = copy_spans(sequences, Spans(index[in_group], start[in_group], end[in_group]))
        copies.append(copy)
        begins.append(begin)
        del sequences
    begin = np.concatenate(begins)[np.argsort(np.concatenate([copy.user for copy in copies]))]
    copy = join_sequences(copies)
    index = copy.user_index(user)
    start, first, end = (values - begin[index] for values in (start, first, end))
    shown_items = None
    if has_shown_items(dataset):
        parts = [moved(shard.impressions(split), copy, begin) for shard in dataset.shards() for split in SPLITS]
        shown_items = ShownItems(copy, concatenate(parts))
    evaluated, _ = Spans(index, first, end).events(copy)
    negatives = TimeMatchedNegatives(copy, evaluated)
    return ValidationSet(copy, Spans(index, start, end), first, negatives, shown_items)


def _evaluated_events(
    sequences: Sequences, info: DatasetInfo, protocol: Protocol, max_events: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first evaluated event of each user and the event after the last one, (U,) each; equal if there is none."""
    if protocol == "last":
        lengths = np.diff(sequences.offsets)
        first, end = sequences.valid_at, np.minimum(sequences.valid_at + 1, lengths)
    else:
        first, end = (events_before(sequences, time) for time in (info.valid_time, info.test_time))
        if protocol == "both":
            end = np.minimum(end, sequences.test_at)
    return np.maximum(first, end - max_events // 2), end


@torch.inference_mode()
def validate(model: LargeUserModel, validation: ValidationSet, batch_events: int) -> dict[str, float]:
    """Return the validation metrics: losses, recall and areas under the curve (AUC).

    An AUC compares one feedback value with the other values and is averaged over the values. If the log has no feedback, the
    same impressions or negatives are drawn in every call.

    Returns:
        `item_loss`, `recall@10` and `ndcg@10` under each event's condition, and `recall@10 any` and `ndcg@10 any` with all fields
        *any*. From the contrast of feedback values, `feedback_contrast_loss` (summed over the fields) and `auc FIELD`. From
        feedback prediction, `feedback_prediction_loss` and `auc FIELD predicted`. From the matching head, with user vectors as of
        each user's first evaluated event, `matching_head_loss` and `auc FIELD matched`. Empty without evaluated events.

    Raises:
        InputError: an answer is not-a-number, as in a model that diverged.
    """
    if not len(validation.spans):
        return {}
    model.eval()
    e = model.items()
    outputs: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    for history, positions in _evaluated_batches(validation, batch_events):
        contrast = None
        if TAKEN in model.config.trained_feedback_targets:
            shown, negatives = validation.shown_items, validation.time_matched_negatives
            source, count = (shown, SHOWN_PER_EVENT) if shown else (negatives, 1)
            contrast = source.questions(history, positions, count, generator)
        for name, values in _batch_outputs(model, e, history, positions, contrast).items():
            outputs.setdefault(name, []).append(values.cpu())
    if not sum(len(part) for part in outputs["item_loss"]):  # all items are unknown
        return {}
    return _metrics(model, {name: torch.cat(parts) for name, parts in outputs.items()})


def _evaluated_batches(validation: ValidationSet, batch_events: int) -> Iterator[tuple[History, Tensor]]:
    """Yield the histories of each batch, and the positions of its evaluated events, (N,)."""
    first_span = 0
    for batch in batches(validation.spans, batch_events):
        history = History.gather(validation.sequences, batch)
        lengths, offsets = np.diff(history.offsets), history.offsets.numpy()
        event_number = np.arange(offsets[-1]) + np.repeat(batch.start - offsets[:-1], lengths)  # in the user's events
        first_evaluated = validation.first_evaluated[first_span : first_span + len(batch)]
        evaluated = event_number >= np.repeat(first_evaluated, lengths)
        first_span += len(batch)
        yield history, torch.from_numpy(np.flatnonzero(evaluated & (history.item.numpy() > 0)))


@torch.inference_mode()
def score_candidates(
    model: LargeUserModel, validation: ValidationSet, batch_events: int, candidates: Tensor, events: int
) -> ValidationScores:
    """Return the scores of candidates at evaluated events.

    Args:
        model: that scores.
        validation: the events; the spans are in random order.
        batch_events: events of a batch.
        candidates: (C,) item ids.
        events: stop after this number of events.
    """
    model.eval()
    e, sequences, config = model.items(), validation.sequences, model.config
    user = np.repeat(sequences.user, np.diff(sequences.offsets))
    scores, event_parts = [torch.empty(0, 1 + len(candidates))], [torch.empty(0, dtype=torch.int64)]
    for history, positions in _evaluated_batches(validation, batch_events):
        assert history.event_index is not None
        questions = replace(
            _item_questions(config, history, positions), condition=blank(config.condition, len(positions))
        )
        all_scores = model.score_items(model.encode_history(history.to(model.device)), questions.to(model.device), e)
        own = history.item[positions, None]  # (n, 1)
        ids = torch.cat([own, candidates.expand(len(own), -1)], 1).to(model.device)
        scores.append(all_scores.gather(1, ids).cpu())
        event_parts.append(history.event_index[positions])
        if sum(map(len, event_parts)) >= events:
            break
    event = torch.cat(event_parts).numpy()
    return ValidationScores(
        torch.cat(scores), sequences.item[event].astype(np.int64), sequences.time[event], user[event]
    )


def _batch_outputs(
    model: LargeUserModel, e: Tensor, history: History, positions: Tensor, contrast: tuple[Questions, Tensor] | None
) -> dict[str, Tensor]:
    """Return the outputs of the model for the evaluated events of a batch, by name.

    Args:
        model: that is validated.
        e: (V, E) embeddings of its items.
        history: of the batch.
        positions: (N,) of the evaluated events.
        contrast: for logs without feedback: questions about items that users took and did not take, and their labels.

    Returns:
        `recall@10`, `recall@10 any`, `ndcg@10`, `ndcg@10 any` and `item_loss`, (N,) each. For each feedback
        field and its n events with feedback: `value:FIELD`, (n,) index of the observed value; `score:FIELD`,
        `feedback_prediction:FIELD` and `matching_head:FIELD`, (n, R) logits.
    """
    config, state = model.config, model.encode_history(history.to(model.device))
    has_feedback = {spec.name: (history.condition[spec.name][positions] > 0) for spec in config.feedback}
    under_condition = _item_questions(config, history, positions)
    questions = [under_condition, replace(under_condition, condition=blank(config.condition, len(positions)))]
    questions += [
        feedback_contrast_questions(config, history, positions[has_feedback[spec.name]], spec)
        for spec in config.feedback
    ]
    feedback_questions = (
        contrast[0]
        if contrast
        else feedback_prediction_questions(
            config, history, positions if config.trained_feedback_targets else positions[:0]
        )
    )
    answers, feedback_logits = model.answer_and_predict_feedback(
        state, [group.to(model.device) for group in questions], feedback_questions.to(model.device)
    )
    moments, moment_index = draw_moments(feedback_questions, share=0.0)
    vectors = model.network.user_vectors(state, moments.to(model.device))[moment_index.to(model.device)]
    matched_logits = model.network.match(vectors, feedback_questions.to(model.device)).logits
    target, outputs = history.item[positions].to(model.device), {}
    scale = model.network.scale("item")
    for name, group, answer in zip(("", " any"), questions, answers, strict=False):
        copies = model.network.copies(state, group.to(model.device), answer.outputs)
        rank, loss = _rank_and_loss(answer.vectors, e, target, scale, copies)
        hit = (rank <= TOP).float()
        outputs[f"recall@{TOP}{name}"] = hit
        outputs[f"ndcg@{TOP}{name}"] = hit / (1 + rank).log2()
        if not name:
            outputs["item_loss"] = loss
    for spec, answer in zip(config.feedback, answers[2:], strict=True):
        mask = has_feedback[spec.name]
        outputs[f"value:{spec.name}"] = history.condition[spec.name][positions[mask]] - 1
        o = answer.vectors.unflatten(0, (int(mask.sum()), spec.size - 1))  # (n, R, E)
        similarity = (o @ e[target[mask.to(e.device)]].unsqueeze(-1)).squeeze(-1)  # (n, R)
        outputs[f"score:{spec.name}"] = model.network.scale("feedback") * similarity
    for kind, logits in (("feedback_prediction", feedback_logits), ("matching_head", matched_logits)):
        for spec, target_logits in zip(config.trained_feedback_targets, logits, strict=False):
            outputs[f"{kind}:{spec.name}"] = (
                target_logits if contrast else target_logits[has_feedback[spec.name].to(target_logits.device)]
            )
    if contrast:
        outputs[f"value:{TAKEN.name}"] = contrast[1]
    return outputs


def _item_questions(config: ModelConfig, history: History, positions: Tensor) -> Questions:
    """Return questions that search for the items of events, (N,) indices, under the event's condition.

    The questions see the same events as at inference: the events of earlier seconds, as for impressions; or, if the
    model is for retrieval only (protocol `last`), all earlier events of the log.
    """
    assert history.prefix is not None
    user_index = history.user_index(positions)
    prefix = positions - history.offsets[user_index] if config.protocol == "last" else history.prefix[positions]
    return Questions({name: field[positions] for name, field in history.condition.items()}, user_index, prefix)


def _rank_and_loss(o: Tensor, e: Tensor, target: Tensor, scale: Tensor, copies: Copies) -> tuple[Tensor, Tensor]:
    """Return the rank of the target, from 1, and its loss, (N,) each, for answers (N, E) and all items (V, E)."""
    rank, loss = [target.new_zeros(0)], [o.new_zeros(0)]
    chunk_size = positions_per_chunk(e)
    for begin in range(0, len(o), chunk_size):
        chunk_target = target[begin : begin + chunk_size, None]
        logits = scale * (o[begin : begin + chunk_size] @ e.T)  # (n, V)
        add_copies(logits, copies, begin)
        target_logit = logits.gather(1, chunk_target)
        rank.append(rank_of_target(logits, chunk_target.squeeze(1)))
        loss.append(logits.logsumexp(1) - target_logit.squeeze(1))
    return torch.cat(rank), torch.cat(loss)


def _metrics(model: LargeUserModel, outputs: dict[str, Tensor]) -> dict[str, float]:
    """Return the metrics of `validate` from the outputs of all batches."""
    metrics = {name: float(values.mean()) for name, values in outputs.items() if ":" not in name}
    for spec in model.config.feedback_targets:
        value = outputs.get(f"value:{spec.name}")
        if value is None or not len(value):
            continue
        for kind, loss_name, auc_name in (
            ("score", "feedback_contrast_loss", f"auc {spec.name}"),
            ("feedback_prediction", "feedback_prediction_loss", f"auc {spec.name}{PREDICTED}"),
            ("matching_head", "matching_head_loss", f"auc {spec.name}{MATCHED}"),
        ):
            logits = outputs.get(f"{kind}:{spec.name}")
            if logits is not None:
                loss = float(torch.nn.functional.cross_entropy(logits, value))
                metrics[loss_name] = metrics.get(loss_name, 0.0) + loss
                if len(value.unique()) > 1:
                    metrics[auc_name] = _auc(value, logits.softmax(-1))
    return metrics


def _auc(value: Tensor, probability: Tensor) -> float:
    """Return the AUC of each value against the other values, averaged over the values that some but not all events have."""
    from sklearn.metrics import roc_auc_score  # imported here: it takes over a second

    auc_by_value = [
        roc_auc_score((value == r).numpy(), probability[:, r].numpy())
        for r in range(probability.shape[1])
        if 0 < int((value == r).sum()) < len(value)
    ]
    return float(np.mean(auc_by_value))
