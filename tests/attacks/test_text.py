"""Names of every kind in all that leaves the program: nothing in them is obeyed, and nothing is lost for them."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import report
from scoresde.bench import Estimate, Failure, Outcome, Row
from scoresde.files import text
from scoresde.files.pictures import save_grid

HOSTILE = [
    "\x1b[31mred\x1b[0m \x9b2J\x07",
    '=HYPERLINK("http://a.b","c")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "a|b\nc\r\n| d | e |",
    "$x_1$ and $\\frac{1}{0$",
    "100 % $5",
    "\\input{/etc/passwd} \\write18{ls} ~^{}_&#",
    "[a](javascript:alert(1)) ![b](http://c) <b>*d*</b> `e` _f_",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "half \ud800 of a pair \udcff",
    "turned \u202egnp.exe\u2066 \u2028 line \ufeff \x00",
    "漢字 Ünï 🎲",
    " ",
]


def row(name: str, nfe: int, **more: object) -> Row:
    usual = {
        "solver": name,
        "name": name,
        "options": {"path": name, "eta": -1.5},
        "stochastic": False,
        "grid": name,
        "budget": float(nfe),
        "nfe": float(nfe),
        "guidance": name,
        "dtype": "float32",
        "compile": "",
        "samples": 4,
        "feature_space": name,
        "metrics": {"fid": Estimate(-2.5 + nfe, 1.0, 9.0), "error": Estimate(0.5 / nfe)},
        "seconds": 1.0,
    }
    return Row(**{**usual, **more})  # type: ignore[arg-type]


def outcome(name: str) -> Outcome:
    return Outcome(
        rows=[row(name, 5), row(name, 10), row("ddim", 5), row("ddim", 10)],
        converged=row("converged", 100),
        reference_error=0.01,
        floors=None,
        images=torch.zeros(5, 2, 1, 8, 8, dtype=torch.uint8),
        labels=[0, 1],
        config={"model": {"path": name}, name or "a": [name, {"b": name}]},
        environment={"device": name},
        failures=[Failure(name, name, 5.0, name, name, name, name)],
    )


class Page(html.parser.HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {key for key, _ in attrs}


QUICK = (HOSTILE[0], HOSTILE[5], HOSTILE[9], HOSTILE[11])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in HOSTILE]
)
def test_a_report_is_whole_and_obeys_no_name(name: str, tmp_path: Path) -> None:
    written = report.write(outcome(name), tmp_path)
    assert "report.html" in written
    harmless = report.html(outcome("harmless"))
    pages = []
    for content in ((tmp_path / "report.html").read_text(encoding="utf-8"), harmless):
        pages.append(Page())
        pages[-1].feed(content)
    assert pages[0].tags.count("script") == pages[1].tags.count("script")
    assert pages[0].attributes == pages[1].attributes
    assert sorted(pages[0].tags) == sorted(pages[1].tags)
    for file in tmp_path.glob("*.svg"):
        ElementTree.parse(file)
    for file in written:
        if file.endswith((".png",)):
            assert (tmp_path / file).read_bytes().startswith(b"\x89PNG")
        else:
            assert not re.search(
                "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", (tmp_path / file).read_text("utf-8")
            )


@pytest.mark.parametrize("name", HOSTILE)
def test_cells_of_csv_are_neither_formulas_nor_lines_and_numbers_are_numbers(name: str) -> None:
    table = list(csv.DictReader(io.StringIO(report.tables.table(outcome(name)))))
    assert len(table) == 5
    assert [float(entry["fid"]) for entry in table[:2]] == [2.5, 7.5]
    assert float(table[0]["nfe"]) == 5
    assert json.loads(table[2]["options"]).keys() == {"path", "eta"}
    for entry in table:
        assert None not in entry
        for value in entry.values():
            assert not value.startswith(("=", "@", "\t", "\r"))
            assert not value.startswith(("+", "-")) or float(value) < 0
            assert "\n" not in value


def test_a_negative_number_stays_one() -> None:
    changed = replace(outcome("x"), rows=[row("x", 5, metrics={"fid": Estimate(-3.25)})])
    assert next(csv.DictReader(io.StringIO(report.tables.table(changed))))["fid"] == "-3.25"
    assert (text.cell("-3"), text.cell("-3+4"), text.cell(-3)) == ("-3", "'-3+4", -3)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_markdown_table_stays_a_table_without_links_or_html(name: str) -> None:
    lines = report.tables.markdown(outcome(name)).splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
    assert len(cells) == 6
    assert len({len(line) for line in cells}) == 1
    body = "\n".join(lines)
    assert not re.search(r"(?<!\\)<\w", body)
    assert not re.search(r"(?<!\\)\]\(", body)


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_has_no_command_that_a_name_brought(name: str) -> None:
    def commands(of: str) -> set[str]:
        return set(re.findall(r"\\[A-Za-z]+", report.tables.latex(outcome(of))))

    assert commands(name) - {r"\textbackslash", r"\textasciitilde", r"\textasciicircum"} == commands("harmless")
    assert report.tables.latex(outcome(name)).count("\n") == report.tables.latex(outcome("harmless")).count("\n")


def test_ordinary_names_stay_as_they_are() -> None:
    for name in (
        "dpmpp_2m",
        "ddim(eta=1)",
        "quadratic(end='by_steps')",
        "classifier_free(scale=2.0)",
        "pf_ode at 1e-05",
    ):
        assert text.markdown(name) == text.plain(name) == text.cell(name) == name


@given(st.text(st.characters()))
def test_plain_text_is_one_line_that_every_encoding_of_unicode_takes(word: str) -> None:
    found = text.plain(word)
    found.encode("utf-8")
    assert len(found.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f]", found)


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_take_any_label(name: str, tmp_path: Path) -> None:
    save_grid(
        tmp_path / "a.png", torch.zeros(2, 1, 8, 8, dtype=torch.uint8), 2, row_labels=[name], column_labels=[name, "b"]
    )
    assert (tmp_path / "a.png").stat().st_size > 0
