"""openlum: the Large User Model and its three-step paradigm.

    import openlum as ol

    dataset = ol.prepare(events, schema="schema.yaml", out="dataset")
    model = ol.pretrain(dataset, "model")
    knowledge = ol.query(dataset, model, "knowledge")
    ranking = ol.rank(dataset, knowledge, "ranker")

Names are imported when they are first used: the import of torch takes over a second.
"""

import inspect
import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

__version__ = version("openlum")

_STEPS = ("prepare", "pretrain", "query", "rank", "retrieve")
"""Names of both a function and the subpackage with its code."""
_MODULES = {
    "Dataset": ("data", "dataset"),
    "Experiment": ("pipeline", "experiment"),
    "InputError": ("errors",),
    "Knowledge": ("data", "knowledge"),
    "KnowledgeFeatures": ("rank", "features"),
    "KnowledgeFusion": ("rank", "estimator"),
    "LargeUserModel": ("model", "large_user_model"),
    "ModelSettings": ("model", "settings"),
    "PretrainSettings": ("pretrain", "settings"),
    "QuerySettings": ("query", "settings"),
    "RankSettings": ("rank", "settings"),
    "Ranking": ("results",),
    "Retrieval": ("results",),
    "RetrieveSettings": ("retrieve", "settings"),
    "Run": ("results",),
    "Schema": ("schema",),
    "export_head": ("export", "head"),
    "export_items": ("export", "items"),
    "join_knowledge": ("api",),
    "run": ("api",),
}
"""Name to the module that defines it."""
__all__ = [
    "Dataset",
    "Experiment",
    "InputError",
    "Knowledge",
    "KnowledgeFeatures",
    "KnowledgeFusion",
    "LargeUserModel",
    "ModelSettings",
    "PretrainSettings",
    "QuerySettings",
    "RankSettings",
    "Ranking",
    "Retrieval",
    "RetrieveSettings",
    "Run",
    "Schema",
    "__version__",
    "export_head",
    "export_items",
    "join_knowledge",
    "prepare",
    "pretrain",
    "query",
    "rank",
    "retrieve",
    "run",
]


class _Step(ModuleType):
    """A subpackage of a step that can be called: `openlum.prepare(...)` is `openlum.api.prepare(...)`."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the step."""
        return self._function(*arguments, **keywords)

    @property
    def _function(self) -> Any:
        return getattr(import_module(f"{__name__}.api"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._function.__doc__


class _Package(ModuleType):
    """This package. The import system sets a subpackage as its attribute; the subpackage of a step becomes callable."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _STEPS and isinstance(value, ModuleType):
            value.__class__ = _Step
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name in _STEPS:
        return import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(import_module(".".join((__name__, *_MODULES[name]))), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted({*globals(), *__all__})
