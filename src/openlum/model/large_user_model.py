"""The Large User Model: a network with the processor of its raw values, and saving and loading.

Shapes: B users, Q questions, E embedding width, R values of a feedback field, V items.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from openlum.arguments.values import as_path, whole_number
from openlum.artefact.directory import check_parts
from openlum.artefact.json_file import read_json, write_json
from openlum.artefact.manifest import check_format
from openlum.artefact.tensors import read_tensors, write_tensors
from openlum.config import parse_settings
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model.batch import History, Questions
from openlum.model.compatibility import check_fields, check_growth, check_vocabularies
from openlum.model.network import Network
from openlum.model.pretrained import available_device, model_directory
from openlum.model.processor import Processor
from openlum.model.request import Request, check_items, check_question, encode_request
from openlum.model.settings import ModelConfig
from openlum.model.state import HistoryState
from openlum.model.user_state import UserState
from openlum.model.weights import WeightsCache, weights_fingerprint

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
        >>> model.recommend(history, question={"rating": 5}, k=10)                         # doctest: +SKIP
    """

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
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return answers and feedback logits in one pass. See `Network.answer_and_predict_feedback`."""
        return self.network.answer_and_predict_feedback(state, item_questions, feedback_questions, items)

    @torch.inference_mode()
    def ask(self, history: Sequence[Mapping[str, Any]], questions: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return the answers to questions about one user, given in raw values.

        Args:
            history: the user's events, oldest first. An event has `item` (raw id) and may have condition fields and `time`:
                seconds since 1970, or a datetime, which is UTC if it has no time zone. Fields left out are *any*.
            questions: each may have condition fields and `time`; `{}` is the question "what next?". A question sees the events in
                the seconds before its time; without a time, all events.

        Returns:
            (Q, E) answers of unit length.

        Raises:
            InputError: if an event has no `item`, or a field or a value is unknown.
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
        """Return the probability of each feedback value that a user may give to items.

        If the log has no feedback, the prediction is whether the user would take the item (`taken`: *yes* or *no*), rather than
        an item that other users took in the same days.

        Args:
            history: as in `ask`.
            items: raw ids. All items that the model does not know have the prediction of one unknown item.
            question: may have `time` and the condition fields that are known before the feedback.

        Returns:
            For each item: `item` (raw id), and for each feedback field its values with their probabilities.

        Raises:
            InputError: `items` is empty, the model was not trained to predict feedback, or a reason named in `ask`.
        """
        targets = self.config.trained_feedback_targets
        if not targets:
            raise InputError(
                "the model was not trained to predict feedback; pretrain it with pretrain.feedback_prediction_weight above 0"
            )
        items = check_items(items)
        query_condition = check_question(question)
        feedback_names = sorted({spec.name for spec in self.config.condition if spec.feedback} & set(query_condition))
        if feedback_names:
            raise InputError(
                f"question: condition field '{feedback_names[0]}' is feedback, which the model predicts; leave it out"
            )
        request = encode_request(self.processor, self.config, history, [query_condition])
        state, encoded = self._encode_request(request), request.questions
        user_index = torch.zeros(len(items), dtype=torch.int64)
        condition = {name: value.expand(len(items), *value.shape[1:]) for name, value in encoded.condition.items()}
        item_ids = torch.from_numpy(self.processor.item_ids(items, "to predict feedback for"))
        questions = Questions(condition, user_index, encoded.prefix.expand(len(items)), item_ids).to(self.device)
        probabilities = [logits.softmax(1).tolist() for logits in self.predict_feedback_logits(state, questions)]
        return [
            {"item": item}
            | {
                spec.name: dict(zip(self.processor.feedback_values(spec), probability[index], strict=True))
                for spec, probability in zip(targets, probabilities, strict=True)
            }
            for index, item in enumerate(items)
        ]

    @torch.inference_mode()
    def recommend(
        self, history: Sequence[Mapping[str, Any]], question: Mapping[str, Any] | None = None, k: int = 10
    ) -> list[dict[str, Any]]:
        """Return the top items for a user under a question, without the items of the events that the question sees.

        Args:
            history: as in `ask`.
            question: may have condition fields and `time`. None is the question "what next?".
            k: number of items.

        Returns:
            For each item, best first: `item` (raw id), `title` and `similarity` (cosine).

        Raises:
            InputError: as in `ask`.
        """
        k = whole_number("k", k, minimum=1)
        request = encode_request(self.processor, self.config, history, [check_question(question)])
        answer = self.answer_questions(self._encode_request(request), request.questions.to(self.device))[0]
        history_ids = self.processor.items.encode([event["item"] for event in history[: request.prefix[0]]])
        similarity = self.catalogue() @ answer  # (V,)
        similarity[0] = -torch.inf
        similarity[torch.from_numpy(history_ids)] = -torch.inf
        best = similarity.topk(min(k, int(similarity.isfinite().sum())))
        items = self.processor.items.decode(best.indices.cpu().numpy())
        titles = [self.processor.titles[index] for index in best.indices.tolist()]
        return [
            {"item": item, "title": title, "similarity": score}
            for item, title, score in zip(items, titles, best.values.tolist(), strict=True)
        ]

    def _encode_request(self, request: Request) -> HistoryState:
        self.eval()
        return self.encode_history(request.history.to(self.device))

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
        return model.to(device).eval()
