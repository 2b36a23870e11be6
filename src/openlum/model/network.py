"""The network of the Large User Model: tensors in, tensors out. It knows no raw values and no files.

Shapes: B users, L events of all users end to end, T = 2 L tokens, Q questions, C candidate items, D width, E embedding width, V
items, R values of a feedback field.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openlum.data.item_activity import ACTIVITY
from openlum.field_spec import FieldSpec
from openlum.model.batch import Fields, History, Moments, Questions, erase_fields, to_device
from openlum.model.fields import ConditionEncoder, ItemEncoder
from openlum.model.initialisation import log_scale, zero_
from openlum.model.matching_head import MatchingHead, fixed_question_names, fixed_questions
from openlum.model.outputs import Answers, Matched, Outputs
from openlum.model.plan import ExtensionPlan, QuestionPlan
from openlum.model.pointer import MATCH_WIDTH, NO_COPY, Copies, Pointed, Pointer, add_copies
from openlum.model.settings import ModelConfig
from openlum.model.state import HistoryState, PointerState
from openlum.model.user_encoder import UserEncoder

LARGEST_SCALE = 100.0
"""Upper limit of the inverse temperatures."""


class Network(nn.Module):
    """A network that encodes histories of *condition, item* pairs and answers questions with vectors in the space of items.

    Training calls the module itself (`forward`), once a step. No branch of the methods depends on the values of tensors, and
    every parameter gets a gradient in every step, also if there is no question. So all ranks of a parallel training do the same.
    """

    activity_weights: Tensor
    """(A,): the activity of an item, times these weights, is added to its score."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        settings = config.settings
        self.item_encoder = ItemEncoder(
            config.item, config.items, settings.field_width, settings.embedding_width, settings.id_dropout
        )
        self.condition_encoder = ConditionEncoder(self.condition_specs, settings.field_width, settings.width)
        # Both are normalised, so that neither dominates a token that is the sum of both.
        self.item_token = nn.Sequential(nn.Linear(settings.embedding_width, settings.width), nn.RMSNorm(settings.width))
        self.condition_norm = nn.RMSNorm(settings.width)
        self.shortcut = nn.Linear(settings.width, settings.width, bias=False)
        zero_(self.shortcut.weight)
        self.last = nn.Linear(settings.width, settings.width, bias=False)
        zero_(self.last.weight)
        self.user_encoder = UserEncoder(settings)
        self.head = nn.Linear(settings.width, settings.embedding_width, bias=False)
        self.feedback_token = nn.Parameter(torch.zeros(settings.width))
        self.feedback_heads = nn.ModuleList(_feedback_head(settings.width, values) for values in self._feedback_sizes())
        self.log_scale = nn.ParameterDict({kind: log_scale() for kind in ("item", "feedback")})
        self.pointer = Pointer(settings)
        self.learned_questions = nn.Parameter(torch.randn(settings.learned_questions, settings.width))
        self.matching_head = MatchingHead(
            len(self.user_vector_names),
            len(self.fixed_question_names),
            settings.embedding_width,
            settings.width,
            sum(self._feedback_sizes()),
        )
        self.register_buffer("activity_weights", torch.zeros(len(ACTIVITY)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.head.weight.device

    @property
    def user_vector_names(self) -> list[str]:
        """The M names of the user vectors: of the fixed questions, then of the learned ones."""
        learned = range(1, len(self.learned_questions) + 1)
        return self.fixed_question_names + [f"learned {number}" for number in learned]

    @property
    def fixed_question_names(self) -> list[str]:
        """The F names of the fixed questions: `any`, and FIELD=ID for feedback values."""
        return fixed_question_names(self.condition_specs)

    def forward(
        self,
        history: History,
        candidates: Tensor,
        item_questions: Sequence[Questions],
        feedback_questions: Questions,
        moments: Moments,
        moment_index: Tensor,
    ) -> Outputs:
        """Return the outputs of a training step: the answers, the feedback logits, and what the losses compare them with.

        Args:
            history: of B users, on the device of the weights, as all tensors.
            candidates: (C,) ascending ids that include all items of the history.
            item_questions: groups of questions that search for items. A group may be empty.
            feedback_questions: questions that predict the feedback to an item. There may be none.
            moments: of the user vectors that the matching head reads. There may be none.
            moment_index: (Q,) index of the moment whose vectors predict the feedback of each of `feedback_questions`.
        """
        items = self.items(candidates)  # (C, E)
        state = self.encode_history(history, items[torch.searchsorted(candidates, history.item)])
        question_items = None
        if self.config.feedback:  # otherwise there are negatives, which may be missing from the candidates
            assert feedback_questions.item is not None
            question_items = items[torch.searchsorted(candidates, feedback_questions.item)]
        answers, logits = self.answer_and_predict_feedback(state, item_questions, feedback_questions, question_items)
        vectors = self.user_vectors(state, moments)[moment_index]  # (Q, M, E)
        matched = self.match(vectors, feedback_questions, question_items)
        return Outputs(items, answers, logits, matched, {kind: self.scale(kind) for kind in self.log_scale})

    def scale(self, kind: str) -> Tensor:
        """Return the inverse temperature, (), of the `item` or the `feedback` loss."""
        return self.log_scale[kind].exp().squeeze(0)

    @torch.no_grad()
    def bound_scales(self) -> None:
        """Limit the inverse temperatures to `LARGEST_SCALE`. Training calls this after every optimiser step."""
        for scale in self.log_scale.values():
            scale.clamp_(max=math.log(LARGEST_SCALE))

    def items(self, ids: Tensor | None = None) -> Tensor:
        """Return the embeddings of items, (n, E), of unit length; without `ids`, those of the whole catalogue, (V, E).

        Id 0 and ids from V on, which the model does not have, give the embedding of an unknown item.
        """
        ids = torch.arange(self.config.items, device=self.device) if ids is None else ids
        return F.normalize(self.item_encoder(ids), dim=-1)

    def encode_history(self, history: History, items: Tensor | None = None) -> HistoryState:
        """Return the state of histories, from which answers to questions are computed.

        Args:
            history: of B users.
            items: (L, E) embeddings of the history's items, if they are computed already.
        """
        condition, item, last_event, pointer = self._event_tokens(history, items)
        tokens = _interleave(condition + _previous_rows(last_event, history.offsets), item)
        state = self.user_encoder.encode_history(tokens, 2 * history.offsets, with_output=False)[1]
        return HistoryState(state, last_event, pointer)

    def extend_history(self, state: HistoryState, history: History) -> HistoryState:
        """Return the state of histories with further events. It equals the state of the longer histories, except for rounding.

        Args:
            state: of the histories of B users.
            history: the further events of the same B users. A user may have none.
        """
        condition, item, last_event, pointer = self._event_tokens(history)
        plan = ExtensionPlan(state.encoder.offsets, 2 * history.offsets, item.device)
        # Every event has two tokens, so the indices of events follow from those of condition tokens.
        event_rows = plan.rows[::2] // 2
        last_events = torch.cat([state.last_event, last_event]).index_select(0, event_rows)
        pointers = {
            name: torch.cat([x, pointer[name]]).index_select(0, event_rows) for name, x in state.pointer.items()
        }
        before = (plan.new_rows[::2] // 2 - 1).clamp(min=0)  # index of the event before each new event
        is_first = plan.questions.positions[::2] == 0
        previous = last_events.index_select(0, before).masked_fill(is_first[:, None], 0.0)
        encoder = self.user_encoder.extend_history(state.encoder, _interleave(condition + previous, item), plan)
        return HistoryState(encoder, last_events, pointers)

    def answer_questions(self, state: HistoryState, questions: Questions) -> Tensor:
        """Return the answers to questions, (Q, E), of unit length (the group query)."""
        return self._to_item_space(self._ask(state, questions))

    def answer(self, state: HistoryState, questions: Questions) -> Answers:
        """Return the answers to questions with their copy scores, for `similarity`."""
        output = self._ask(state, questions)
        return self._answers(output, self._point(state, [questions], [output])[0])

    def about_items(self, state: HistoryState, answers: Answers, questions: Questions) -> Answers:
        """Return answers to questions with an item, from the answers, (Q,) each, to the same questions without it."""
        return self._answers(answers.outputs, self._point(state, [questions], [answers.outputs])[0], answers.vectors)

    def similarity(self, answers: Answers, items: Tensor) -> Tensor:
        """Return the score, (Q,), of each question's item, whose embeddings are (Q, E), as `score_items` does."""
        scale = self.scale("item")
        return torch.logaddexp(scale * (answers.vectors * items).sum(-1), answers.copied) / scale

    def score_items(self, state: HistoryState, questions: Questions, items: Tensor) -> Tensor:
        """Return the scores of all items for questions, (Q, V): cosines with the answer, and more for items of the history.

        Args:
            state: of the histories.
            questions: that search for items.
            items: (V, E) embeddings of all items, of unit length.
        """
        (vectors, copies), scale = self.answer_with_copies(state, questions), self.scale("item")
        logits = scale * (vectors @ items.T)
        add_copies(logits, copies)
        return logits / scale

    def answer_with_copies(self, state: HistoryState, questions: Questions) -> tuple[Tensor, Copies]:
        """Return the answers to questions, (Q, E), and the copy scores of all events that the questions see."""
        output = self._ask(state, questions)
        return self._to_item_space(output), self.copies(state, questions, output)

    def copies(self, state: HistoryState, questions: Questions, outputs: Tensor) -> Copies:
        """Return the copy scores of all events that questions see; `pointer.add_copies` adds them to logits of all items.

        Args:
            state: of the histories.
            questions: that search for items.
            outputs: (Q, D) of the user encoder, as in `Answers.outputs`.
        """
        plan = QuestionPlan(state.offsets, questions.user_index, questions.prefix)
        copies = self.pointer.copies(outputs[plan.order], state.pointer, plan)
        return copies._replace(question=plan.order[copies.question])

    def predict_feedback_logits(
        self, state: HistoryState, questions: Questions, items: Tensor | None = None
    ) -> list[Tensor]:
        """Return logits of the feedback that users would give to the items of questions (the group query).

        If the log has no feedback, the prediction is whether the user would take the item. In this case, the model ignores all
        condition fields of the questions except the time fields.

        Args:
            state: of the histories.
            questions: with `item`.
            items: (Q, E) embeddings of the items, if they are computed already.

        Returns:
            For each of `config.feedback_targets`, the logits, (Q, R), of its values 1 to R.
        """
        return self.answer_and_predict_feedback(state, [], questions, items)[1]

    def answer_and_predict_feedback(
        self,
        state: HistoryState,
        item_questions: Sequence[Questions],
        feedback_questions: Questions,
        items: Tensor | None = None,
    ) -> tuple[list[Answers], list[Tensor]]:
        """Return the results of `answer` and `predict_feedback_logits`. One common pass costs less than two passes.

        Args:
            state: of the histories.
            item_questions: groups of questions that search for items.
            feedback_questions: questions that predict the feedback to an item.
            items: (Q, E) embeddings of the items of `feedback_questions`, if they are computed already.

        Returns:
            The answers to each group, and the logits of each of `config.feedback_targets`, (Q, R).
        """
        assert feedback_questions.item is not None
        condition = self.feedback_condition(feedback_questions.condition)
        feedback_questions = replace(feedback_questions, condition=condition)
        item = self.item_token(self.items(feedback_questions.item) if items is None else items)  # (Q, D)
        groups = [(group, self._question_token(state, group)) for group in item_questions]
        feedback_token = self._question_token(state, feedback_questions) + item + self.feedback_token
        groups.append((feedback_questions, feedback_token))
        outputs = self._group_query(state, groups)
        *pointed, feedback_pointed = self._point(state, [questions for questions, _ in groups], outputs)
        assert feedback_pointed
        inputs = torch.cat([outputs[-1], item, feedback_pointed.matches], 1)
        answers = [self._answers(*group) for group in zip(outputs[:-1], pointed, strict=True)]
        return answers, [head(inputs) for head in self.feedback_heads]

    def user_vectors(self, state: HistoryState, moments: Moments) -> Tensor:
        """Return the user vectors as of moments, (P, M, E), of unit length (the group query).

        They are the answers to the fixed and the learned questions, whose names are `user_vector_names`.
        """
        fixed = to_device(fixed_questions(self.condition_specs), self.device)
        names = self.user_vector_names
        fixed_tokens = self._condition_token(fixed, len(names) - len(self.learned_questions))
        tokens = torch.cat([fixed_tokens, self.learned_questions])  # (M, D)
        tokens = tokens + self._last_events(state, moments.user_index, moments.prefix)[:, None]  # (P, M, D)
        user_index, prefix = (x.repeat_interleave(len(names)) for x in (moments.user_index, moments.prefix))
        output = self.user_encoder.answer_questions(state.encoder, tokens.flatten(0, 1), user_index, 2 * prefix)
        return self._to_item_space(output).unflatten(0, (-1, len(names)))

    def match(self, vectors: Tensor, questions: Questions, items: Tensor | None = None) -> Matched:
        """Return what the matching head predicts from user vectors: the results of `predict_feedback_logits`, and similarities.

        Args:
            vectors: (Q, M, E) user vectors of each question, or (1, M, E) for all questions.
            questions: with `item`. Their users and prefixes are not used.
            items: (Q, E) embeddings of the items of questions, if they are computed already.
        """
        assert questions.item is not None
        context = self._condition_token(self.feedback_condition(questions.condition), len(questions.item))
        items = self.items(questions.item) if items is None else items
        logits, similarities = self.matching_head(vectors, items, context)
        return Matched(list(logits.split(self._feedback_sizes(), 1)), similarities)

    def _feedback_sizes(self) -> list[int]:
        """Return the number of values, R, of each of `config.feedback_targets`."""
        return [spec.size - 1 for spec in self.config.feedback_targets]

    @property
    def condition_specs(self) -> list[FieldSpec]:
        """The condition fields that the network reads."""
        return self.config.condition if self.config.settings.conditions else []

    def feedback_condition(self, condition: Fields) -> Fields:
        """Return the condition fields, (Q, ...), of questions about feedback that the network may read."""
        if self.config.feedback:
            return condition
        # A negative item often comes from another scenario than the question, which would reveal that it is a negative.
        untimed = {spec.name for spec in self.config.condition} - set(self.config.time_fields)
        return erase_fields(condition, self.config.condition, untimed)

    def _ask(self, state: HistoryState, questions: Questions) -> Tensor:
        """Return the outputs, (Q, D), of questions that search for items."""
        return self._group_query(state, [(questions, self._question_token(state, questions))])[0]

    def _group_query(self, state: HistoryState, groups: list[tuple[Questions, Tensor]]) -> list[Tensor]:
        """Return the outputs, (Q, D), of each group of questions with tokens (Q, D), in one pass over the histories."""
        user_index, prefix = (
            torch.cat([getattr(questions, name) for questions, _ in groups]) for name in ("user_index", "prefix")
        )
        tokens = torch.cat([token for _, token in groups])
        output = self.user_encoder.answer_questions(state.encoder, tokens, user_index, 2 * prefix)
        return list(output.split([len(token) for _, token in groups]))

    def _point(self, state: HistoryState, groups: list[Questions], outputs: list[Tensor]) -> list[Pointed | None]:
        """Return what each group of questions, with outputs (Q, D), sees of single events; None for a group without items."""
        pointing = [index for index, group in enumerate(groups) if group.item is not None]
        pointed: list[Pointed | None] = [None] * len(groups)
        if pointing:
            user_index, prefix, item = (
                torch.cat([getattr(groups[index], name) for index in pointing])
                for name in ("user_index", "prefix", "item")
            )
            plan = QuestionPlan(state.offsets, user_index, prefix)
            x = torch.cat([outputs[index] for index in pointing])[plan.order]
            parts = self.pointer(x, item[plan.order], state.pointer, plan)
            by_group = zip(
                *(part[plan.inverse_order].split([len(outputs[index]) for index in pointing]) for part in parts),
                strict=True,
            )
            for index, group_parts in zip(pointing, by_group, strict=True):
                pointed[index] = Pointed(*group_parts)
        return pointed

    def _event_tokens(
        self, history: History, items: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, PointerState]:
        """Return for events: condition tokens without their last event, item tokens, and `HistoryState.last_event`, (L, D) each,
        and `HistoryState.pointer`.

        `items` is as in `encode_history`.
        """
        condition = self._condition_token(history.condition, len(history.item))
        item = self.item_token(self.items(history.item) if items is None else items)
        # The token of an item also carries its condition. Otherwise the first layer's attention would have to find the condition.
        item = item + self.shortcut(condition)
        # The token of a question carries the last event. Otherwise the first layer's attention would have nothing to search for.
        return condition, item, self.last(item), self.pointer.remember(history.item, item)

    def _condition_token(self, condition: Fields, n: int) -> Tensor:
        """Return the tokens (n, D) of the condition fields of n conditions."""
        return self.condition_norm(self.condition_encoder(condition, n))

    def _question_token(self, state: HistoryState, questions: Questions) -> Tensor:
        """Return the tokens (Q, D) of questions: the condition, and the last event that the question may see."""
        token = self._condition_token(questions.condition, len(questions.user_index))
        if questions.learned is not None:
            learned = self.learned_questions[questions.learned.clamp(min=0)]
            token = torch.where(questions.learned[:, None] >= 0, learned, token)
        return token + self._last_events(state, questions.user_index, questions.prefix)

    def _last_events(self, state: HistoryState, user_index: Tensor, prefix: Tensor) -> Tensor:
        """Return for questions, (Q,) each, the projection of the last event that they may see, (Q, D), or 0 for no event."""
        begin = state.encoder.offsets[user_index].to(prefix.device) // 2  # (Q,)
        row = torch.where(prefix > 0, begin + prefix, 0)
        return F.embedding(row, F.pad(state.last_event, (0, 0, 1, 0)))  # row 0 is that of no event

    def _answers(self, output: Tensor, pointed: Pointed | None, vectors: Tensor | None = None) -> Answers:
        no_copy = output.new_full((len(output),), NO_COPY)
        copied, all_copied = (pointed.matched, pointed.total) if pointed else (no_copy, no_copy)
        return Answers(self._to_item_space(output) if vectors is None else vectors, copied, all_copied, output)

    def _to_item_space(self, output: Tensor) -> Tensor:
        return F.normalize(self.head(output), dim=-1)


def _feedback_head(width: int, values: int) -> nn.Sequential:
    """Return the head to logits of feedback values, (Q, R), from the outputs of questions and the tokens of their items, (Q, D)
    each, and `Pointed.matches`."""
    return nn.Sequential(nn.Linear(2 * width + MATCH_WIDTH, width), nn.ReLU(), nn.Linear(width, values))


def _interleave(condition: Tensor, item: Tensor) -> Tensor:
    """Return the tokens (2 L, D) of events in their order: condition and item of each event, (L, D) each."""
    return torch.stack([condition, item], 1).flatten(0, 1)


def _previous_rows(x: Tensor, offsets: Tensor) -> Tensor:
    """Return, for each row of users' rows (L, D), the user's previous row, (L, D), or 0 for the user's first row."""
    first = torch.zeros(len(x), dtype=torch.bool)
    first[offsets[:-1][offsets.diff() > 0]] = True
    return x.roll(1, 0).masked_fill(first[:, None].to(x.device), 0.0)
