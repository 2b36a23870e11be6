"""The Large User Model: the network, its use with raw values, and saving and loading.

Shapes: B users, L events of all users end to end, T = 2 L tokens, Q questions, D width, E embedding width, V items.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_format, check_parts, read_json, write_json
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import raw_values
from openlum.model.batch import Fields, History, Questions, erase_fields
from openlum.model.compatibility import check_fields, check_growth, check_vocabularies
from openlum.model.fields import ConditionEncoder, ItemEncoder
from openlum.model.pretrained import available_device, model_directory
from openlum.model.processor import Processor
from openlum.model.raw_values import BATCH_SIZE
from openlum.model.settings import ModelConfig
from openlum.model.state import UserState
from openlum.model.user_encoder import UserEncoder
from openlum.notebook import html_table

TEMPERATURE = 0.07
LARGEST_SCALE = 100.0
REMEDY = "pretrain again on this dataset"


def default_device() -> torch.device:
    """Return the GPU if torch can use one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _previous_rows(x: Tensor, offsets: Tensor) -> Tensor:
    """Return, for each row of users' rows (L, D), the user's previous row, (L, D), or 0 for the user's first row."""
    first = torch.zeros(len(x), dtype=torch.bool)
    first[offsets[:-1][offsets.diff() > 0]] = True
    return x.roll(1, 0).masked_fill(first[:, None].to(x.device), 0.0)


def _feedback_head(width: int, values: int) -> nn.Sequential:
    """Return the head from outputs of questions and tokens of their items, (Q, 2 D), to logits of feedback values, (Q, R)."""
    return nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, values))


