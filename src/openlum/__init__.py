"""openlum: the Large User Model and its three-step paradigm."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openlum.model import LargeUserModel

__version__ = version("openlum")
__all__ = ["LargeUserModel", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the model when it is first used: the import of torch takes over a second."""
    if name == "LargeUserModel":
        from openlum.model import LargeUserModel

        return LargeUserModel
    raise AttributeError(f"module 'openlum' has no attribute '{name}'")
