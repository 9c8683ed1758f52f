"""What registers know, as choices of a configuration: written into ``conf`` for ours, composed for plugins."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import yaml

from solvers import docstrings
from solvers.docstrings import Docstring
from solvers.registry import Registry

TUNED = """# Plans that scoresde tune fitted to the model.
name: tuned
path: null  # of the file tuned.json; null is the one beside the model
foreign: false  # true lets it serve another model than the one it was fitted to
"""
TIMES = """# Times of your own, from noise to data: grid=[1,0.6,0.2,0].
name: times
times: ???  # decreasing process times
"""
RECOMMENDED = "# The grid that each solver recommends, or the checkpoint asks for.\nname: null\n"


def node(registry: Registry[Any], name: str) -> dict[str, Any]:
    """A choice with its options at their defaults; ``???`` for what must be given."""
    options = {key: value for key, value in registry.options(name).items() if key not in registry.given}
    return {"name": name, **{key: _value(default) for key, default in options.items()}}


def text(registry: Registry[Any], name: str) -> str:
    """The file of a choice: what it is, its name, and each option with its default and what that is."""
    make = registry.find(name)
    if name in registry.aliases():
        return f"# Another name of {registry.aliases()[name]}.\ndefaults:\n  - {registry.aliases()[name]}\n"
    lines = [f"# {_configured(docstrings.title(name, make))}."]
    told = explained(registry, name)
    for key, value in node(registry, name).items():
        shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        lines.append(f"{key}: {shown}" + (f"  # {told[key]}" if key in told else ""))
    return "\n".join(lines) + "\n"


def explained(registry: Registry[Any], name: str) -> dict[str, str]:
    """What each option is, in the words of a configuration."""
    meanings = Docstring.of(registry.find(name).__doc__).meanings
    return {key: _configured(meaning).rstrip(".") for key, meaning in meanings.items()}


def folder(registry: Registry[Any], others: Mapping[str, str]) -> dict[str, str]:
    """The files of a group by their names: one for each name of the register, and others."""
    names = [*registry.names(), *registry.aliases()]
    return {f"{name}.yaml": text(registry, name) for name in names} | dict(others)


def _configured(words: str) -> str:
    for python, ours in (("`", ""), ("None", "null"), ("True", "true"), ("False", "false")):
        words = words.replace(python, ours)
    return words


def _value(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return "???"
    return list(default) if isinstance(default, tuple) else default
