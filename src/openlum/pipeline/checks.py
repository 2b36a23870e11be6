"""Checks before the first training of `lum run` and `lum bench`. They report mistakes that would otherwise stop a later step.

Each single step begins with the same checks of its own part, in the `checks.py` of its folder.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openlum.artefact.directory import check_replaceable
from openlum.artefact.manifest import Kind
from openlum.data.dataset import Dataset
from openlum.errors import InputError
from openlum.model import ModelSettings, Processor
from openlum.model.settings import content_fields, feedback_targets
from openlum.pretrain.checks import check_pretraining
from openlum.pretrain.plan import plan_for
from openlum.pretrain.settings import PretrainSettings
from openlum.query.checks import impression_knowledge_size
from openlum.query.questions import QuestionSet, feedback_column_names, score_names_of
from openlum.query.settings import QuerySettings
from openlum.rank.checks import check_knowledge, check_ranking
from openlum.rank.settings import RankSettings
from openlum.retrieve.checks import check_retrieval
from openlum.retrieve.settings import RetrieveSettings

ARTEFACTS: dict[str, Kind] = {"model": "model", "knowledge": "knowledge", "ranker": "ranker", "retrieval": "retrieval"}
"""Directory of each artefact after the dataset, in the directory of an experiment, to its kind."""


def check_before_training(
    dataset: Dataset,
    directory: Path,
    model: ModelSettings,
    pretrain: PretrainSettings,
    query: QuerySettings | None = None,
    rankings: Sequence[RankSettings] = (),
    retrieve: RetrieveSettings | None = None,
    example: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Check the settings of all steps after the dataset against the dataset, the memory and the disk.

    Args:
        dataset: the dataset from `lum prepare`.
        directory: the directory that the steps write their artefacts to.
        model: shape of the model.
        pretrain: settings of the pre-training.
        query: questions of the knowledge; None if there is no query step.
        rankings: all settings that rankers will be trained with.
        retrieve: settings of the retrieval; None if there is no retrieve step.
        example: questions to the example user.

    Raises:
        InputError: a step would fail. The message names the key, the directory or the part of the dataset.
    """
    processor, specs = Processor.from_dataset(dataset), dataset.specs("condition")
    plan = plan_for(dataset, model, pretrain)
    model, pretrain = plan.model, plan.settings
    for name, kind in ARTEFACTS.items():
        check_replaceable(directory / name, kind)
    with _named_section("example"):
        for name, question in (example or {}).items():
            processor.encode_question(name, question, specs)
    if retrieve:
        with _named_section("retrieve"):
            check_retrieval(dataset, processor, specs, dataset.specs("item"), retrieve)
    for settings in rankings:
        check_ranking(dataset, settings)
    if query:
        predicts = pretrain.feedback_prediction_weight > 0
        feedback_names = feedback_column_names(processor, feedback_targets(specs)) if predicts else []
        with _named_section("query"):
            questions = QuestionSet(processor, specs, query.questions, dataset, model.learned_questions).names
            read = specs if model.conditions else []
            content = content_fields(dataset.specs("item"), specs)
            score_names = score_names_of(query, questions, processor, read, feedback_names, content)
            size = impression_knowledge_size(dataset, query, model.embedding_width, len(questions), len(score_names))
            size.check(directory / "knowledge")
        for settings in rankings:
            check_knowledge(dataset, settings, questions, score_names, model.embedding_width)
    check_pretraining(dataset, processor, model, pretrain, directory / "model")


@contextmanager
def _named_section(section: str) -> Iterator[None]:
    """Add the name of the experiment's section to the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}" if str(error).startswith(f"{section}.") else f"{section}: {error}") from None
