"""The model card: what a model was trained on and how well it does.

Names and ids come from a log that others wrote, so none of them is Markdown, HTML or code here.
"""

import html
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from openlum import __version__
from openlum.data.dataset import DatasetInfo
from openlum.data.packing import kept_from_training
from openlum.model import LargeUserModel
from openlum.pretrain.settings import PretrainSettings

TEMPLATE = """---
{data}
---
# Large User Model for {name}

Trained with openlum {version} on {events:,} events of {users:,} users and {items:,} items ({name}); kept from training:
{held_out}. Input is a history of *condition, item* pairs; the condition has the fields {fields}.

```python
from openlum import LargeUserModel

model = LargeUserModel.from_pretrained("path/to/this/model")
model.recommend(history=[{{"item": {example}}}], question={{}}, k=10)
```

| | |
|---|---|
| parameters | {parameters:,} |
| width, layers, heads, embedding width | {shape} |
| steps, passes over the data | {steps:,}, {epochs} |{start}
{figures}

The figures are of the validation period, on events that the model was not trained on. Answers describe what users of this
data set did; they carry its biases (popularity, and what users were shown), and say nothing about users of another service.
"""


def write_card(
    directory: Path, model: LargeUserModel, info: DatasetInfo, settings: PretrainSettings, summary: dict[str, Any]
) -> None:
    """Write `README.md` beside a saved model."""
    shape = model.config.settings
    start = model.config.initialised_from
    data = ModelCardData(library_name="openlum", tags=["recommender-system", "large-user-model"])
    card = TEMPLATE.format(
        data=data.to_yaml(),
        name=literal(info.name),
        version=__version__,
        events=info.counts["events"],
        users=info.counts["users"],
        items=info.counts["items"],
        held_out=literal(kept_from_training(info, settings.protocol)),
        fields=", ".join(literal(spec.name) for spec in model.config.condition) or "(none)",
        example=repr(model.processor.items.values[0]),
        parameters=summary["parameters"],
        shape=f"{shape.width}, {shape.layers}, {shape.heads}, {shape.embedding_width}",
        steps=summary["steps"],
        epochs=summary["epochs"],
        start=f"\n| initialised from | the model with the fingerprint {literal(start)} |" if start else "",
        figures="\n".join(f"| {literal(name)} | {value:.4f} |" for name, value in summary["validation"].items()),
    )
    ModelCard(card).save(directory / "README.md")


def literal(text: str) -> str:
    """Text as Markdown that shows it as it is, on one line: no mark-up, link, image, cell of a table or HTML."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*_\[\]|~$!#])", r"\\\1", html.escape(line, quote=False))
