"""A ranker of your own: a factorisation machine beside the MLP (Rendle 2010, equation 1 in the form of lemma 3.1).

    pip install -e examples/ranker_package
    lum rank --dataset DATASET --knowledge KNOWLEDGE --out ranker --set "rank.rankers=[dnn, fm]" --set rank.options.fm.width=16

The entry point in `pyproject.toml` makes the name `fm` known to `lum` and to `openlum`. The base class brings the embeddings of
all fields, the target item, knowledge, training and saving.

Shapes: B rows of a batch, X width of all inputs, K width of a factor.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from openlum.config import Settings
from openlum.rank.rankers import Ranker


class FactorisationMachine(Ranker):
    """A ranker whose MLP also reads the products of all pairs of inputs."""

    name = "fm"

    class Options(Settings):
        """Settings of the ranker: `rank.options.fm` of a settings file."""

        width: int = Field(8, ge=1)
        """K: width of the factor of an input."""

    def build(self, inputs: int) -> None:
        self.factors = nn.Linear(inputs, self.config.options.width, bias=False)

    def crossed_width(self, inputs: int) -> int:
        return inputs + self.config.options.width

    def cross(self, x: Tensor) -> Tensor:
        squares = x.square() @ self.factors.weight.square().T  # (B, K)
        return torch.cat([x, (self.factors(x).square() - squares) / 2], 1)
