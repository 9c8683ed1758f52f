"""Docstrings of this project taken apart, as markdown."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass


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
        arguments: dict[str, str] = {}
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


def _plain(text: str) -> str:
    """A paragraph on one line, with markdown's code marks."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`")
