"""What people choose by name: solvers, grids, processes, networks and whatever else, in registers of one kind."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, KeysView, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from solvers.errors import check_options, known

ENTRY_POINTS = "scoresde.plugins"  # the group in which installed packages name modules that register what is theirs
PLUGIN = "scoresde_plugin_"  # how modules begin that are files of the user's
T = TypeVar("T")


class Registry(Generic[T]):
    """Makers of one kind of thing by name: ``registry[name]`` is what makes it, and what is iterated are the names.

    A name that is not there may be a plugin's: the modules that installed packages name as entry points of the group
    ``scoresde.plugins`` are imported before it is refused.

    Args:
        kind: what is registered, as errors call it.
        rooms: packages whose modules register themselves; they are imported when a name is first asked for.
        given: options that the program gives and nobody chooses, such as where a network runs.
    """

    def __init__(self, kind: str, rooms: Sequence[str] = (), given: Sequence[str] = ()):
        self.kind, self.given = kind, tuple(given)
        self._rooms, self._loaded = tuple(rooms), not rooms
        self._makers: dict[str, Callable[..., T]] = {}
        self._aliases: dict[str, str] = {}

    def add(self, name: str, make: Callable[..., T]) -> None:
        """Make something known by name; ``make(**options)`` gives it.

        Raises:
            ValueError: the name is taken.
        """
        self._check_free(name, make.__module__ or "")
        self._makers[name] = make

    def keep(self, name: str, value: T) -> None:
        """Make a thing known by name that has no options.

        Raises:
            ValueError: the name is taken.
        """
        self.add(name, lambda: value)

    def alias(self, name: str, of: str) -> None:
        """Let it be found under a second common name too; it is listed under its own.

        Raises:
            ValueError: the name is taken.
        """
        self._check_free(name, self._makers[of].__module__ or "")
        self._aliases[name] = of

    def names(self) -> list[str]:
        """All names, in the order of the alphabet."""
        return sorted(self)

    def aliases(self) -> dict[str, str]:
        """Second names, and which name each means."""
        self._load()
        return dict(self._aliases)

    def find(self, name: Any) -> Callable[..., T]:
        """What makes the thing of that name.

        Raises:
            ValueError: unknown name; the nearest is given.
        """
        self._load()
        if name not in self._makers and name not in self._aliases:
            installed()
        found = known(self.kind, name, [*self._makers, *self._aliases])
        return self._makers[self._aliases.get(found, found)]

    def options(self, name: str) -> dict[str, Any]:
        """Options of the thing of that name with their defaults; ``inspect.Parameter.empty`` where there is none."""
        parameters = inspect.signature(self.find(name)).parameters.values()
        return {value.name: value.default for value in parameters if value.kind is not value.VAR_KEYWORD}

    def get(self, name: str, **options: Any) -> T:
        """The thing of that name.

        Raises:
            ValueError: unknown name (the nearest is given), or an option's value of another kind, out of range, or
                not to be had with the others.
            TypeError: an option that it does not have, or lacks.
        """
        make = self.find(name)
        check_options(f"{self.kind} {self._aliases.get(name, name)!r}", options, self.options(name))
        return make(**options)

    def __getitem__(self, name: str) -> Callable[..., T]:
        self._load()
        return self._makers[name]

    def keys(self) -> KeysView[str]:
        """All names, as a mapping has them."""
        self._load()
        return self._makers.keys()

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._makers)

    def __len__(self) -> int:
        self._load()
        return len(self._makers)

    def _check_free(self, name: str, module: str) -> None:
        if not module.startswith(self._rooms):
            self._load()  # whoever else comes, comes after ours
        if name in self._makers or name in self._aliases:
            raise ValueError(f"there already is a {self.kind} named {name!r}")

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for room in map(importlib.import_module, self._rooms):
            for module in pkgutil.iter_modules(room.__path__):
                importlib.import_module(f"{room.__name__}.{module.name}")


@functools.cache
def installed() -> dict[str, str]:
    """Import what installed packages name as plugins, once.

    Returns:
        The version of each package that has some.

    Raises:
        ImportError: one cannot be imported; names it and its package.
    """
    found: dict[str, str] = {}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else (entry.value, "")
        try:
            entry.load()
        except Exception as error:  # whatever a plugin does when it is imported
            raise ImportError(f"the plugin {entry.name!r} of {package!r} cannot be imported: {error}") from error
        found[package] = version
    return found


def plugged(path: str | Path) -> ModuleType:
    """Run a file of the user's, once, as the module ``scoresde_plugin_<name>``, whose code registers what is theirs.

    Raises:
        ValueError: there is no such file, another of that name was run before, or it fails (with its line).
    """
    file = Path(path).expanduser().resolve()
    name = f"{PLUGIN}{file.stem}"
    if name in sys.modules:
        if sys.modules[name].__file__ != str(file):
            raise ValueError(f"two plugins are called {file.name!r}: {sys.modules[name].__file__} and {file}")
        return sys.modules[name]
    if not file.is_file() or file.suffix != ".py":
        raise ValueError(f"no plugin at {str(path)!r}: it must be a file of Python (.py)")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, as import does it
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does
        del sys.modules[name]
        where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (where or [None])[-1]
        at = f", line {line}" if line else ""
        raise ValueError(f"the plugin {str(path)!r}{at}: {type(error).__name__}: {error}") from error
    return module
