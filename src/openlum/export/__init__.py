"""Parts of a model for other systems, which run without torch and without openlum."""

from typing import Literal

VectorType = Literal["float16", "int8", "float32"]
"""Data types of exported vectors."""
