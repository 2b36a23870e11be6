"""Pages of the site whose source is no Markdown file below `docs/`: notebooks, CONTRIBUTING.md and CHANGELOG.md."""

import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Files of the repository that the site shows too."""


class NotebookFile(File):
    """A notebook that the site shows as a page. Links to it end in `.ipynb`, in the repository and on the site."""

    def is_documentation_page(self) -> bool:
        """Return True: MkDocs would copy a notebook as a plain file."""
        return True


def on_files(files: Files, config: Any) -> Files:
    """Add the root files, and replace each notebook with a page."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            page = NotebookFile(file.src_uri, None, config["site_dir"], config["use_directory_urls"])
            page.generated_by, page.content_string = "hooks", notebook_page(Path(file.abs_src_path))
            files.append(page)
    for name in ROOT_PAGES:
        content = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=content))
    return files


def notebook_page(notebook: Path) -> str:
    """Return a notebook as Markdown: text, code, and the text that the code printed."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else fenced("python", source))
        parts += [fenced("text", printed(output)) for output in cell.get("outputs", []) if printed(output)]
    return "\n\n".join(parts) + "\n"


def printed(output: dict[str, Any]) -> str:
    """Return the text of one output of a cell."""
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "")).rstrip()


def fenced(language: str, text: str) -> str:
    """Return a fenced block."""
    return f"```{language}\n{text}\n```"
