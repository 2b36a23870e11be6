"""Checks before an evaluation of retrieval."""

from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model import Processor
from openlum.model.allowed_items import field_ids
from openlum.retrieve.held_out import HeldOut, no_held_out_event
from openlum.retrieve.settings import RetrieveSettings, chosen_baselines, with_default_questions


def check_retrieval(
    dataset: Dataset,
    processor: Processor,
    specs: list[FieldSpec],
    item_specs: list[FieldSpec],
    settings: RetrieveSettings,
) -> None:
    """Check that retrieval can be evaluated with these settings.

    Args:
        dataset: the dataset whose events are held out.
        processor: processor of the model that answers.
        specs: the model's condition fields.
        item_specs: the model's item fields.
        settings: questions and cut-offs.

    Raises:
        InputError: a question or a filter does not fit the model, a cut-off exceeds the catalogue, or no user has a held-out
            event.
    """
    settings = with_default_questions(settings, dataset.info.data_schema.holdout)
    for name, question in settings.questions.items():
        processor.encode_question(name, question, specs)
    check_known_fields(specs, settings.known)
    check_filters(processor, item_specs, settings)
    chosen_baselines(settings, len(processor.items))
    candidates = len(processor.items) - 1
    if "at" in settings.model_fields_set and max(settings.at) > candidates:
        raise InputError(
            f"retrieve.at: the cut-off {max(settings.at):,} exceeds the {candidates:,} items that are ranked; "
            "give cut-offs within the catalogue"
        )
    items = len(processor.items)
    groups = dataset.groups_of_sequences()
    if not any(len(HeldOut(sequences, "test", items, exclude_seen=False)) for sequences in groups):
        raise no_held_out_event(dataset)


def check_known_fields(specs: list[FieldSpec], known: dict[str, list[str]]) -> None:
    """Check the fields of `retrieve.known`.

    Raises:
        InputError: a field is not a condition field, or is a feedback field.
    """
    fields = [spec.name for spec in specs if not spec.feedback]
    for name, known_fields in known.items():
        wrong = sorted(set(known_fields) - set(fields))
        if wrong:
            choices = ", ".join(fields) or "none"
            raise InputError(
                f"retrieve.known.{name}: '{wrong[0]}' is not a condition field that is known before the item; "
                f"choose from: {choices}"
            )


def check_filters(processor: Processor, item_specs: list[FieldSpec], settings: RetrieveSettings) -> None:
    """Check `retrieve.filters`.

    Raises:
        InputError: a filter is of no question, or has a field or a value that does not exist.
    """
    for name, item_filter in settings.filters.items():
        questions = [*settings.questions, *settings.known]
        if name not in questions:
            raise InputError(f"retrieve.filters: '{name}' is not a question; choose from {', '.join(questions)}")
        try:
            field_ids(item_filter, processor, item_specs)
        except InputError as error:
            raise InputError(f"retrieve.filters.{name}: {str(error).removeprefix('filter: ')}") from None
