"""HTML as a tree, so that whatever text goes in comes out escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

ASSETS = Path(__file__).with_name("assets")


def tag(name: str, /, *content: Element | str, **attributes: Any) -> Element:
    """An element with texts and elements in it; ``class_`` is class, ``data_row`` is data-row, True is an empty value.

    Attributes that are None or False are left out.
    """
    made = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            made.set(key.rstrip("_").replace("_", "-"), "" if value is True else str(value))
    last: Element | None = None
    for part in content:
        if isinstance(part, str):
            if last is None:
                made.text = (made.text or "") + part
            else:
                last.tail = (last.tail or "") + part
        else:
            made.append(part)
            last = part
    return made


def data(content: Any, id: str) -> Element:
    """A JSON block that scripts read; none of its text can end the block.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
    """
    plain = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return tag("script", plain, type="application/json", id=id)


def terms(terms: dict[str, str]) -> Element:
    """A list of terms and what they mean."""
    entries = [part for key, meaning in terms.items() for part in (tag("dt", key), tag("dd", meaning))]
    return tag("dl", *entries, class_="about")


def cell(shown: str, known: float | str | None = None) -> Element:
    """A number in a table, and the value that it is sorted by."""
    return tag("td", shown, class_="number", data_value=known)


def select(name: str, label: str, options: dict[str, str], chosen: str) -> Element:
    """A labelled choice of one of several."""
    entries = [tag("option", text, value=key, selected=key == chosen) for key, text in options.items()]
    return tag("label", f"{label} ", tag("select", *entries, name=name))


def grid(name: str, heads: list[str], body: list[Element], class_: str | None = None) -> Element:
    """A table that scrolls by itself where it is too wide; headings of ``rows`` are buttons, by which it is sorted."""
    numbers = [cell.get("class") == "number" for cell in body[0]]
    sort = class_ == "rows"
    cells = [
        tag("th", tag("button", head, type="button") if sort else head, scope="col", class_="number" if right else None)
        for head, right in zip(heads, numbers, strict=True)
    ]
    made = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *body), class_=class_, aria_label=name)
    return tag("div", made, class_="scroll", tabindex=0, role="region", aria_label=name)


def chart(id: str, choices: list[Element], **attributes: Any) -> Element:
    """Where ``chart.js`` draws, as the attributes say, and the choices above it."""
    plot, tip = tag("div", class_="plot"), tag("div", class_="tip", role="status", hidden=True)
    return tag(
        "figure",
        tag("h3"),
        tag("div", *choices, class_="controls"),
        tag("div", plot, tip, class_="holder"),
        tag("figcaption", tag("span", class_="key"), tag("span", class_="note")),
        id=id,
        class_="chart",
        **attributes,
    )


def charted(title: str, script: str, drawn: Any, *body: Element) -> str:
    """A page with charts: what they draw as data, and the script that has them drawn, by its name among the assets."""
    style, *scripts = (
        (ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "drawing.js", "chart.js", script)
    )
    return document(title, style, "\n".join(scripts), *body, data(drawn, "data"))


def digest(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def document(title: str, style: str, script: str, *body: Element) -> str:
    """A page that loads nothing: its policy lets the browser run this script, use this style, and show data URIs."""
    policy = f"default-src 'none'; img-src data:; style-src {digest(style)}; script-src {digest(script)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", **{"http-equiv": "Content-Security-Policy"}, content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", style),
    )
    page = tag("html", head, tag("body", *body, tag("script", script)), lang="en")
    return f"<!doctype html>\n{ElementTree.tostring(page, encoding='unicode', method='html')}\n"