class LargeUserModel(nn.Module, ModelHubMixin, library_name="openlum", tags=["recommender-system"]):
    """A model that encodes histories of *condition, item* pairs and answers questions with vectors in the space of items.

    Example:
        >>> model = LargeUserModel.from_pretrained("runs/ml-1m/model")                     # doctest: +SKIP
        >>> history = [{"item": "1193", "rating": 5}, {"item": "661", "rating": 3}]        # doctest: +SKIP
        >>> model.recommend(history, question={"rating": 5}, k=10)                         # doctest: +SKIP
    """

    path: Path | None = None
    """The directory that the model was loaded from; None for a new model."""

    def __init__(self, config: ModelConfig, processor: Processor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        settings = config.settings
        self.item_encoder = ItemEncoder(
            config.item, config.items, settings.field_width, settings.embedding_width, settings.id_dropout
        )
        condition_specs = config.condition if settings.conditions else []
        self.condition_encoder = ConditionEncoder(condition_specs, settings.field_width, settings.width)
        # Both are normalised, so that neither dominates a token that is the sum of both.
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
        """The device of the weights."""
        return self.head.weight.device

    def scale(self, kind: str) -> Tensor:
        """Return the inverse temperature, (), of the `item` or the `feedback` loss."""
        return self.log_scale[kind].exp()

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

    def encode_history(self, history: History, items: Tensor | None = None) -> UserState:
        """Return the state of histories, from which answers to questions are computed.

        Args:
            history: of B users.
            items: (L, E) embeddings of the history's items, if they are computed already.
        """
        tokens, last_event = self._tokens(history, items)
        state = self.user_encoder.encode_history(tokens, 2 * history.offsets, with_output=False)[1]
        state.last_event = last_event
        return state

    def answer_questions(self, state: UserState, questions: Questions) -> Tensor:
        """Return the answers to questions, (Q, E), of unit length (the group query)."""
        return self._to_item_space(self._group_query(state, [(questions, self._question_token(state, questions))])[0])

    def predict_feedback_logits(
        self, state: UserState, questions: Questions, items: Tensor | None = None
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
        state: UserState,
        item_questions: Sequence[Questions],
        feedback_questions: Questions,
        items: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the results of `answer_questions` and `predict_feedback_logits`. One common pass costs less than two passes.

        Args:
            state: of the histories.
            item_questions: groups of questions that search for items.
            feedback_questions: questions that predict the feedback to an item.
            items: (Q, E) embeddings of the items of `feedback_questions`, if they are computed already.

        Returns:
            The answers to each group, (Q, E), and the logits of each of `config.feedback_targets`, (Q, R).
        """
        assert feedback_questions.item is not None
        if not self.config.feedback:
            # A negative item often comes from another scenario than the question, which would reveal that it is a negative.
            untimed = {spec.name for spec in self.config.condition} - set(self.config.time_fields)
            condition = erase_fields(feedback_questions.condition, self.config.condition, untimed)
            feedback_questions = replace(feedback_questions, condition=condition)
        item = self.item_token(self.items(feedback_questions.item) if items is None else items)  # (Q, D)
        groups = [(group, self._question_token(state, group)) for group in item_questions]
        feedback_token = self._question_token(state, feedback_questions) + item + self.feedback_token
        groups.append((feedback_questions, feedback_token))
        *outputs, feedback_output = self._group_query(state, groups)
        logits = [head(torch.cat([feedback_output, item], 1)) for head in self.feedback_heads]
        return [self._to_item_space(output) for output in outputs], logits

    def _group_query(self, state: UserState, groups: list[tuple[Questions, Tensor]]) -> list[Tensor]:
        """Return the outputs, (Q, D), of each group of questions with tokens (Q, D), in one pass over the histories."""
        user_index, prefix = (
            torch.cat([getattr(questions, name) for questions, _ in groups]) for name in ("user_index", "prefix")
        )
        tokens = torch.cat([token for _, token in groups])
        output = self.user_encoder.answer_questions(state, tokens, user_index, 2 * prefix)
        return list(output.split([len(token) for _, token in groups]))

    def _tokens(self, history: History, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens (T, D) of histories and `UserState.last_event`, (L, D); `items` as in `encode_history`."""
        condition = self._condition_token(history.condition, len(history.item))  # (L, D)
        item = self.item_token(self.items(history.item) if items is None else items)  # (L, D)
        # The token of an item also carries its condition. Otherwise the first layer's attention would have to find the condition.
        item = item + self.shortcut(condition)
        # The token of a question carries the last event. Otherwise the first layer's attention would have nothing to search for.
        last_event = self.last(item)  # (L, D)
        condition = condition + _previous_rows(last_event, history.offsets)
        return torch.stack([condition, item], 1).flatten(0, 1), last_event

    def _condition_token(self, condition: Fields, n: int) -> Tensor:
        """Return the tokens (n, D) of the condition fields of n conditions."""
        return self.condition_norm(self.condition_encoder(condition, n))

    def _question_token(self, state: UserState, questions: Questions) -> Tensor:
        """Return the tokens (Q, D) of questions: the condition, and the last event that the question may see."""
        token = self._condition_token(questions.condition, len(questions.user_index))
        assert state.last_event is not None
        begin = state.offsets[questions.user_index].to(token.device) // 2  # (Q,)
        has_events = questions.prefix > 0
        last_event = F.embedding((begin + questions.prefix - 1)[has_events], state.last_event)
        return token.index_add(0, has_events.nonzero().squeeze(1), last_event)

    def _to_item_space(self, output: Tensor) -> Tensor:
        return F.normalize(self.head(output), dim=-1)

    def ask(self, histories: Any, questions: Any, batch_size: int = BATCH_SIZE) -> Any:
        """Return the answers to questions about one user or many users, given in raw values.

        Args:
            histories: one user's events, oldest first; or, for many users, a list of such histories, a mapping from user to
                history (such as `Dataset.histories`), or a frame of events (Arrow, pandas, Polars) with the columns `user`,
                `item`, and optionally `time` and condition fields.
                An event is a mapping: it has `item` (raw id) and may have condition fields and `time`: seconds since 1970, or a
                datetime, which is UTC if it has no time zone. Fields left out are *any*.
            questions: a list for all users, or one list per user. A question is a mapping: it may have condition fields and
                `time`; `{}` is the question "what next?". A question sees the events in the seconds before its time; without a
                time, all events.
            batch_size: number of users that are encoded at a time.

        Returns:
            For one user, (Q, E) answers of unit length. For a list of histories, (B, Q, E), or a list of (Q, E) if the users
            have different numbers of questions. For a mapping or a frame, a mapping from user to (Q, E).

        Raises:
            InputError: if an event has no `item`, or a field or a value is unknown.

        Example:
            >>> model.ask([{"item": "1193", "rating": 5}], [{}, {"rating": 5}]).shape              # doctest: +SKIP
            torch.Size([2, 64])
            >>> model.ask(dataset.histories(["1", "2"]), [{}])["2"].shape                          # doctest: +SKIP
            torch.Size([1, 64])
        """
        return raw_values.ask(self, histories, questions, batch_size)

    def predict_feedback(self, histories: Any, items: Any, question: Any = None, batch_size: int = BATCH_SIZE) -> Any:
        """Return the probability of each feedback value that users may give to items.

        If the log has no feedback, the prediction is whether the user would take the item (`taken`: *yes* or *no*), rather than
        an item that other users took in the same days.

        Args:
            histories: as in `ask`.
            items: raw ids for all users, or one list of raw ids per user. All items that the model does not know have the
                prediction of one unknown item.
            question: may have `time` and the condition fields that are known before the feedback; or a list with one per user.
            batch_size: number of users that are encoded at a time.

        Returns:
            For one user, a list: for each item, `item` (raw id), and for each feedback field its values with their
            probabilities. For many users, a list of such lists, or a mapping from user to such a list.

        Raises:
            InputError: if there is no item, the model was not trained to predict feedback, or as in `ask`.
        """
        return raw_values.predict_feedback(self, histories, items, question, batch_size)

    def recommend(
        self, histories: Any, question: Any = None, k: int = 10, filter: Any = None, batch_size: int = BATCH_SIZE
    ) -> Any:
        """Return the top items for users under a question, without the items of the events that the question sees.

        Args:
            histories: as in `ask`.
            question: may have condition fields and `time`; None is the question "what next?". Or a list with one per user.
            k: number of items.
            filter: raw ids of the items that may be recommended; None for all items.
            batch_size: number of users that are encoded at a time.

        Returns:
            For one user, a list: for each item, best first, `item` (raw id), `title` and `similarity` (cosine). For many users,
            a list of such lists, or a mapping from user to such a list.

        Raises:
            InputError: as in `ask`.
        """
        return raw_values.recommend(self, histories, question, k, filter, batch_size)

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """Return the items that are nearest to an item, without the item itself, in the form of `recommend`.

        Args:
            items: a raw id, or a list of raw ids.
            k: number of items.

        Returns:
            For one item, a list: for each similar item, best first, `item`, `title` and `similarity`. For a list, a list of such
            lists.

        Raises:
            InputError: the model does not know an item.
        """
        return raw_values.similar_items(self, items, k)

    def embed_items(self, items: Any = None) -> Tensor:
        """Return the embeddings of raw items, of unit length. An answer's cosine with them ranks the items.

        Args:
            items: a raw id, or a list of raw ids. An item that the model does not know has the embedding of an unknown item.
                None is the whole catalogue, in the order of `processor.items.values`.

        Returns:
            (E,) for one id, (n, E) for a list.
        """
        return raw_values.embed_items(self, items)

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        settings = self.config.settings
        figures = {
            "encoder": settings.encoder,
            "layers, width, heads": f"{settings.layers}, {settings.width}, {settings.heads}",
            "embedding width": settings.embedding_width,
            "events that an answer sees": f"at most {settings.max_events:,}",
            "items": self.config.items - 1,
            "condition fields": ", ".join(spec.name for spec in self.config.condition) or "none",
            "parameters": sum(parameter.numel() for parameter in self.parameters()),
        }
        return html_table("LargeUserModel", figures, self.path)

    def check_compatible(self, dataset: Dataset) -> None:
        """Raise an error if the fields and ids of a dataset do not mean what the model learned.

        A dataset that has grown since the training, by `lum prepare --append`, is compatible: its new values are unknown to the
        model.

        Raises:
            InputError: names the first difference.
        """
        check_fields("condition", self.config.condition, dataset.specs("condition"), REMEDY)
        vocabularies = {"items": self.processor.items} | self.processor.conditions
        check_growth(vocabularies, {"items": dataset.vocabulary("items")} | dataset.vocabularies("condition"), REMEDY)

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
        """Load a model from a local directory, or from the Hugging Face Hub.

        Args:
            pretrained_model_name_or_path: the directory, or OWNER/NAME on the Hub.
            map_location: the device for the model.
            options: of `huggingface_hub.snapshot_download`, such as `revision`, `token` and `local_files_only`.

        Raises:
            InputError: if there is no such model, it is damaged, or there is no such device.
        """
        return cls.load(model_directory(pretrained_model_name_or_path, options), map_location)

    @classmethod
    def load(cls, directory: str | Path, map_location: str | torch.device = "cpu") -> "LargeUserModel":
        """Load a model from a local directory.

        Raises:
            InputError: the directory has no model, the model is damaged or has another format, or there is no such device.
        """
        directory, device = as_path("directory", directory), available_device(map_location)
        check_parts(directory, "model")
        file = directory / "config.json"
        content = read_json(file, "lum pretrain")
        check_format(file, content.get("format", 1), "lum pretrain")  # version 0.1 wrote no format
        config = parse_settings(content, ModelConfig, where=str(file))
        processor = Processor.load(directory)
        check_vocabularies(config, processor, directory)
        weights = directory / "model.safetensors"
        try:
            model = cls(config, processor)
            model.load_state_dict(read_tensors(weights, "run 'lum pretrain' again"))
        except (RuntimeError, ValueError, TypeError, AssertionError, ArithmeticError, MemoryError):
            raise InputError(
                f"{weights}: does not fit {file.name} and this version of openlum; run 'lum pretrain' again"
            ) from None
        model.path = directory
        return model.to(device).eval()
