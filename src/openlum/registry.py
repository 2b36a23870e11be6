"""Registries of classes that users can extend: rankers and encoders.

A registry knows the built-in classes, the classes that installed packages declare as entry points, and the classes that the
running program has added. A class is imported when it is first used, so the names of a settings file are checked without torch.
"""

import difflib
import hashlib
import inspect
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from openlum.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name.

    Args:
        kind: the noun for messages, such as `ranker`.
        group: the entry-point group of other packages, such as `openlum.rankers`.
        built_in: name to the module and the class of this package.

    Example:
        >>> from openlum.rank.registry import RANKERS
        >>> RANKERS.names()[:2]
        ['dnn', 'dcnv2']
        >>> RANKERS.load("din").__name__
        'Din'
    """

    def __init__(self, kind: str, group: str, built_in: dict[str, tuple[str, str]]) -> None:
        self.kind, self.group, self.built_in = kind, group, built_in
        self._added: dict[str, type[T]] = {}

    def names(self) -> list[str]:
        """Return the names of all classes: the built-in ones first."""
        return list(dict.fromkeys([*self.built_in, *self._entry_points, *self._added]))

    def load(self, name: str) -> type[T]:
        """Return the class of a name.

        Raises:
            InputError: there is no class of this name, or its module cannot be imported.
        """
        self.check(name)
        if name in self.built_in:
            module, attribute = self.built_in[name]
            loaded: type[T] = getattr(import_module(module), attribute)
        elif name in self._added:
            loaded = self._added[name]
        else:
            entry = self._entry_points[name]
            try:
                loaded = entry.load()
            except Exception as error:
                raise InputError(
                    f"{self.kind} '{name}': {entry.value} of the entry points '{self.group}' cannot be imported ({error!r})"
                ) from None
            if getattr(loaded, "name", None) != name:
                raise InputError(
                    f"{self.kind} '{name}': the class {entry.value} has the name {getattr(loaded, 'name', None)!r}; give the "
                    "class and its entry point the same name"
                )
        return loaded

    def check(self, name: str) -> str:
        """Return the name if it has a class.

        Raises:
            InputError: there is no class of this name. The message names the nearest name.
        """
        names = self.names()
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean '{near[0]}'? Choose" if near else "choose"
            raise InputError(f"unknown {self.kind} '{name}'; {hint} from {', '.join(names)}")
        return name

    def add(self, added: type[T]) -> type[T]:
        """Add a class under its attribute `name`, for the running program only. Also usable as a decorator.

        Raises:
            InputError: the class has no name, or a built-in or installed class has the same name.
        """
        name = getattr(added, "name", None)
        if not isinstance(name, str) or not name:
            raise InputError(f"{added.__qualname__}: a {self.kind} needs a class attribute 'name'")
        if name in self.built_in or name in self._entry_points:
            raise InputError(f"{added.__qualname__}: there is a {self.kind} '{name}' already; choose another name")
        self._added[name] = added
        return added

    def sources(self, names: list[str]) -> dict[str, str]:
        """Return, for each class that is not built in, a hash of its module's source, on which the result of a step depends."""
        return {name: _source_hash(self.load(name)) for name in names if name not in self.built_in}

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        """Name to entry point of an installed package. A built-in name cannot be replaced."""
        return {entry.name: entry for entry in entry_points(group=self.group) if entry.name not in self.built_in}


def _source_hash(loaded: type[Any]) -> str:
    try:
        source = inspect.getsource(inspect.getmodule(loaded) or loaded)
    except (OSError, TypeError):  # defined in a notebook or an interactive session
        source = loaded.__qualname__
    return hashlib.sha256(source.encode()).hexdigest()
