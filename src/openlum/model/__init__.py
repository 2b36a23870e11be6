"""The Large User Model: token encoders, user encoder, attention, losses, and the conversion of raw values."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "History": "batch",
    "LargeUserModel": "large_user_model",
    "ModelConfig": "settings",
    "ModelSettings": "settings",
    "Processor": "processor",
    "Questions": "batch",
    "UserState": "user_state",
    "default_device": "large_user_model",
}
"""Name to the module that defines it. A module is imported when one of its names is used: settings need no torch."""


def __getattr__(name: str) -> Any:
    """Return a public name of this package."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
