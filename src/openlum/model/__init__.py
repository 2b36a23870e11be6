"""The Large User Model: token encoders, user encoder, attention, losses, and the conversion of raw values."""

from openlum.model.batch import History, Questions
from openlum.model.large_user_model import LargeUserModel, default_device
from openlum.model.processor import Processor
from openlum.model.settings import ModelConfig, ModelSettings
from openlum.model.user_state import UserState

__all__ = [
    "History",
    "LargeUserModel",
    "ModelConfig",
    "ModelSettings",
    "Processor",
    "Questions",
    "UserState",
    "default_device",
]
