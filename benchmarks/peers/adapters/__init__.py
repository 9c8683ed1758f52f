"""Public implementations, run as they are on a denoiser, a process and a grid of ours.

``load(name, folder)`` gives a :class:`Peer`; ``peer.sample(denoised, process, times, x, function, **options)`` takes
the state x of shape (batch, 1, 1, dim) from ``times[0]`` to ``times[-1]`` by one of its functions. ``denoised(x, t)``
is E[x0 | x_t = x] at process time t. The peers get the noise levels of ``times`` in float64 and no denoise at the end.
Where their steps stop short of their own options (lower orders at the last steps, a final Euler step, clamped
predictions), those are off. With ``steps=n`` among the options the grid is their own, by their own code, and so are
these options and the end; x then has the scale α² + σ² = 1, and the state that comes back is divided by its α.
Nothing of theirs is kept here: each is imported from where the user has it.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

Denoised = Callable[[Tensor, float], Tensor]
Levels = NDArray[Any]
Sample = Callable[..., Tensor]

NAMES = ("diffusers", "k-diffusion", "azula", "DPM-Solver", "UniPC", "DEIS", "diff-sampler", "ComfyUI")


class AbsentError(Exception):
    """The peer is not on this machine; the message says what would bring it."""


@dataclass(frozen=True)
class Peer:
    """A public implementation.

    Attributes:
        name: one of ``NAMES``.
        version: of the package, or the commit of the clone.
        run: called as ``sample`` below.
    """

    name: str
    version: str
    run: Sample

    def sample(
        self, denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any
    ) -> Tensor:
        """The state at ``times[-1]``, float64, by that function or class with those options."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # peers make tensors of Python floats
        try:
            with torch.no_grad():
                return self.run(denoised, process, times, x, function, **options)
        finally:
            torch.set_default_dtype(default)


def load(name: str, folder: Path | None = None) -> Peer:
    """The peer of that name, from the installed packages or from a clone in ``folder``.

    Raises:
        AbsentError: it is in neither.
        KeyError: nobody knows a peer of that name.
    """
    if name not in NAMES:
        raise KeyError(f"unknown peer {name!r}; known: {', '.join(NAMES)}")
    module = importlib.import_module(f"benchmarks.peers.adapters.{name.lower().replace('-', '_')}")
    return Peer(name, *module.load(folder))


def version(package: str, folder: Path | None) -> str:
    """The version of a package, installed or unpacked in ``folder``."""
    places = [str(folder), *sys.path] if folder else sys.path
    found = next(iter(metadata.distributions(name=package, path=places)), None)
    return found.version if found else "unknown"


def clone(folder: Path | None, *names: str) -> tuple[Path, str]:
    """The first clone of these names in ``folder``, with its commit.

    Raises:
        AbsentError: there is none.
    """
    for name in names:
        if folder is not None and (folder / name).is_dir():
            command = ["git", "-C", str(folder / name), "log", "-1", "--format=%h of %cs"]
            commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            return folder / name, commit or "unknown commit"
    raise AbsentError(f"no clone named {' or '.join(names)} in the folder given by --peers")


def source(path: Path, name: str, stubs: Mapping[str, Any] | None = None) -> ModuleType:
    """A module from its file, with stand-ins for modules that it imports and the functions compared do not use.

    Raises:
        AbsentError: there is no such file.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise AbsentError(f"there is no {path}")
    module = importlib.util.module_from_spec(spec)
    with standing_in({**(stubs or {}), name: module}):
        spec.loader.exec_module(module)
    return module


@contextmanager
def standing_in(modules: Mapping[str, Any]) -> Iterator[None]:
    """These modules in the place of what is imported by their names."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """A folder ahead of the installed packages."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
