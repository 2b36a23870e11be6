"""Commands of `lum export`: parts of a model for other systems."""

from typing import Annotated

import typer

from openlum.cli.shared import Out, print_figures

export = typer.Typer(no_args_is_help=True, help="Parts of a model for systems without openlum.")


@export.callback()
def _group() -> None:
    """Keep the name of a command necessary, also while there is only one."""


@export.command()
def head(
    model: Annotated[str, typer.Argument(help="Model from `lum pretrain`, or OWNER/NAME on the Hugging Face Hub.")],
    out: Out,
) -> None:
    """Write the matching head for services without torch: ONNX, and NumPy with plain weights.

    Example:

        lum export head runs/market/model --out head
    """
    from openlum.export.head import export_head

    description = export_head(model, out)
    figures = {
        "user vectors": len(description["user_vectors"]),
        "bytes a user": description["bytes_per_user"],
        "FLOPs a candidate": description["flops_per_candidate"],
        "context": ", ".join(field["name"] for field in description["context"]) or "none",
        "outputs": ", ".join(output["name"] for output in description["outputs"]),
    }
    print_figures(figures, out)
