"""The matching head of a model as a directory: ONNX, NumPy and plain weights, for services without torch and without openlum.

Shapes: M user vectors, E width of a vector, C width of a field's embedding, D width of the context.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openlum.arguments.values import as_path
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import write_json
from openlum.artefact.tensors import write_tensors
from openlum.errors import InputError
from openlum.export.onnx_head import check_onnx, write_onnx
from openlum.model.batch import blank
from openlum.model.large_user_model import LargeUserModel
from openlum.model.matching_cost import bytes_per_user, flops_per_candidate
from openlum.model.matching_head import similarity_names
from openlum.model.network import Network


def export_head(model: str | Path | LargeUserModel, out: str | Path = "head") -> dict[str, Any]:
    """Write the matching head of a model for services without torch, as `lum export head` does.

    Args:
        model: a model, its directory, or OWNER/NAME on the Hugging Face Hub.
        out: the directory to write. It gets `head.onnx`, `head.py` (NumPy) with the weights `head.safetensors`, and `head.json`,
            which describes the inputs and outputs.

    Returns:
        The content of `head.json`.

    Raises:
        InputError: the model was not trained to predict feedback, or the libraries of the extra `onnx` are missing.
    """
    check_onnx()
    with whole_directory(as_path("out", out), "head") as draft:
        if not isinstance(model, LargeUserModel):
            model = LargeUserModel.from_pretrained(model)
        description = describe_head(model)
        write_onnx(model.network, draft / "head.onnx")
        write_tensors(head_weights(model.network), draft / "head.safetensors")
        write_json(draft / "head.json", description)
        (draft / "head.py").write_bytes(Path(__file__).with_name("numpy_head.py").read_bytes())
    return description


def describe_head(model: LargeUserModel) -> dict[str, Any]:
    """Return the content of `head.json`: the names of inputs and outputs, how raw values are encoded, and the costs.

    Raises:
        InputError: the model was not trained to predict feedback.
    """
    config, network, processor = model.config, model.network, model.processor
    if not config.trained_feedback_targets:
        raise InputError(
            "the model was not trained to predict feedback, so it has no matching head; pretrain it with "
            "pretrain.feedback_prediction_weight above 0"
        )
    outputs = [
        {"name": f"{spec.name}={value}", "field": spec.name, "value": value}
        for spec in config.trained_feedback_targets
        for value in processor.feedback_values(spec)
    ]
    context = []
    for spec in config.context:
        encoding = spec.model_dump(exclude={"feedback"}, exclude_defaults=True)
        has_values = spec.name in processor.conditions
        context.append(encoding | ({"values": processor.conditions[spec.name].values} if has_values else {}))
    return {
        "model": config.fingerprint,
        "user_vectors": network.user_vector_names,
        "embedding_width": config.settings.embedding_width,
        "heads": network.matching_head.heads,
        "outputs": outputs,
        "similarities": similarity_names(processor, network.condition_specs),
        "context": context,
        "bytes_per_user": bytes_per_user(network),
        "flops_per_candidate": flops_per_candidate(network),
    }


@torch.no_grad()
def head_weights(network: Network) -> dict[str, Tensor]:
    """Return the weights that the head reads, by name, in single precision.

    `constant` also has the part of the condition fields that are never known before the item: they are *any*. For each field NAME
    of the context there is `NAME/project`, (D, C), and the layer that embeds it.
    """
    encoder = network.condition_encoder
    weights = {name: weight.clone() for name, weight in network.matching_head.state_dict().items()}
    weights |= {"norm": network.condition_norm.weight, "constant": encoder.constant}
    if encoder.encoder is not None:
        specs, project = network.config.condition, encoder.encoder.project
        weights["constant"] = encoder.constant + project.bias
        context = {spec.name for spec in network.config.context}
        columns = project.weight.split(network.config.settings.field_width, 1)
        for spec, field, column in zip(specs, encoder.encoder.fields, columns, strict=True):
            if spec.name in context:
                weights[f"{spec.name}/project"] = column
                weights |= {f"{spec.name}/{name}": weight for name, weight in field.state_dict().items()}
            else:
                value = blank([spec], 1)[spec.name].to(network.device)
                weights["constant"] = weights["constant"] + field(value)[0] @ column.T
    return {name: weight.detach().float().cpu() for name, weight in weights.items()}
