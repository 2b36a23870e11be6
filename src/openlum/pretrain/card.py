"""The model card: the training data of a model and its validation metrics.

Names and ids come from a log of unknown origin. The card shows them literally: they cannot add Markdown, HTML or code.
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

Trained with openlum {version} on the dataset {name}: {events:,} events of {users:,} users and {items:,} items.
Held out of training: {held_out}.
The input is a history of *condition, item* pairs; the condition has the fields {fields}.

```python
from openlum import LargeUserModel

model = LargeUserModel.from_pretrained("path/to/this/model")
model.recommend([{{"item": {example}}}], k=10, question={{}})
```

| | |
|---|---|
| parameters | {parameters:,} |
| width, layers, heads, embedding width | {shape} |
| steps, epochs | {steps:,}, {epochs} |{initial_model}
{metrics}

The metrics are computed on validation events that the model was not trained on. The answers describe the behaviour of the
users in this dataset. They have its biases (item popularity, and which items users were shown), and are not valid for users of
other services.
"""


def write_card(
    directory: Path, model: LargeUserModel, info: DatasetInfo, settings: PretrainSettings, summary: dict[str, Any]
) -> None:
    """Write the model card `README.md` into the directory of a saved model.

    Args:
        directory: directory of the saved model.
        model: the saved model.
        info: description of the dataset that the model was trained on.
        settings: settings of the training.
        summary: from `Trainer.summary`.
    """
    shape = model.config.settings
    initial_model = model.config.initialised_from
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
        initial_model=f"\n| initialised from | the model with the fingerprint {literal(initial_model)} |"
        if initial_model
        else "",
        metrics="\n".join(f"| {literal(name)} | {value:.4f} |" for name, value in summary["validation"].items()),
    )
    ModelCard(card).save(directory / "README.md")


def literal(text: str) -> str:
    """Return Markdown that shows the text literally, on one line, without mark-up, links, images, table cells or HTML."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return re.sub(r"([\\`*_\[\]|~$!#])", r"\\\1", html.escape(line, quote=False))
