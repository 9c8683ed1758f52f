"""The page of a tuned solver: its numbers are those of the file, and it is read with eyes, pointer and keys."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.sync_api import Page

from scoresde.files.bundled import bundled
from scoresde.report.tuned import html
from scoresde.tuned import Fixed, Member, TunedSolver
from solvers.coefficients.fitted import Numbers

ABOUT = {
    "process": "Cosine()",
    "prediction": "epsilon",
    "guidance": "",
    "shape": [3, 8, 8],
    "seeds": list(range(40, 56)),
    "effort": "quick",
    "target": "both",
    "noise_scale": 2.7182818,
    "teacher": {"steps": 128, "median": 0.00042, "rms": 0.00077},
}
CONFIG = {"model": {"path": "photos"}, "n": 16}
FIXED = Fixed("uni_pc", {"order": 2, "frame": "data"}, "beta_log_snr", {"alpha": 1.5, "beta": 1.2, "end": "by_steps"})
PLANS = {
    3: Numbers((math.inf, 4.0, 0.5), ((), (0.75,), (0.5, -0.25)), (0.0, 0.1, 0.0)),
    5: Numbers((math.inf, 9.0, 4.0, 1.0, 0.25), ((), (1.0,), (0.9, 0.1), (0.8, 0.2), (0.7, -0.3))),
    8: None,
}


def report(scale: float, kept: bool) -> dict[str, Any]:
    samples = {"fixed": [scale, 2 * scale, 3 * scale, 8 * scale]}
    samples["taken"] = samples["fixed"] if kept else [0.5 * scale, scale, scale, 9 * scale]
    one = {"mean": 3.5 * scale, "rms": 4.4 * scale, "median": 2.5 * scale}
    other = one if kept else {"mean": 2.875 * scale, "rms": 4.5 * scale, "median": scale}
    return {
        **{"fixed": one, "taken": other, "samples": samples},
        "plan": str(FIXED) if kept else "fitted",
        "difference": [0.625 * scale, 0.5 * scale],
        "log_ratio": [0.6, 0.25],
        "spread": {"fixed": 0.01 * scale, "taken": 0.01 * scale if kept else 0.002 * scale},
        "texture": {"fixed": 4 * scale, "taken": 4 * scale if kept else 3 * scale},
        "variance": {"fixed": 0.9, "taken": 0.9 if kept else 0.97},
        "lost": {"fixed": [2, 3], "taken": [2, 3] if kept else [3]},
    }


def made(**about: Any) -> TunedSolver:
    members = {nfe: Member(plan, FIXED, report(1 / nfe**2, plan is None)) for nfe, plan in PLANS.items()}
    return TunedSolver(members, {**ABOUT, **about})


def table(page: Page, name: str) -> list[list[str]]:
    rows = page.get_by_role("table", name=name).locator("tbody tr").all()
    return [[text.strip() for text in row.locator("td").all_inner_texts()] for row in rows]


def points(page: Page, chart: str) -> int:
    return page.locator(f"#{chart} .plot path.point").count()


@pytest.fixture
def page(show_page) -> Page:
    return show_page(html(made(), CONFIG))


def test_the_tables_have_the_numbers_of_the_file(page: Page) -> None:
    assert page.locator("h1").inner_text() == "A solver tuned to photos"
    about = page.locator("dl.about").first.inner_text()
    for known in ("Cosine()", "epsilon, no guidance", "3 × 8 × 8", "16, seeds 40 to 55; 4 of them judge", "2.718"):
        assert known in about
    for known in ("128 steps", "0.00042", "0.00077", "quick; both", f"scoresde {made().version}"):
        assert known in about
    first, _, last = table(page, "errors before and after")
    assert first[:4] == ["3", "0.389 → 0.319", "0.489 → 0.500", "0.278 → 0.111"]
    assert first[4:] == ["0.069 ± 0.056", "0.60 ± 0.25", "fitted", str(FIXED)]
    assert last[1] == "0.0547 → 0.0547" and last[6] == "fixed solver kept"
    assert table(page, "distributions before and after")[0] == [
        "3",
        "0.00111 → 0.000222",
        "0.444 → 0.333",
        "0.900 → 0.970",
    ]
    assert table(page, "basins lost") == [
        ["3", "4", "2", "1", "1"],
        ["5", "4", "2", "1", "1"],
        ["8", "4", "2", "2", "2"],
    ]
    page.locator("summary").click()
    numbers = table(page, "numbers of the plans")
    assert numbers[:3] == [
        ["3", "1", "inf", "inf", "", ""],
        ["3", "2", "4", f"{4 * math.exp(0.1):.4g}", "0.75", ""],
        ["3", "3", "0.5", "0.5", "0.5", "-0.25"],
    ]
    assert len(numbers) == 3 + 5


def test_the_charts_draw_every_member_sample_level_and_coefficient(page: Page) -> None:
    known = {"by-nfe-mean": 6, "by-nfe-spread": 6, "samples": 12, "levels": 6, "history": 6}
    assert {name: points(page, name) for name in known} == known
    page.select_option("#history select", "c1")
    assert points(page, "history") == 4
    page.select_option("#by-nfe-mean select", "lost")
    assert page.locator("#by-nfe-mean h3").inner_text() == "Basins lost against model evaluations (NFE)"
    assert page.locator("#samples path.hollow").count() == 1 + 1 + 2
    assert page.locator("#samples .plot path.line").count() == 0 and page.locator("#samples path.floor").count() == 1
    assert page.locator("#levels .key .entry").all_inner_texts() == ["3 NFE", "5 NFE"]
    assert page.locator("#by-nfe-mean .key .entry").all_inner_texts() == ["best fixed solver", "tuned"]


def test_levels_fall_from_left_to_right_and_counts_have_whole_ticks(page: Page) -> None:
    ticks = page.locator("#levels text.middle:not(.title)").all()
    places = {float(tick.inner_html()): (tick.bounding_box() or {})["x"] for tick in ticks}
    assert sorted(places, reverse=True) == sorted(places, key=places.__getitem__)
    assert page.locator("#levels text.end").all_text_contents() == ["3", "4", "5"]


def test_arrow_keys_read_a_sample_aloud_and_whether_it_was_lost(page: Page) -> None:
    chart = page.locator("#samples .plot svg")
    assert "arrow keys move from point to point" in (chart.get_attribute("aria-label") or "")
    chart.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    lines = page.locator("#samples .tip").inner_text().splitlines()
    assert lines[:3] == ["3 NFE", "sample 4", "lost by best fixed solver, tuned"]
    assert lines[3:] == ["error by the best fixed solver 0.888889", "error by the tuned solver 1"]


def test_a_file_from_before_basins_were_counted_has_a_page_without_them(show_page) -> None:
    shipped = TunedSolver.load(bundled()["mnist"] / "tuned.json")
    reports = {n: {k: v for k, v in each.report.items() if k != "lost"} for n, each in shipped.members.items()}
    members = {n: replace(each, report=reports[n]) for n, each in shipped.members.items()}
    page = show_page(html(TunedSolver(members, shipped.about), {"model": {"path": "mnist"}}))
    told = ", ".join(map(str, members))
    assert f"Not counted yet by the version that tuned for NFE {told}." in page.locator("body").inner_text()
    assert page.get_by_role("table", name="basins lost").count() == 0
    assert page.locator("#by-nfe-mean option").all_inner_texts()[-1] == "variance"
    assert page.locator("#samples path.hollow").count() == 0


def test_members_from_before_and_after_are_on_one_page(show_page) -> None:
    solver = made()
    old = {name: value for name, value in solver.members[3].report.items() if name != "lost"}
    members = {**solver.members, 3: replace(solver.members[3], report=old)}
    page = show_page(html(TunedSolver(members, ABOUT), CONFIG))
    assert "the version that tuned for NFE 3." in page.locator("body").inner_text()
    assert [row[0] for row in table(page, "basins lost")] == ["5", "8"]
    page.select_option("#by-nfe-mean select", "lost")
    assert points(page, "by-nfe-mean") == 4


def test_where_no_plan_was_taken_there_are_none_to_draw(show_page) -> None:
    solver = made()
    page = show_page(html(TunedSolver({8: solver.members[8]}, ABOUT), {}))
    assert page.locator("h1").inner_text() == "A tuned solver"
    assert "The fixed solver was kept everywhere" in page.locator("body").inner_text()
    assert page.locator("#levels").count() == 0 and points(page, "samples") == 4


def test_what_is_not_finite_or_zero_is_said_to_be(show_page) -> None:
    solver = made()
    samples = {"fixed": [0.0, 1.0, math.inf, 2.0], "taken": [1.0, 0.0, 1.0, math.inf]}
    member = replace(solver.members[3], report={**solver.members[3].report, "samples": samples})
    page = show_page(html(TunedSolver({3: member}, ABOUT), CONFIG))
    assert points(page, "samples") == 0 and "no rows to draw" in page.locator("#samples").inner_text()
    samples["taken"][0], samples["fixed"][0] = 0.5, 0.25
    page = show_page(html(TunedSolver({3: member}, ABOUT), CONFIG))
    note = page.locator("#samples .note").inner_text()
    assert points(page, "samples") == 1 and "2 at or below zero" in note and "1 not finite" in note


def test_text_from_a_file_stays_text(show_page) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    solver = made(process=attack, guidance=attack, target=attack)
    changed = {**solver.members[3].report, "plan": attack}
    member = replace(solver.members[3], fixed=Fixed(attack, {attack: attack}), report=changed)
    page = show_page(html(TunedSolver({3: member}, solver.about), {"model": {"path": attack}, attack: attack}))
    assert page.locator("script").count() == 2 and page.locator("img").count() == 0
    assert page.locator("h1").inner_text() == f"A solver tuned to {attack}"
    assert table(page, "errors before and after")[0][6] == attack


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_as_wide_as_its_window_and_no_chart_is_cut_off(show_page, width: int) -> None:
    page = show_page(html(made(), CONFIG), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for text in page.locator("figure.chart svg text").all():
        box = text.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_the_page_is_one_well_formed_file_and_every_table_and_choice_has_a_name() -> None:
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            known = dict(attrs)
            assert "src" not in known and (known.get("href") or "data:").startswith("data:")
            assert tag != "table" or known["aria-label"]
            if tag not in ("meta", "link"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    text = html(made(), CONFIG)
    Reader().feed(text)
    assert opened == [] and text.startswith("<!doctype html>") and "default-src 'none'" in text
