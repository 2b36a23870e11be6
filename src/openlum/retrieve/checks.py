"""What can stop an evaluation of retrieval, found before it begins."""

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import Processor
from openlum.retrieve.held_out import HeldOut
from openlum.retrieve.settings import RetrieveSettings
from openlum.schema import FieldSpec


def check_retrieval(dataset: Dataset, processor: Processor, specs: list[FieldSpec], settings: RetrieveSettings) -> None:
    """Find now what would stop an evaluation.

    Args:
        dataset: whose events are held out.
        processor: of the model that answers.
        specs: its condition fields.
        settings: questions and cut-offs.

    Raises:
        InputError: a question does not fit the model, a cut-off the catalogue, or no user has a held-out event.
    """
    for name, question in settings.questions.items():
        processor.encode_question(name, question, specs)
    check_known(specs, settings.known)
    candidates = len(processor.items) - 1
    if "at" in settings.model_fields_set and max(settings.at) > candidates:
        raise InputError(
            f"retrieve.at: {max(settings.at):,} items are to be looked at, and {candidates:,} are ranked; "
            "give cut-offs within the catalogue"
        )
    HeldOut(dataset, "test", len(processor.items), settings.exclude_seen)


def check_known(specs: list[FieldSpec], known: dict[str, list[str]]) -> None:
    """Refuse a field of `known` that no condition has, or that is feedback."""
    fields = [spec.name for spec in specs if not spec.feedback]
    for name, told in known.items():
        wrong = sorted(set(told) - set(fields))
        if wrong:
            there = ", ".join(fields) or "none"
            raise InputError(
                f"retrieve.known.{name}: '{wrong[0]}' is no field that is known before the item; there are: {there}"
            )
