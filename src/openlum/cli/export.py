"""Commands of `lum export`: parts of a model for other systems."""

from pathlib import Path
from typing import Annotated

import typer

from openlum.cli.shared import Out, print_figures
from openlum.export import VectorType

export = typer.Typer(no_args_is_help=True, help="Parts of a model for systems without openlum.")


Model = Annotated[str, typer.Argument(help="Model from `lum pretrain`, or OWNER/NAME on the Hugging Face Hub.")]


@export.command()
def head(model: Model, out: Out) -> None:
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


@export.command()
def items(
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Parquet file to write. It is written completely or not at all.")
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset", "-d", help="Dataset from `lum prepare` with the items and titles; by default the model's."
        ),
    ] = None,
    dtype: Annotated[VectorType, typer.Option(help="Data type of the vectors.")] = "float16",
) -> None:
    """Write the item vectors as Parquet, for FAISS, pgvector, Milvus or Elasticsearch: `item`, `title`, `vector`.

    With `int8`, a vector is its integers times the column `scale`.

    Example:

        lum export items runs/market/model --out item-vectors.parquet --dtype int8
    """
    from openlum.export.items import export_items

    figures = export_items(model, out, dataset, dtype)
    print_figures({name.replace("_", " "): figure for name, figure in figures.items()}, out)
