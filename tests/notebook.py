"""Execute the notebook of the docs. To write its outputs anew: `python -m tests.notebook`."""

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "lightgbm.ipynb"


def executed(directory: Path) -> NotebookNode:
    """Return the notebook with new outputs as plain text, without progress bars, executed in `directory`/shop."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shop = directory / "shop"
    shop.mkdir()
    resources = {"metadata": {"path": str(shop)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources, coalesce_streams=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `lum` of this environment
    client.execute(env=os.environ | {"PATH": path})
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [plain(output, directory) for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def plain(output: NotebookNode, directory: Path) -> NotebookNode:
    """Return an output without HTML, trailing spaces and the path of `directory`."""
    output.get("data", {}).pop("text/html", None)
    if "text" in output:
        lines = output["text"].replace(str(directory), "/home/me").splitlines()
        output["text"] = "\n".join(line.rstrip() for line in lines) + "\n"
    return output


def printed(notebook: NotebookNode) -> list[str]:
    """Return the text of each output, without digits, line art and spaces: they differ between machines."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output["data"]["text/plain"] for output in outputs]
    return [" ".join(re.sub(r"[\d.,─━╸╺-]+", " ", text).split()) for text in texts]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(executed(Path(scratch)), NOTEBOOK)
