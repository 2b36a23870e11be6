"""The Large User Model: a network with the processor of its raw values, and saving and loading.

Shapes: B users, Q questions, E embedding width, R values of a feedback field, V items.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from openlum.arguments.values import as_path
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json, write_json
from openlum.artefact.manifest import check_format
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import raw_values
from openlum.model.batch import History, Questions
from openlum.model.compatibility import check_fields, check_growth, check_vocabularies
from openlum.model.item_index import ItemIndex
from openlum.model.network import Network
from openlum.model.new_items import with_new_items
from openlum.model.outputs import Answers
from openlum.model.pretrained import available_device, model_directory
from openlum.model.processor import Processor
from openlum.model.raw_values import BATCH_SIZE
from openlum.model.settings import ModelConfig
from openlum.model.state import HistoryState
from openlum.model.user_state import UserState
from openlum.model.weights import WeightsCache, weights_fingerprint
from openlum.notebook import html_table

REMEDY = "pretrain again on this dataset"
CATALOGUE_CHUNK = 65_536
"""Number of items that are embedded at a time."""


def default_device() -> torch.device:
    """Return the GPU if torch can use one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class LargeUserModel(nn.Module, ModelHubMixin, library_name="openlum", tags=["recommender-system"]):
    """A model that encodes histories of *condition, item* pairs and answers questions with vectors in the space of items.

    It has the network, `network`, which computes with tensors, and the processor, `processor`, which converts raw values.

    Examples:
        >>> model = LargeUserModel.from_pretrained("runs/ml-1m/model")                     # doctest: +SKIP
        >>> history = [{"item": "1193", "rating": 5}, {"item": "661", "rating": 3}]        # doctest: +SKIP
        >>> model.recommend(history, k=10, question={"rating": 5})                         # doctest: +SKIP
    """

    path: Path | None = None
    """The directory that the model was loaded from; None for a new model."""

    def __init__(self, config: ModelConfig, processor: Processor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.network = Network(config)
        self._catalogue: WeightsCache[Tensor] = WeightsCache()
        self._fingerprint: WeightsCache[str] = WeightsCache()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.network.device

    def items(self, ids: Tensor | None = None) -> Tensor:
        """Return the embeddings of items, (n, E), of unit length. See `Network.items`."""
        return self.network.items(ids)

    def catalogue(self) -> Tensor:
        """Return the embeddings of all items, (V, E), for use and not for training.

        They are computed once for the current weights and then kept, which takes memory for V E numbers. Do not change them in
        place.
        """
        self.eval()
        return self._catalogue.get(self.network.item_encoder, self._embed_catalogue)

    def _embed_catalogue(self) -> Tensor:
        # Not in inference mode, so that callers may use the embeddings in both modes.
        with torch.inference_mode(False), torch.no_grad():
            ids = torch.arange(self.config.items, device=self.device)
            return torch.cat([self.network.items(chunk) for chunk in ids.split(CATALOGUE_CHUNK)])

    @property
    def weights_fingerprint(self) -> str:
        """A fingerprint of the weights and the configuration. It is computed once for the current weights."""
        return self._fingerprint.get(self.network, lambda: weights_fingerprint(self.config, self.network))

    def user_state(self, history: Sequence[Mapping[str, Any]] = ()) -> UserState:
        """Return the state of one user, which can be kept, extended by new events, and asked.

        Args:
            history: the user's events, as in `ask`.

        Raises:
            InputError: as in `ask`.
        """
        return UserState.empty(self).extend(history)

    def encode_history(self, history: History) -> HistoryState:
        """Return the state of the histories of B users, from which answers to questions are computed."""
        return self.network.encode_history(history)

    def answer_questions(self, state: HistoryState, questions: Questions) -> Tensor:
        """Return the answers to questions, (Q, E), of unit length (the group query)."""
        return self.network.answer_questions(state, questions)

    def score_items(self, state: HistoryState, questions: Questions, items: Tensor) -> Tensor:
        """Return the scores of all items for questions, (Q, V). See `Network.score_items`."""
        return self.network.score_items(state, questions, items)

    def predict_feedback_logits(
        self, state: HistoryState, questions: Questions, items: Tensor | None = None
    ) -> list[Tensor]:
        """Return logits of the feedback to the items of questions. See `Network.predict_feedback_logits`."""
        return self.network.predict_feedback_logits(state, questions, items)

    def answer_and_predict_feedback(
        self,
        state: HistoryState,
        item_questions: Sequence[Questions],
        feedback_questions: Questions,
        items: Tensor | None = None,
    ) -> tuple[list[Answers], list[Tensor]]:
        """Return answers and feedback logits in one pass. See `Network.answer_and_predict_feedback`."""
        return self.network.answer_and_predict_feedback(state, item_questions, feedback_questions, items)

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
        an item that other users took in the same days or, if the log has impressions, that was shown to the user.

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
            InputError: `items` is empty, the model was not trained to predict feedback, or a reason named in `ask`.
        """
        return raw_values.predict_feedback(self, histories, items, question, batch_size)

    def match(
        self, vectors: Any, items: Any, context: Any = None, last_event: Any = None, history: Any = None
    ) -> list[dict[str, Any]]:
        """Return the probability of each feedback value that one user may give to items, from kept user vectors.

        The matching head computes it without a history, in microseconds for an item. `predict_feedback` is more exact: it looks
        at the history again for each item.

        Args:
            vectors: (M, E), or (M E,) as in the column `vectors` of knowledge per user, in any number format.
            items: raw ids.
            context: may have `time` and the condition fields that are known before the feedback, like `question` of
                `predict_feedback`.
            last_event: time of the user's last event before the vectors were computed, as in the column `last_event`; None if
                there is none. It matters if the context has a time and the model has the condition field `gap`.
            history: raw ids of the user's last items, oldest first, as in the column `recent_items`. It matters if items have
                content, a field of type `vector`, and the log has no feedback.

        Returns:
            A list in the form of `predict_feedback`. Each element also has the predicted similarities of the item to the answers
            to the fixed questions, by the names of the columns of knowledge without the tier: `similarity.any`,
            `similarity_in_context.any`, and the same for each feedback value, FIELD:VALUE. With a history that matters, it has
            the comparisons of the item with the user's last items, `content.FIELD.COMPARISON`.

        Raises:
            InputError: the vectors have another size or are not finite, or a reason named in `predict_feedback`.

        Example:
            >>> row = ol.Knowledge("users").to_arrow().to_pylist()[0]                              # doctest: +SKIP
            >>> model.match(row["vectors"], ["7", "100"], {"scenario": "home"}, row["last_event"])  # doctest: +SKIP
        """
        return raw_values.match(self, vectors, items, context, last_event, history)

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        question: Any = None,
        filter: Any = None,
        exclude_seen: bool = True,
        batch_size: int = BATCH_SIZE,
        index: ItemIndex | None = None,
    ) -> Any:
        """Return the top items for users under a question.

        Args:
            histories: as in `ask`.
            k: number of items.
            question: may have condition fields and `time`; None is the question "what next?". Or a list with one per user.
            filter: which items may be recommended: raw ids, or the keys of `ItemFilter`, such as
                `{"where": {"genre": "Drama"}, "deny": ["1193"]}`; None for all items. A filter never makes the list shorter than
                k if k items satisfy it.
            exclude_seen: whether to leave out the items of the events that the question sees. False where users return to items.
            batch_size: number of users that are encoded at a time.
            index: searches the vectors of `catalogue`, such as `openlum.retrieve.faiss_index.FaissIndex`; None for the exact
                search.

        Returns:
            For one user, a list: for each item, best first, `item` (raw id), `title` and `similarity` (cosine, and more for an
            item of the history). For many users, a list of such lists, or a mapping from user to such a list.

        Raises:
            InputError: as in `ask`.
        """
        return raw_values.recommend(self, histories, k, question, filter, exclude_seen, batch_size, index)

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

    def with_items(self, items: Sequence[Mapping[str, Any]]) -> "LargeUserModel":
        """Return a model whose catalogue also has items that came after the training. This model stays the same.

        A new item is known by its fields, as an item of the training data without events is. All methods accept it.

        Args:
            items: a mapping for each new item: `item` (raw id), item fields with raw values, and optionally `title`. A field that
                is left out is missing; a value that was not in the training data is unknown.

        Raises:
            InputError: the model cannot embed items by their fields (it has no item fields, or `model.id_dropout` is 0), an id is
                not new, or a field or a value is wrong.

        Example:
            >>> grown = model.with_items([{"item": "9001", "title": "New film", "genres": ["Drama"]}])     # doctest: +SKIP
            >>> grown.recommend(history, filter=["9001", "1193"])                                         # doctest: +SKIP
        """
        processor, fields = with_new_items(self.processor, self.config, items)
        grown = copy.deepcopy(self)
        grown.path, grown.processor = None, processor
        grown.config = grown.network.config = self.config.model_copy(update={"items": len(processor.items)})
        grown.network.item_encoder.add_items(fields, grown.config.items - self.config.items)
        return grown.eval()

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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LargeUserModel":
        """Move or convert the weights, as `to` does. This frees the memory of values of the previous weights."""
        self._catalogue.clear()
        self._fingerprint.clear()
        return super()._apply(fn, recurse)

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
        write_tensors(self.network.state_dict(), save_directory / "model.safetensors", {"format": "pt"})
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
            model.network.load_state_dict(read_tensors(weights, "run 'lum pretrain' again"))
        except (RuntimeError, ValueError, TypeError, AssertionError, ArithmeticError, MemoryError):
            raise InputError(
                f"{weights}: does not fit {file.name} and this version of openlum; run 'lum pretrain' again"
            ) from None
        model.path = directory
        return model.to(device).eval()
