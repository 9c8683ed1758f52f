"""Text that leaves the program: names may hold anything, and what shows or reads them must not obey it."""

from __future__ import annotations

import os
import re

# Control characters, format characters that turn the direction of what follows, line separators, and halves of pairs.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def plain(text: object) -> str:
    """One line without anything that a terminal or a text editor would act on.

    White space of every kind becomes a single blank; control characters, changes of writing direction and halves of
    surrogate pairs (of file names that are not UTF-8) become ``\\x1b``-like escapes.
    """
    return _UNSEEN.sub(_escaped, " ".join(str(text).split()))


def lines(text: object) -> str:
    """The same with its line breaks kept."""
    return "\n".join(_UNSEEN.sub(_escaped, line.expandtabs(4)) for line in str(text).split("\n"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cell(value: object) -> object:
    """A cell of a CSV file: numbers as they are, text such that no spreadsheet takes it for a formula.

    Text that begins with ``= + - @`` gets an apostrophe before it. Source: OWASP, CSV injection.
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def markdown(text: object) -> str:
    """Text in a cell of a Markdown table: neither a cell of its own, nor a link, nor markup, nor HTML."""
    return re.sub(r"([\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|!(?=\[)|&(?=[#A-Za-z]))", r"\\\1", plain(text))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(text: object) -> str:
    """Text in LaTeX, without a command in it."""
    return "".join(_LATEX.get(character, character) for character in _UNSEEN.sub(_escaped, str(text)))


def label(text: object) -> str:
    """Text in a figure of matplotlib, for which ``$`` begins mathematics."""
    return plain(text).replace("$", r"\$")


def speaks() -> bool:
    """Whether what is the same for all processes of ``torchrun`` is said by this one, the first."""
    return os.environ.get("RANK", "0") == "0"


def say(text: object) -> None:
    """Print text that names things; of several processes the first does."""
    if speaks():
        print(lines(text), flush=True)
