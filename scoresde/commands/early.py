"""What is wrong with a command line by itself, said before torch is loaded, which takes seconds."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from scoresde.commands.numbers import whole_number
from scoresde.files.bundled import find
from solvers.errors import known
from solvers.registry import ENTRY_POINTS

# The least that settings which are whole numbers may be, in all commands that have them and in some.
LEAST = {"n": 1, "nfe": 1, "steps": 1, "seed": 0, "batch_size": 1, "shard": 1, "trajectory": 0, "reference_nfe": 10}
LEAST |= {"threads": 1, "epochs": 1, "every": 1, "fid": 0, "held_out": 0, "accumulate": 1, "height": 1, "width": 1}
WORDS = {("epochs", "auto")}  # that stand for a number
OWN = {"bench": {"n": 2}, "tune": {"n": 16}}
# What is said of files that are not there.
FILES = {
    "prompts": "there is no file {!r} for prompts; a prompt itself is given by prompt=",
    "image": "there is no picture {!r}",
    "mask": "there is no picture {!r}",
}
FOREIGN, CONVERGED, DIGITS = "diffusers:", "converged", "digits"  # of models and references that are no paths


def check(command: str, config: Any, folder: Path) -> None:
    """See that numbers are numbers, and that what is to be read is there.

    Args:
        command: by its name.
        config: of the command, as Hydra composed it.
        folder: of configurations, where the names of all choices are files.

    Raises:
        ValueError: names the setting and its value.
    """
    for key, least in {**LEAST, **OWN.get(command, {})}.items():
        given = config.get(key)
        for value in given if isinstance(given, list) or type(given).__name__ == "ListConfig" else [given]:
            if value is not None and (key, value) not in WORDS:
                whole_number(key, value, least)
    alone = {"prompts": config.get("prompt") is None, "image": True, "mask": config.get("image") is not None}
    for key, words in FILES.items():
        # What contradicts itself is said as that, later.
        if alone[key] and (path := config.get(key)) is not None and not Path(str(path)).expanduser().exists():
            raise ValueError(words.format(str(path)))
    if command == "bench" and not config.plugins and not entry_points(group=ENTRY_POINTS):
        for key, group in (("solvers", "solver"), ("grids", "grid"), ("guidances", "guidance")):
            names = [path.stem for path in (folder / group).glob("*.yaml")]
            for entry in config[key] if not isinstance(config[key], str) else [config[key]]:
                name = entry if isinstance(entry, str) or not hasattr(entry, "get") else entry.get("name")
                if isinstance(name, str):
                    known(group, name, names)
    if "model" in config and "path" in config.model and not (path := str(config.model.path)).startswith(FOREIGN):
        find(path)
    if compares(command, config) and "path" in config.model:  # or an exact one, which is compared with exact draws
        reference, features = config.reference, config.features
        if reference is None and features.name not in ("model", "auto"):
            raise needs_reference(features.name)
        if isinstance(reference, str) and reference not in ("", CONVERGED, DIGITS):
            _see(reference)
        if features.name == "torchscript":
            _see(str(features.path), "no TorchScript file")


def compares(command: str, config: Any) -> bool:
    """Whether samples are compared with a reference, by itself or not."""
    return command == "bench" or (command == "sample" and config.metrics is True)


def needs_reference(features: str) -> ValueError:
    """What is said of a feature space that comes without a reference."""
    return ValueError(
        f"features={features} needs a reference: reference=… with statistics in that space, or images; bench also "
        "takes converged, the model's own samples, and scoresde train statistics=true keeps one beside its model"
    )


def _see(path: str, what: str = "no file") -> None:
    """See that something is there, where the name is that of a file and no pattern of several."""
    if "{" not in path and not path.startswith("~") and not Path(path).exists():
        raise ValueError(f"{what} at {path!r}")
