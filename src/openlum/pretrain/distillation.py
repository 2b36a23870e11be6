"""The last training of the matching head, when the user encoder is ready.

In the training, the matching head follows predictions that change with every step. Afterwards it learns from those of the
finished model, with all other weights fixed, on examples that are computed once. The teacher of the feedback is the mean of two
predictions of the model in log-probability: feedback prediction, and contrast of the answers for each feedback value. The teacher
of the similarities is the similarity of the item to each answer.

Shapes: Q questions, M user vectors, F fixed questions, E width of a vector, R values of a feedback field, P moments.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from openlum.model import History, Questions
from openlum.model.matching_head import fixed_questions
from openlum.model.network import Network
from openlum.model.state import HistoryState
from openlum.pretrain.moments import draw_moments
from openlum.pretrain.objective import Objective, distillation_loss, weighted_mean, with_each_value
from openlum.training.schedule import warmup_cosine_rate

EXAMPLES, MAX_NUMBERS = 131_072, 2**27
"""Number of examples after which no more are computed, and the largest number of entries of their vectors, similarities and
conditions."""
STEPS, MAX_EPOCHS, BATCH = 1500, 20, 1024
"""Number of steps, but no more than this number of passes over the examples, and examples per step."""
LEARNING_RATE, WARMUP = 4e-3, 0.05
MOMENTS = 0.75
"""Share of the moments of the examples at which user vectors are computed."""
SMALLEST_SPREAD = 1e-3
"""Smallest standard deviation that the errors of a similarity are divided by."""
LOSS = "matching_head_loss"
"""The validation metric that must fall."""


class Examples:
    """Questions about items with user vectors and what the teacher says, on the CPU."""

    def __init__(self) -> None:
        self.vectors: list[Tensor] = []
        self.moment: list[Tensor] = []
        self.item: list[Tensor] = []
        self.condition: dict[str, list[Tensor]] = {}
        self.feedback: list[list[Tensor]] = []
        self.similarities: list[Tensor] = []
        self.weight: list[Tensor] = []
        self.count = self.moments = self.numbers = 0

    def add(
        self,
        vectors: Tensor,
        moment: Tensor,
        questions: Questions,
        teacher: tuple[list[Tensor], Tensor],
        weight: Tensor,
    ) -> None:
        """Add the examples of a batch.

        Args:
            vectors: (P, M, E) user vectors of the batch.
            moment: (Q,) index of the moment of each question.
            questions: about items.
            teacher: probabilities, (Q, R), for each feedback target, and similarities, (Q, 2 F).
            weight: (Q,) weight of each question.
        """
        assert questions.item is not None
        self.vectors.append(vectors.half().cpu())
        self.moment.append(moment + self.moments)
        self.item.append(questions.item)
        for name, values in questions.condition.items():
            self.condition.setdefault(name, []).append(values)
        self.feedback.append([probabilities.cpu() for probabilities in teacher[0]])
        self.similarities.append(teacher[1].cpu())
        self.weight.append(weight)
        self.count, self.moments = self.count + len(moment), self.moments + len(vectors)
        self.numbers += vectors.numel() + teacher[1].numel()
        self.numbers += sum(values.numel() for values in questions.condition.values())

    @property
    def is_full(self) -> bool:
        """Whether there are enough examples."""
        return self.count >= EXAMPLES or self.numbers >= MAX_NUMBERS


def finish_matching_head(
    network: Network,
    histories: Iterator[History],
    objective: Objective,
    validate: Callable[[], dict[str, float]],
    before: dict[str, float],
    seed: int,
) -> dict[str, float]:
    """Train the matching head with all other weights fixed, and return the validation metrics.

    The head keeps its weights if the new ones do not lower its loss on the validation events.

    Args:
        network: that was trained.
        histories: training events in random order. They are read until there are enough examples.
        objective: of the training.
        validate: returns the validation metrics; empty without validation events.
        before: the validation metrics before.
        seed: of the order of the examples.
    """
    torch.manual_seed(seed)
    network.eval()
    examples = _compute(network, histories, objective)
    if not examples.count:
        return before
    old = copy.deepcopy(network.matching_head.state_dict())
    _train_head_alone(network, examples)
    after = validate()
    if LOSS in before and not after[LOSS] < before[LOSS]:
        network.matching_head.load_state_dict(old)
        return before
    return after


def forget_users(network: Network, histories: Iterator[History], objective: Objective, seed: int) -> None:
    """Train the matching head in the same way, with zeros in place of all user vectors: the control `no user`.

    The head learns from the same teacher what an item and a context say without the user. Arguments as in `finish_matching_head`.
    """
    torch.manual_seed(seed)
    network.eval()
    examples = _compute(network, histories, objective)
    examples.vectors = [torch.zeros_like(vectors) for vectors in examples.vectors]
    if examples.count:
        _train_head_alone(network, examples)


@torch.no_grad()
def _compute(network: Network, histories: Iterator[History], objective: Objective) -> Examples:
    """Return examples from the first histories."""
    examples = Examples()
    for history in histories:
        drawn = objective.feedback_examples(history)
        if len(drawn.item):
            state = network.encode_history(history.to(network.device))
            moments, moment = draw_moments(drawn.questions, MOMENTS)
            vectors = network.user_vectors(state, moments.to(network.device))
            teacher = _teach(network, state, drawn.questions, objective)
            examples.add(vectors, moment, drawn.questions, teacher, drawn.weight)
        if examples.is_full:
            break
    return examples


def _teach(
    network: Network, state: HistoryState, questions: Questions, objective: Objective
) -> tuple[list[Tensor], Tensor]:
    """Return what the teacher says: probabilities, (Q, R), for each feedback target, and similarities, (Q, 2 F)."""
    config, device = network.config, network.device
    questions = replace(questions, condition=network.feedback_condition(questions.condition))
    contrasted = config.feedback if config.settings.conditions else []
    groups = [questions, *(_about_items(with_each_value(questions, spec), questions) for spec in contrasted)]
    groups.append(_fixed(network, questions))
    answers, logits = network.answer_and_predict_feedback(
        state, [group.to(device) for group in groups], questions.to(device)
    )
    assert questions.item is not None
    items = network.items(questions.item.to(device))  # (Q, E)
    similarities = [
        network.similarity(answer, items.repeat_interleave(len(answer.vectors) // len(items), 0)).view(len(items), -1)
        for answer in answers
    ]
    log_p = [target_logits.log_softmax(1) for target_logits in logits]
    for index, answer in enumerate(answers[1:-1] if objective.settings.feedback_contrast_weight > 0 else []):
        o = answer.vectors.unflatten(0, (len(items), -1))  # (Q, R, E)
        contrast = network.scale("feedback") * torch.einsum("qre,qe->qr", o, items)
        log_p[index] = (log_p[index] + contrast.log_softmax(1)) / 2
    in_context = torch.cat(similarities[:-1], 1)[:, : len(network.fixed_question_names)]
    return [target.softmax(1) for target in log_p], torch.cat([similarities[-1], in_context], 1)


def _fixed(network: Network, questions: Questions) -> Questions:
    """Return the fixed questions for each of some questions about items: Q F questions with the same prefixes and items."""
    fixed, f = fixed_questions(network.condition_specs), len(network.fixed_question_names)
    condition = {
        name: field.repeat(len(questions.user_index), *[1] * (field.dim() - 1)) for name, field in fixed.items()
    }
    user_index, prefix = (x.repeat_interleave(f) for x in (questions.user_index, questions.prefix))
    return _about_items(Questions(condition, user_index, prefix), questions)


def _about_items(repeated: Questions, questions: Questions) -> Questions:
    """Return questions that are several for each of Q questions about items, with the items of these."""
    assert questions.item is not None
    times = len(repeated.user_index) // max(len(questions.item), 1)
    return replace(repeated, item=questions.item.repeat_interleave(times))


def _train_head_alone(network: Network, examples: Examples) -> None:
    """Train the matching head on examples, with all other weights fixed."""
    trained = {id(parameter) for parameter in network.matching_head.parameters()}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in trained]
    for parameter in others:
        parameter.requires_grad_(False)
    _train(network, examples)
    for parameter in others:
        parameter.requires_grad_(True)


def _train(network: Network, examples: Examples) -> None:
    """Train the matching head on examples."""
    vectors, moment, item, weight = (
        torch.cat(parts) for parts in (examples.vectors, examples.moment, examples.item, examples.weight)
    )
    condition = {name: torch.cat(parts) for name, parts in examples.condition.items()}
    feedback = [torch.cat(parts) for parts in zip(*examples.feedback, strict=True)]
    similarities = torch.cat(examples.similarities)
    spread = similarities.std(0).clamp(min=SMALLEST_SPREAD).to(network.device)  # (2 F,)
    steps = min(STEPS, MAX_EPOCHS * -(-len(item) // BATCH))
    optimizer = torch.optim.AdamW(network.matching_head.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine_rate(step, WARMUP * steps, steps)
    )
    none, step = torch.zeros(BATCH, dtype=torch.int64), 0
    while step < steps:
        for index in torch.randperm(len(item)).split(BATCH)[: steps - step]:
            fields = {name: values[index] for name, values in condition.items()}
            unused = none[: len(index)]
            questions = Questions(fields, unused, unused, item[index]).to(network.device)
            matched = network.match(vectors[moment[index]].float().to(network.device), questions)
            probabilities = [target[index].to(network.device) for target in feedback]
            loss = distillation_loss(matched.logits, probabilities, weight[index])
            error = (matched.similarities - similarities[index].to(network.device)) / spread
            loss = loss + weighted_mean(error.square().mean(1), weight[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
