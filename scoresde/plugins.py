"""Solvers, grids, processes, densities, networks, guidance and feature spaces of the user's own, in files or packages.

A plugin is Python that runs: only what the user names on the command line, or has installed, is loaded, and never what
a file of results, a model or a plan names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scoresde.exact import DENSITIES
from scoresde.files import digest
from scoresde.guidance.recipe import GUIDANCES
from scoresde.metrics.spaces import SPACES
from scoresde.networks import NETWORKS
from scoresde.process import PROCESSES
from solvers.catalogue import SOLVERS
from solvers.grids.grid import GRIDS
from solvers.registry import Registry, installed, plugged

# Of each group of configurations, the register that plugins add to.
GROUPS: dict[str, Registry[Any]] = {
    "solver": SOLVERS,
    "grid": GRIDS,
    "process": PROCESSES,
    "model": DENSITIES,
    "network": NETWORKS,
    "guidance": GUIDANCES,
    "features": SPACES,
}
_digests: dict[str, str] = {}


def load(paths: Iterable[str | Path]) -> None:
    """Run each file once, in its order.

    Raises:
        ValueError: there is no such file, it fails (with its line), or it registers a name that is taken.
    """
    for path in paths:
        module = plugged(path)
        _digests.setdefault(Path(path).name, digest(str(module.__file__)))


def load_installed() -> None:
    """Import the plugins of installed packages (entry points of the group ``scoresde.plugins``).

    Raises:
        ImportError: one cannot be imported; names it and its package.
    """
    _digests.update(installed())


def identity() -> dict[str, str]:
    """What has been loaded: files with their SHA-256, packages with their versions."""
    return dict(sorted(_digests.items()))
