"""The Large User Model.

Shapes: B users, L events of all users end to end, T = 2 L tokens, Q questions, D width, E embedding width, V items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from openlum.arguments.values import as_path, whole_number
from openlum.artefact.directory import check_parts, read_json, write_json
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model.batch import Fields, History, Questions, erase_whole
from openlum.model.compatibility import check_fields, check_growth, check_vocabularies
from openlum.model.fields import ConditionEncoder, ItemEncoder
from openlum.model.pretrained import available_device, model_directory
from openlum.model.processor import Processor
from openlum.model.request import Request, check_items, check_question, encode_request
from openlum.model.settings import ModelConfig
from openlum.model.user_encoder import UserEncoder, UserState

TEMPERATURE = 0.07
LARGEST_SCALE = 100.0
REMEDY = "pretrain again on this dataset"


def default_device() -> torch.device:
    """A GPU where torch finds one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _before(x: Tensor, offsets: Tensor) -> Tensor:
    """Rows (L, D) of users to the row before each, (L, D); 0 at a user's first."""
    first = torch.zeros(len(x), dtype=torch.bool)
    first[offsets[:-1][offsets.diff() > 0]] = True
    return x.roll(1, 0).masked_fill(first[:, None].to(x.device), 0.0)


def _feedback_head(width: int, values: int) -> nn.Sequential:
    """From a question's output and its item's token, (Q, 2 D), to logits of feedback values, (Q, R)."""
    return nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, values))


