from pathlib import Path

import pytest
import torch

from openlum.data.dataset import Dataset
from openlum.rank.batches import RankingData
from openlum.rank.knowledge import load_knowledge
from openlum.rank.settings import KnowledgeSettings, RankSettings, SequenceSettings, TreeSettings
from tests.rank.planted import write_knowledge, write_planted_dataset

SETTINGS = RankSettings(
    knowledge=KnowledgeSettings(tier="live"),  # the planted knowledge has no matching head
    item_activity=False,  # it says nothing in the planted data
    embedding_width=4,
    item_width=8,
    hidden=[16, 8],
    attention_hidden=8,
    user_id=True,
    history_length=20,
    batch_size=128,
    learning_rate=1e-2,
    dropout=0.1,
    max_epochs=8,
    patience=4,
    seeds=[0, 1],
    long_history=40,
    trees=TreeSettings(min_rows=20, leaves=15),
    sequence=SequenceSettings(width=16, heads=2, layers=2, max_events=20, batch_events=200, learning_rate=1e-2),
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def settings() -> RankSettings:
    return SETTINGS


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset(write_planted_dataset(tmp_path_factory.mktemp("planted")))


@pytest.fixture(scope="session")
def knowledge_dir(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knowledge(tmp_path_factory.mktemp("knowledge") / "knowledge", dataset)


@pytest.fixture(scope="session")
def data(dataset: Dataset, knowledge_dir: Path) -> RankingData:
    return RankingData(dataset, SETTINGS, load_knowledge(knowledge_dir, dataset))
