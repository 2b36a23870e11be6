"""Checks before the training of rankers."""

from collections.abc import Sequence
from functools import partial

from torch import nn

from openlum.capacity import check_memory, check_training
from openlum.data.dataset import SPLITS, Dataset
from openlum.errors import InputError
from openlum.rank.boosted_trees import import_lightgbm
from openlum.rank.inputs import check_questions, history_where_ids, plain_config, select_questions
from openlum.rank.registry import RANKERS
from openlum.rank.settings import RankSettings
from openlum.rank.tree_fusion import NEEDED_BY


def check_ranking(dataset: Dataset, settings: RankSettings) -> None:
    """Check that rankers can be trained on a dataset with these settings.

    Raises:
        InputError: the rows or the settings do not allow training, a ranker does not fit into memory, or a library that a ranker
            needs is not installed.
    """
    history_where_ids(dataset, settings.history_where)
    check_rows(dataset)
    if settings.knowledge.joining == "trees":
        import_lightgbm(NEEDED_BY)
    for architecture in settings.rankers:
        ranker = RANKERS.load(architecture)
        ranker.check_requirements()
        if not issubclass(ranker, nn.Module):
            continue
        config = plain_config(dataset, architecture, settings)
        check_training(partial(ranker, config), f"'{architecture}'", "lower the widths of 'rank'")


def check_knowledge(
    dataset: Dataset, settings: RankSettings, questions: Sequence[str], score_names: Sequence[str], width: int
) -> None:
    """Check, before `lum query` runs, that the knowledge will have the named questions and will fit into memory.

    Args:
        dataset: the dataset whose impressions will be answered.
        settings: settings of the rankers.
        questions: names of the questions.
        score_names: names of all scores.
        width: E of the answers.

    Raises:
        InputError: the knowledge will lack a question, or will not fit into memory.
    """
    check_questions(settings.knowledge, list(questions), list(score_names))
    answers = settings.knowledge.answers
    answer_count = len(select_questions(list(questions), answers))
    rows = min(sum(dataset.info.impressions.values()), settings.buffer_rows)
    check_memory(
        rows * (answer_count * width * 2 + len(score_names) * 4),
        f"knowledge of {rows:,} impressions",
        "name fewer rank.knowledge.direct_questions, or lower rank.buffer_rows or model.embedding_width",
    )


def check_rows(dataset: Dataset) -> None:
    """Check that every split has rows with both labels. Training and evaluation need both."""
    remedy = (
        "check the impressions and 'splits' in the schema, or leave rankers out ('rank: null' in an experiment file)"
    )
    for split in SPLITS:
        labels = dataset.labels(split)
        if not labels:
            schema = dataset.info.data_schema
            if schema.impressions is None and schema.impressions_from_events is None:
                raise InputError(
                    f"{dataset.path}: the log has no impressions, so there is nothing to rank; name a file as 'impressions' in "
                    "the schema, or make impressions of events: 'impressions_from_events: {negatives: 4}' ranks each event among "
                    "items sampled for it, '{field: FIELD, at_least: NUMBER}' labels events by their feedback; then run "
                    "'lum prepare' again. Or leave rankers out ('rank: null' in an experiment file)"
                )
            unlabelled = dataset.info.counts.get("impressions_unlabelled", 0)
            detail = f" ({unlabelled:,} impressions have no label)" if unlabelled else ""
            raise InputError(f"{dataset.path}: has no {split} impressions with a label{detail}; {remedy}")
        if len(labels) < 2:
            raise InputError(
                f"{dataset.path}: all {split} impressions have the label {labels.pop():.0f}, and rankers need both labels; "
                f"{remedy}"
            )
