"""The registry of encoders: the blocks of the user encoder, built in or of other packages (entry points `openlum.encoders`).

An encoder is the class of one block. It is built with `ModelSettings` and has a class attribute `name`, and `size_settings` if
the shapes of its weights depend on further settings than width, layers and heads.
"""

from typing import Annotated, Any

from pydantic import AfterValidator

from openlum.errors import InputError
from openlum.registry import Registry

ENCODERS: Registry[Any] = Registry(
    "encoder",
    "openlum.encoders",
    {
        "transformer": ("openlum.model.blocks.transformer", "TransformerBlock"),
        "hstu": ("openlum.model.blocks.hstu", "HstuBlock"),
    },
)
"""All encoders, by the name that `model.encoder` has in a settings file."""


def _check_name(name: Any) -> str:
    try:
        return ENCODERS.check(name)
    except InputError as error:
        raise ValueError(str(error)) from None


EncoderName = Annotated[str, AfterValidator(_check_name)]
"""The name of an encoder in a settings file."""
