from openlum.api import join_knowledge as join_knowledge
from openlum.api import prepare as prepare
from openlum.api import pretrain as pretrain
from openlum.api import query as query
from openlum.api import rank as rank
from openlum.api import retrieve as retrieve
from openlum.api import run as run
from openlum.data.dataset import Dataset as Dataset
from openlum.data.knowledge import Knowledge as Knowledge
from openlum.errors import InputError as InputError
from openlum.export.head import export_head as export_head
from openlum.export.items import export_items as export_items
from openlum.model.large_user_model import LargeUserModel as LargeUserModel
from openlum.model.settings import ModelSettings as ModelSettings
from openlum.pipeline.experiment import Experiment as Experiment
from openlum.pretrain.settings import PretrainSettings as PretrainSettings
from openlum.query.settings import QuerySettings as QuerySettings
from openlum.rank.estimator import KnowledgeFusion as KnowledgeFusion
from openlum.rank.features import KnowledgeFeatures as KnowledgeFeatures
from openlum.rank.settings import RankSettings as RankSettings
from openlum.results import Ranking as Ranking
from openlum.results import Retrieval as Retrieval
from openlum.results import Run as Run
from openlum.retrieve.settings import RetrieveSettings as RetrieveSettings
from openlum.schema import Schema as Schema

__version__: str
