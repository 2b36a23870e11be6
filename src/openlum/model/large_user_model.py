"""The Large User Model.

Shapes: B users, L events of all users end to end, T = 2 L tokens, Q questions, D width, E embedding width, V items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openlum.artefact import read_json, write_json
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.data.packing import window_start
from openlum.data.time_fields import time_fields
from openlum.errors import InputError
from openlum.model.batch import Fields, History, Questions, erase_whole
from openlum.model.fields import ConditionEncoder, ItemEncoder
from openlum.model.fit import check_fields, check_growth
from openlum.model.lexicon import Lexicon, check_history, time_before
from openlum.model.settings import ModelConfig
from openlum.model.user_encoder import UserEncoder, UserState

TEMPERATURE = 0.07
LARGEST_SCALE = 100.0
REMEDY = "pretrain again on this dataset"
NO_MODEL = "no such directory, and no model of that name on the Hub; 'lum pretrain' writes one"


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

    Example:
        >>> model = LargeUserModel.from_pretrained("runs/ml-1m/model")                     # doctest: +SKIP
        >>> history = [{"item": "1193", "rating": 5}, {"item": "661", "rating": 3}]        # doctest: +SKIP
        >>> model.recommend(history, question={"rating": 5}, k=10)                         # doctest: +SKIP
    """

    def __init__(self, config: ModelConfig, lexicon: Lexicon) -> None:
        super().__init__()
        self.config = config
        self.lexicon = lexicon
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
        self.about = nn.Parameter(torch.zeros(settings.width))
        self.judges = nn.ModuleList(_feedback_head(settings.width, spec.size - 1) for spec in config.judges)
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

    def read(self, history: History, items: Tensor | None = None) -> UserState:
        """Read histories: the state to ask questions of.

        Args:
            history: of B users.
            items: (L, E) embeddings of the history's items, where they are known already.
        """
        tokens, last = self._tokens(history, items)
        state = self.user_encoder.history(tokens, 2 * history.offsets, with_output=False)[1]
        state.last = last
        return state

    def answer(self, state: UserState, questions: Questions) -> Tensor:
        """Answers to questions, (Q, E), unit length (the group query)."""
        return self._to_item_space(self._query(state, [(questions, self._question_token(state, questions))])[0])

    def judge(self, state: UserState, questions: Questions, items: Tensor | None = None) -> list[Tensor]:
        """What feedback a user would give to the items that questions are about, in one pass with them (group query).

        In a log without feedback: whether the user would take them. Then only the time of questions counts.

        Args:
            state: of the histories.
            questions: with `item`.
            items: (Q, E) embeddings of the items, where they are known already.

        Returns:
            For each of `config.judges`, logits of its values 1 to R: (Q, R).
        """
        return self.answer_and_judge(state, [], questions, items)[1]

    def answer_and_judge(
        self, state: UserState, questions: Sequence[Questions], about: Questions, items: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """`answer` to every group of questions and `judge` of those about items, in one pass, which costs less than one for each.

        Args:
            state: of the histories.
            questions: groups of questions that look for items.
            about: questions about items.
            items: (Q, E) embeddings of the items, where they are known already.

        Returns:
            The answers to each group, (Q, E), and the logits of each of `config.judges`, (Q, R).
        """
        assert about.item is not None
        if not self.config.feedback:  # another's item has another scenario: it would tell that it was not taken
            untimed = {spec.name for spec in self.config.condition} - set(self.config.time_fields)
            about = replace(about, condition=erase_whole(about.condition, self.config.condition, untimed))
        item = self.item_token(self.items(about.item) if items is None else items)  # (Q, D)
        groups = [(group, self._question_token(state, group)) for group in questions]
        groups.append((about, self._question_token(state, about) + item + self.about))
        *answered, judged = self._query(state, groups)
        logits = [judge(torch.cat([judged, item], 1)) for judge in self.judges]
        return [self._to_item_space(output) for output in answered], logits

    def _query(self, state: UserState, groups: list[tuple[Questions, Tensor]]) -> list[Tensor]:
        """Groups of questions and their tokens (Q, D) to the outputs of each group, (Q, D), in one pass over the histories."""
        user, prefix = (torch.cat([getattr(q, name) for q, _ in groups]) for name in ("user", "prefix"))
        output = self.user_encoder.answer(state, torch.cat([token for _, token in groups]), user, 2 * prefix)
        return list(output.split([len(token) for _, token in groups]))

    def _tokens(self, history: History, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (T, D) of histories, and what a question begins with after each event, (L, D); `items` as in `read`."""
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
            history: the user's events, oldest first: `item` (raw id), condition fields by name, and `time` (seconds since
                1970) if the model uses time. Fields left out are *any*.
            questions: condition fields by name, and `time`, each optional: `{}` asks "what next?".

        Returns:
            (Q, E) answers of unit length.

        Raises:
            InputError: an event without `item`, or an unknown field or value.
        """
        if not len(questions) or not all(isinstance(question, Mapping) for question in questions):
            raise InputError("expected one question or more, each a mapping of condition fields to values such as {}")
        state, asked = self._read_and_encode(list(history), questions)
        return self.answer(state, asked)

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
            InputError: there is no item, or the model was not trained to judge; or as in `ask`.
        """
        fields = self.config.judged
        if not fields:
            raise InputError("the model judges no items: pretrain it with pretrain.judge_weight above 0")
        if isinstance(items, str) or not len(items):
            raise InputError(f"items: expected a list of one item or more, found {items!r}")
        told = sorted({spec.name for spec in self.config.condition if spec.feedback} & set(question or {}))
        if told:
            raise InputError(
                f"condition field '{told[0]}' is feedback, which is what is predicted; leave it out of the question"
            )
        state, asked = self._read_and_encode(list(history), [question or {}])
        user = torch.zeros(len(items), dtype=torch.int64)
        condition = {name: value.expand(len(items), *value.shape[1:]) for name, value in asked.condition.items()}
        item = torch.from_numpy(self.lexicon.items.encode(list(items)))
        about = Questions(condition, user, asked.prefix.expand(len(items)), item).to(self.device)
        chances = [logits.softmax(1).tolist() for logits in self.judge(state, about)]
        return [
            {"item": raw}
            | {
                spec.name: dict(zip(self.lexicon.judged_values(spec), chance[index], strict=True))
                for spec, chance in zip(fields, chances, strict=True)
            }
            for index, raw in enumerate(items)
        ]

    def _read_and_encode(
        self, history: list[Mapping[str, Any]], questions: Sequence[Mapping[str, Any]]
    ) -> tuple[UserState, Questions]:
        """One user's raw history and raw questions to its state, and to questions that see all of it."""
        self.eval()
        check_history(history)
        begin = int(window_start(np.array([len(history)]), self.config.settings.max_events)[0])
        times = [event.get("time") for event in history]
        condition = self._conditions(history[begin:], times, begin, strict=False)
        items = torch.from_numpy(self.lexicon.items.encode([event["item"] for event in history[begin:]]))
        n = len(items)
        state = self.read(History(items, condition, torch.tensor([0, n])).to(self.device))
        each = [
            self._conditions([question], [*times, question.get("time")], len(history), strict=True)
            for question in questions
        ]
        asked = {spec.name: torch.cat([fields[spec.name] for fields in each]) for spec in self.config.condition}
        user, prefix = torch.zeros(len(each), dtype=torch.int64), torch.full((len(each),), n)
        return state, Questions(asked, user, prefix).to(self.device)

    def recommend(
        self, history: Sequence[Mapping[str, Any]], question: Mapping[str, Any] | None = None, k: int = 10
    ) -> list[dict[str, Any]]:
        """A user's top items under a question; items of the history are left out.

        Args:
            history: as in `ask`.
            question: condition fields by name; none asks "what next?".
            k: how many items.

        Returns:
            `item` (raw id), `title` and `similarity` (cosine) of each, best first.
        """
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k: expected a whole number from 1 on, found {k!r}")
        history = list(history)
        answer = self.ask(history, [question or {}])[0]
        with torch.inference_mode():
            similarity = self.items() @ answer  # (V,)
            similarity[0] = -torch.inf
            similarity[torch.from_numpy(self.lexicon.items.encode([event["item"] for event in history]))] = -torch.inf
            best = similarity.topk(min(k, int(similarity.isfinite().sum())))
        raw = self.lexicon.items.decode(best.indices.cpu().numpy())
        titles = [self.lexicon.titles[index] for index in best.indices.tolist()]
        return [
            {"item": item, "title": title, "similarity": score}
            for item, title, score in zip(raw, titles, best.values.tolist(), strict=True)
        ]

    def check_fit(self, dataset: Dataset) -> None:
        """Refuse data whose fields and ids do not mean what the model learned.

        A dataset that has grown since, with `lum prepare --append`, fits: the model takes its new values for unknown.

        Raises:
            InputError: with the first difference.
        """
        check_fields("condition", self.config.condition, dataset.specs("condition"), REMEDY)
        mine = {"items": self.lexicon.items} | self.lexicon.conditions
        check_growth(mine, {"items": dataset.vocabulary("items")} | dataset.vocabularies("condition"), REMEDY)

    def _conditions(
        self, events: Sequence[Mapping[str, Any]], times: Sequence[float | None], begin: int, strict: bool
    ) -> Fields:
        """Conditions of events or questions, of which the first has its time at `times[begin]`."""
        rows = [{name: value for name, value in event.items() if name not in ("item", "time")} for event in events]
        fields = self.lexicon.encode_conditions(rows, self.config.condition, strict)
        timed = [index for index in range(len(events)) if times[begin + index] is not None]
        if timed and self.config.time_fields:
            now = [int(times[begin + index]) for index in timed]  # type: ignore[arg-type]
            earlier = [time_before(times, begin + index) for index in timed]
            moments = (
                np.array(now),
                np.array([time or 0 for time in earlier]),
                np.array([time is not None for time in earlier]),
            )
            for name, values in time_fields(self.config.time_fields, *moments, self.config.gap_unit).items():
                fields[name][timed] = torch.from_numpy(values)
        return fields

    def _save_pretrained(self, save_directory: Path) -> None:
        write_json(save_directory / "config.json", self.config.model_dump())
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, save_directory / "model.safetensors", metadata={"format": "pt"})
        self.lexicon.save(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "LargeUserModel":
        """Load a model from a local directory, or from the Hub by its name; options are those of `PyTorchModelHubMixin`.

        Raises:
            InputError: there is none, or a damaged one.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except HFValidationError as error:  # such as 'runs/market/model', where that is no directory
            raise InputError(f"{pretrained_model_name_or_path}: {NO_MODEL}") from error

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, revision: str | None, cache_dir: str | Path | None, force_download: bool,
        local_files_only: bool, token: str | bool | None, map_location: str | torch.device = "cpu", **_: Any,
    ) -> "LargeUserModel":  # fmt: skip
        directory = Path(model_id)
        if not directory.is_dir():
            try:
                directory = Path(
                    snapshot_download(
                        model_id,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                        token=token,
                    )
                )
            except (OSError, ValueError, HfHubHTTPError) as error:
                raise InputError(f"{model_id}: {NO_MODEL}") from error
        return cls.load(directory, map_location)

    @classmethod
    def load(cls, directory: Path, map_location: str | torch.device = "cpu") -> "LargeUserModel":
        """Load a model from a local directory.

        Raises:
            InputError: the directory holds no model, or a damaged one.
        """
        file = directory / "config.json"
        config = parse_settings(read_json(file, "lum pretrain"), ModelConfig, where=str(file))
        model = cls(config, Lexicon.load(directory))
        weights = directory / "model.safetensors"
        try:
            model.load_state_dict(load_file(weights, device=str(map_location)))
        except RuntimeError:
            raise InputError(
                f"{weights}: has not the weights of this version's models; run 'lum pretrain' again"
            ) from None
        except (OSError, SafetensorError) as error:
            raise InputError(f"{weights}: cannot be loaded ({error}); run 'lum pretrain' again") from None
        return model.to(map_location).eval()
