"""The matching head as an ONNX model.

Shapes: n candidates, M user vectors, E width of a vector and of an item embedding, F fixed questions, R
feedback values of all fields.
"""

import copy
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from openlum.errors import InputError
from openlum.field_spec import FieldSpec
from openlum.model.batch import blank
from openlum.model.network import Network

USER_VECTORS, ITEMS, LOGITS, SIMILARITIES = "user/vectors", "item/embeddings", "feedback/logits", "item/similarities"
"""Names of the inputs (M, E) and (n, E), and of the outputs (n, R) and (n, 2 F). The other inputs have the names of the context's
fields, which never contain a slash."""


def check_onnx() -> None:
    """Raise an `InputError` if the libraries of the extra `onnx` are missing."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the export of the matching head needs {' and '.join(missing)}: run pip install 'openlum[onnx]', or "
            "pip install '.[onnx]' in the clone of openlum"
        )


class ServedHead(nn.Module):
    """The matching head and the encoder of a request's context: what a request needs of a network."""

    def __init__(self, network: Network, context: list[FieldSpec]) -> None:
        super().__init__()
        self.specs = network.config.condition
        self.names = [spec.name for spec in context]
        self.encoder, self.norm, self.head = network.condition_encoder, network.condition_norm, network.matching_head

    def forward(self, vectors: Tensor, items: Tensor, context: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return feedback logits, (n, R), and similarities, (n, 2 F).

        Args:
            vectors: (M, E) of one user.
            items: (n, E) embeddings of the candidates.
            context: encoded fields of the request: an id (), ids, a number () or a vector.
        """
        given = {name: value.unsqueeze(0) for name, value in zip(self.names, context, strict=True)}
        condition = self.norm(self.encoder(blank(self.specs, 1) | given, 1))
        return self.head(vectors.unsqueeze(0), items, condition)


def write_onnx(network: Network, file: Path) -> None:
    """Write the matching head of a network as an ONNX model.

    A field of the context that a request leaves out is *any*: it has a default value, an initializer of the input's name.
    """
    import onnx_ir

    specs = network.config.context
    head = copy.deepcopy(ServedHead(network, specs)).cpu().float().eval()
    context = [value[0] for value in blank(specs, 1).values()]
    width = network.config.settings.embedding_width
    vectors, items = torch.zeros(len(network.user_vector_names), width), torch.zeros(3, width)
    sizes = [{0: torch.export.Dim.DYNAMIC} if spec.type == "multi" else None for spec in specs]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # it warns of libraries that the head does not need
        with warnings.catch_warnings(action="ignore"):
            # Products of all candidates with one user become matrix products. ONNX would infer a wrong shape for their einsum.
            exported = torch.export.export(
                head, (vectors, items, context), dynamic_shapes=(None, {0: torch.export.Dim("n")}, sizes)
            ).run_decompositions()
            program = torch.onnx.export(exported, opset_version=18, dynamo=True, verbose=False)
    finally:
        logger.setLevel(level)
    assert program is not None
    graph = program.model.graph
    for node in graph:
        node.metadata_props.clear()  # paths of source files
    for value in [*(output for node in graph for output in node.outputs), *graph.initializers.values()]:
        value.name = f"inner/{value.name}"
    for value, name in zip(graph.inputs, (USER_VECTORS, ITEMS, *head.names), strict=True):
        value.name = name
    for value, default in zip(graph.inputs[2:], context, strict=True):
        value.const_value = onnx_ir.tensor(default.numpy(), name=value.name)
        graph.register_initializer(value)
    for value, name in zip(graph.outputs, (LOGITS, SIMILARITIES), strict=True):
        value.name = name
    program.save(file)
