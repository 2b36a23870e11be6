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
    """Return the notebook with new outputs, executed in `directory` with this Python. Text on stderr (progress) is left out."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `lum` of this environment
    resources = {"metadata": {"path": str(directory)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources, coalesce_streams=True)
    client.execute(env=os.environ | {"PATH": path})
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def printed(notebook: NotebookNode) -> list[str]:
    """Return the text of each output, without digits, line art and spaces: they differ between machines."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    texts = [one.get("text") or one["data"]["text/plain"] for one in outputs]
    return [" ".join(re.sub(r"[\d.,─━-]+", " ", text).split()) for text in texts]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        shop = Path(scratch) / "shop"
        shop.mkdir()
        done = executed(shop)
        for cell in done.cells:
            for output in cell.get("outputs", []):
                if "text" in output:
                    text = output["text"].replace(scratch, "/home/me")
                    output["text"] = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
                output.get("data", {}).pop("text/html", None)
        nbformat.write(done, NOTEBOOK)
