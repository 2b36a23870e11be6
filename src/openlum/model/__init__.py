"""The Large User Model itself: token encoders, user encoder, attention, loss."""

from openlum.model.batch import History, Questions
from openlum.model.large_user_model import LargeUserModel, default_device
from openlum.model.processor import Lexicon
from openlum.model.settings import ModelConfig, ModelSettings

__all__ = ["History", "LargeUserModel", "Lexicon", "ModelConfig", "ModelSettings", "Questions", "default_device"]
