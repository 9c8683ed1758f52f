"""Docstrings of this project taken apart, as markdown."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts: its paragraphs, what each argument is, and the other sections by their titles."""

    paragraphs: list[str]
    arguments: dict[str, str]
    sections: dict[str, str]

    @classmethod
    def of(cls, text: str | None) -> Docstring:
        body, *rest = re.split(r"^(Args|Use|Raises|Source):[ \n]", inspect.cleandoc(text or ""), flags=re.MULTILINE)
        titled = dict(zip(rest[::2], rest[1::2], strict=True))
        arguments, current = dict[str, str](), ""
        for line in inspect.cleandoc("\n" + titled.pop("Args", "")).splitlines():
            if named := re.match(r"(\w+(?:, \w+)*): (.*)", line):
                current, line = named.groups()
                arguments[current] = line
            elif line.strip():
                arguments[current] += " " + line.strip()
        paragraphs = [_plain(paragraph) for paragraph in re.split(r"\n\s*\n", body.strip())]
        return cls(
            paragraphs,
            {name: _plain(text) for name, text in arguments.items()},
            {title: _plain(section) for title, section in titled.items()},
        )

    @staticmethod
    def with_argument(text: str, name: str, meaning: str) -> str:
        """A docstring that explains one argument more."""
        body, line = inspect.cleandoc(text), f"    {name}: {meaning}"
        if re.search(r"^Args:$", body, re.MULTILINE):
            return re.sub(r"^Args:$", f"Args:\n{line}", body, count=1, flags=re.MULTILINE)
        before, mark, after = body.partition("\n\nSource:")
        return f"{before}\n\nArgs:\n{line}{mark}{after}"

    @property
    def meanings(self) -> dict[str, str]:
        """What each single argument is."""
        return {name: meaning for names, meaning in self.arguments.items() for name in names.split(", ")}


def title(name: str, make: Callable[..., Any]) -> str:
    """What something of a register is, in a line: the first of its module where that is named after it, or its own.

    Args:
        name: in its register.
        make: what makes it.
    """
    module = sys.modules.get(make.__module__ or "")
    lines = inspect.cleandoc((module and module.__doc__) or "").splitlines()
    if lines and make.__module__.rpartition(".")[2] == name:
        return lines[0].rstrip(".")
    paragraphs = Docstring.of(make.__doc__).paragraphs
    first = re.split(r"(?<=[\w)])[.:] ", f"{paragraphs[0]} ")[0] if paragraphs else name
    return first.replace("`", "").strip().rstrip(".")


def _plain(text: str) -> str:
    """A paragraph on one line, with markdown's code marks."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`")