class LargeUserModel(nn.Module, ModelHubMixin, library_name="openlum", tags=["recommender-system"]):
    """Reads histories of *condition, item* pairs and answers questions with vectors in item space.

    Examples:
        >>> model = LargeUserModel.from_pretrained("runs/ml-1m/model")                     # doctest: +SKIP
        >>> history = [{"item": "1193", "rating": 5}, {"item": "661", "rating": 3}]        # doctest: +SKIP
        >>> model.recommend(history, question={"rating": 5}, k=10)                         # doctest: +SKIP
    """

    def __init__(self, config: ModelConfig, processor: Processor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        settings = config.settings
        self.item_encoder = ItemEncoder(
            config.item, config.items, settings.field_width, settings.embedding_width, settings.id_dropout
        )
        read = config.condition if settings.conditions else []
        self.condition_encoder = ConditionEncoder(read, settings.field_width, settings.width)
        # Normed, so that neither drowns the other where both are in one token.
        self.item_token = nn.Sequential(nn.Linear(settings.embedding_width, settings.width), nn.RMSNorm(settings.width))
        self.condition_norm = nn.RMSNorm(settings.width)
        self.shortcut = nn.Linear(settings.width, settings.width, bias=False)
        nn.init.zeros_(self.shortcut.weight)
        self.last = nn.Linear(settings.width, settings.width, bias=False)
        nn.init.zeros_(self.last.weight)
        self.user_encoder = UserEncoder(settings)
        self.head = nn.Linear(settings.width, settings.embedding_width, bias=False)
        self.feedback_token = nn.Parameter(torch.zeros(settings.width))
        self.feedback_heads = nn.ModuleList(
            _feedback_head(settings.width, spec.size - 1) for spec in config.feedback_targets
        )
        self.log_scale = nn.ParameterDict(
            {kind: nn.Parameter(torch.tensor(-math.log(TEMPERATURE))) for kind in ("item", "feedback")}
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def scale(self, kind: str) -> Tensor:
        """Inverse temperature of the `item` or the `feedback` loss, ()."""
        return self.log_scale[kind].exp()

    @torch.no_grad()
    def bound_scales(self) -> None:
        """Keep the inverse temperatures from growing without end; called after every optimiser step."""
        for scale in self.log_scale.values():
            scale.clamp_(max=math.log(LARGEST_SCALE))

    def items(self, ids: Tensor | None = None) -> Tensor:
        """Embeddings of items, (n, E), of unit length; of the whole catalogue, (V, E), where no ids are given.

        An id that the model does not have, V or more, is that of an unknown item, as is 0.
        """
        ids = torch.arange(self.config.items, device=self.device) if ids is None else ids
        return F.normalize(self.item_encoder(ids), dim=-1)

    def encode_history(self, history: History, items: Tensor | None = None) -> UserState:
        """Read histories: the state to ask questions of.

        Args:
            history: of B users.
            items: (L, E) embeddings of the history's items, where they are known already.
        """
        tokens, last = self._tokens(history, items)
        state = self.user_encoder.history(tokens, 2 * history.offsets, with_output=False)[1]
        state.last = last
        return state

    def answer_questions(self, state: UserState, questions: Questions) -> Tensor:
        """Answers to questions, (Q, E), unit length (the group query)."""
        return self._to_item_space(self._query(state, [(questions, self._question_token(state, questions))])[0])

    def predict_feedback_logits(
        self, state: UserState, questions: Questions, items: Tensor | None = None
    ) -> list[Tensor]:
        """What feedback a user would give to the items that questions are about, in one pass with them (group query).

        In a log without feedback: whether the user would take them. Then only the time of questions counts.

        Args:
            state: of the histories.
            questions: with `item`.
            items: (Q, E) embeddings of the items, where they are known already.

        Returns:
            For each of `config.feedback_targets`, logits of its values 1 to R: (Q, R).
        """
        return self.answer_and_predict_feedback(state, [], questions, items)[1]

    def answer_and_predict_feedback(
        self, state: UserState, questions: Sequence[Questions], about: Questions, items: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """`answer_questions` to every group of questions and `predict_feedback_logits` of those about items, in one pass, which costs less than one for each.

        Args:
            state: of the histories.
            questions: groups of questions that look for items.
            about: questions about items.
            items: (Q, E) embeddings of the items, where they are known already.

        Returns:
            The answers to each group, (Q, E), and the logits of each of `config.feedback_targets`, (Q, R).
        """
        assert about.item is not None
        if not self.config.feedback:  # another's item has another scenario: it would tell that it was not taken
            untimed = {spec.name for spec in self.config.condition} - set(self.config.time_fields)
            about = replace(about, condition=erase_whole(about.condition, self.config.condition, untimed))
        item = self.item_token(self.items(about.item) if items is None else items)  # (Q, D)
        groups = [(group, self._question_token(state, group)) for group in questions]
        groups.append((about, self._question_token(state, about) + item + self.feedback_token))
        *answers, feedback = self._query(state, groups)
        logits = [head(torch.cat([feedback, item], 1)) for head in self.feedback_heads]
        return [self._to_item_space(output) for output in answers], logits

    def _query(self, state: UserState, groups: list[tuple[Questions, Tensor]]) -> list[Tensor]:
        """Groups of questions and their tokens (Q, D) to the outputs of each group, (Q, D), in one pass over the histories."""
        user, prefix = (torch.cat([getattr(q, name) for q, _ in groups]) for name in ("user", "prefix"))
        output = self.user_encoder.answer(state, torch.cat([token for _, token in groups]), user, 2 * prefix)
        return list(output.split([len(token) for _, token in groups]))

    def _tokens(self, history: History, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (T, D) of histories, and what a question begins with after each event, (L, D); `items` as in `encode_history`."""
        condition = self._condition_token(history.condition, len(history.item))  # (L, D)
        item = self.item_token(self.items(history.item) if items is None else items)  # (L, D)
        # An item's token also says under which condition it was met, or attention would spend its first layer on finding that.
        item = item + self.shortcut(condition)
        # A question begins with the last event, or its first attention would know of nothing to look for.
        last = self.last(item)  # (L, D)
        return torch.stack([condition + _before(last, history.offsets), item], 1).flatten(0, 1), last

    def _condition_token(self, condition: Fields, n: int) -> Tensor:
        """Condition fields of n tokens to (n, D)."""
        return self.condition_norm(self.condition_encoder(condition, n))

    def _question_token(self, state: UserState, questions: Questions) -> Tensor:
        """Questions to (Q, D): their condition, and the last event that each may see."""
        token = self._condition_token(questions.condition, len(questions.user))
        assert state.last is not None
        begin = state.offsets[questions.user].to(token.device) // 2  # (Q,)
        some = questions.prefix > 0
        last = F.embedding((begin + questions.prefix - 1)[some], state.last)
        return token.index_add(0, some.nonzero().squeeze(1), last)

    def _to_item_space(self, output: Tensor) -> Tensor:
        return F.normalize(self.head(output), dim=-1)

    @torch.inference_mode()
    def ask(self, history: Sequence[Mapping[str, Any]], questions: Sequence[Mapping[str, Any]]) -> Tensor:
        """Ask one user's history questions, in raw values.

        Args:
            history: the user's events, oldest first: `item` (raw id), condition fields by name, and `time`: seconds since 1970 or
                a datetime, which is UTC where it names no zone. Fields left out are *any*.
            questions: condition fields by name, and `time`, each optional: `{}` asks "what next?". A question sees the events in
                the seconds before its time; without one, all.

        Returns:
            (Q, E) answers of unit length.

        Raises:
            InputError: an event without `item`, or an unknown field or value.
        """
        request = encode_request(self.processor, self.config, history, questions)
        state = self._encode_request(request)
        return self.answer_questions(state, request.questions.to(self.device))[request.order]

    @torch.inference_mode()
    def predict_feedback(
        self,
        history: Sequence[Mapping[str, Any]],
        items: Sequence[str],
        question: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """What feedback a user would give to items; where the log has none, whether the user would take each (`taken`: *yes*
        or *no*) rather than an item that others took in those days.

        Args:
            history: as in `ask`.
            items: raw ids; all that the model does not know are one unknown item to it.
            question: condition fields that are known before an item is, by name, and `time`; each optional.

        Returns:
            For each item `item` (raw id) and for each feedback field its values and their probabilities.

        Raises:
            InputError: there is no item, or the model was not trained to predict feedback; or as in `ask`.
        """
        fields = self.config.trained_feedback_targets
        if not fields:
            raise InputError(
                "the model predicts no feedback: pretrain it with pretrain.feedback_prediction_weight above 0"
            )
        items = check_items(items)
        asked = check_question(question)
        told = sorted({spec.name for spec in self.config.condition if spec.feedback} & set(asked))
        if told:
            raise InputError(
                f"condition field '{told[0]}' is feedback, which is what is predicted; leave it out of the question"
            )
        request = encode_request(self.processor, self.config, history, [asked])
        state, one = self._encode_request(request), request.questions
        user = torch.zeros(len(items), dtype=torch.int64)
        condition = {name: value.expand(len(items), *value.shape[1:]) for name, value in one.condition.items()}
        item = torch.from_numpy(self.processor.item_ids(items, "to predict feedback for"))
        about = Questions(condition, user, one.prefix.expand(len(items)), item).to(self.device)
        chances = [logits.softmax(1).tolist() for logits in self.predict_feedback_logits(state, about)]
        return [
            {"item": raw}
            | {
                spec.name: dict(zip(self.processor.feedback_values(spec), chance[index], strict=True))
                for spec, chance in zip(fields, chances, strict=True)
            }
            for index, raw in enumerate(items)
        ]

    @torch.inference_mode()
    def recommend(
        self, history: Sequence[Mapping[str, Any]], question: Mapping[str, Any] | None = None, k: int = 10
    ) -> list[dict[str, Any]]:
        """A user's top items under a question; items of the events that it sees are left out.

        Args:
            history: as in `ask`.
            question: condition fields by name, and `time`; none asks "what next?".
            k: how many items.

        Returns:
            `item` (raw id), `title` and `similarity` (cosine) of each, best first.
        """
        k = whole_number("k", k, least=1)
        request = encode_request(self.processor, self.config, history, [check_question(question)])
        answer = self.answer_questions(self._encode_request(request), request.questions.to(self.device))[0]
        seen = self.processor.items.encode([event["item"] for event in history[: request.seen[0]]])
        similarity = self.items() @ answer  # (V,)
        similarity[0] = -torch.inf
        similarity[torch.from_numpy(seen)] = -torch.inf
        best = similarity.topk(min(k, int(similarity.isfinite().sum())))
        raw = self.processor.items.decode(best.indices.cpu().numpy())
        titles = [self.processor.titles[index] for index in best.indices.tolist()]
        return [
            {"item": item, "title": title, "similarity": score}
            for item, title, score in zip(raw, titles, best.values.tolist(), strict=True)
        ]

    def _encode_request(self, request: Request) -> UserState:
        self.eval()
        return self.encode_history(request.history.to(self.device))

    def check_compatible(self, dataset: Dataset) -> None:
        """Refuse data whose fields and ids do not mean what the model learned.

        A dataset that has grown since, with `lum prepare --append`, fits: the model takes its new values for unknown.

        Raises:
            InputError: with the first difference.
        """
        check_fields("condition", self.config.condition, dataset.specs("condition"), REMEDY)
        mine = {"items": self.processor.items} | self.processor.conditions
        check_growth(mine, {"items": dataset.vocabulary("items")} | dataset.vocabularies("condition"), REMEDY)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_json(save_directory / "config.json", self.config.model_dump())
        write_tensors(self.state_dict(), save_directory / "model.safetensors", {"format": "pt"})
        self.processor.save(save_directory)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        map_location: str | torch.device = "cpu",
        **options: Any,
    ) -> "LargeUserModel":
        """Load a model from a local directory, or from the Hub by its name.

        Args:
            pretrained_model_name_or_path: the directory, or OWNER/NAME.
            map_location: the device that computes.
            options: of `huggingface_hub.snapshot_download`, such as `revision`, `token` and `local_files_only`.

        Raises:
            InputError: there is none, or a damaged one.
        """
        return cls.load(model_directory(pretrained_model_name_or_path, options), map_location)

    @classmethod
    def load(cls, directory: str | Path, map_location: str | torch.device = "cpu") -> "LargeUserModel":
        """Load a model from a local directory.

        Raises:
            InputError: the directory holds no model, or a damaged one; or there is no such device.
        """
        directory, device = as_path("directory", directory), available_device(map_location)
        check_parts(directory, "model")
        file = directory / "config.json"
        config = parse_settings(read_json(file, "lum pretrain"), ModelConfig, where=str(file))
        processor = Processor.load(directory)
        check_vocabularies(config, processor, directory)
        weights = directory / "model.safetensors"
        try:
            model = cls(config, processor)
            model.load_state_dict(read_tensors(weights, "run 'lum pretrain' again"))
        except (RuntimeError, ValueError, TypeError, AssertionError, ArithmeticError, MemoryError):
            raise InputError(
                f"{weights}: has not the weights of this version's models, as {file.name} has them; run 'lum pretrain' again"
            ) from None
        return model.to(device).eval()
