"""The report: what it says is what was measured, and its page works in a real browser without a network."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Page

from scoresde import report
from scoresde.bench.rows import Estimate, Outcome, Row, Timing
from scoresde.metrics import Floors, Score
from scoresde.report import choice, figures, quantities, tables, words
from scoresde.report.curves import COLORS, curves

SPACE = "scoresde-mnist-64 (dbea77d7)"
NFE = (5, 7, 10, 15, 25, 50)
SOLVERS = ("euler_maruyama", "ddim", "heun", "dpmpp_2m", "uni_pc", "deis", "ddim(eta=1)", "dpm_solver_3")
NOISY = {"euler_maruyama", "ddim(eta=1)"}


def around(value: float, share: float = 0.03) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + 1.4 * share))


def row(solver: str, nfe: float, place: int = 0, **changes) -> Row:
    """A plausible row: FID falls to 2.9 and the error to nothing, each solver at a pace of its own."""
    fid = 2.9 + (20 + 9 * place) / nfe**2
    metrics = {
        "fid": around(fid),
        "kid": Estimate((fid - 3) / 1000, (fid - 3.1) / 1000, (fid - 2.9) / 1000),
        "precision": Estimate(0.9 - 1 / nfe, 0.88 - 1 / nfe, 0.93 - 1 / nfe),
        "own_class": Estimate(0.97 - 1 / nfe),
    }
    if solver not in NOISY:
        metrics["error"] = around((1 + place) / nfe)
    basic = Row(
        solver=solver,
        name=solver.partition("(")[0],
        options={},
        stochastic=solver in NOISY,
        grid="quadratic",
        budget=nfe,
        nfe=nfe,
        guidance="",
        dtype="bfloat16",
        compile="",
        samples=500,
        feature_space=SPACE,
        metrics=metrics,
        seconds=0.2 * nfe * (1 + place / 50),
    )
    return replace(basic, **changes)


def found(rows: list[Row], **changes) -> Outcome:
    converged = replace(row("uni_pc", 150), solver="converged")
    pixels = torch.randint(0, 256, (len(rows) + 1, 10, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    basic = Outcome(
        rows=rows,
        converged=converged,
        reference_error=0.013,
        floors=Floors(Score(2.57, SPACE, 500), 0.14, Score(2.94, SPACE, 500)),
        images=pixels.to(torch.uint8),
        labels=list(range(10)),
        config={"model": {"path": "mnist"}, "nfe": list(NFE)},
        environment={"torch": "2.13.0", "device": "two threads"},
    )
    return replace(basic, **changes)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    rows = [row(solver, nfe, place) for place, solver in enumerate(SOLVERS) for nfe in NFE]
    tolerances = ((0.1, 21.4), (0.01, 39.25), (0.001, 57.0))
    rows += [row("rk_adaptive", nfe, 9, grid="own steps", budget=budget) for budget, nfe in tolerances]
    rows += [row("heun", nfe, 2, dtype="float32", seconds=0.5 * nfe) for nfe in NFE]
    rows += [row("ddim", nfe, 1, compile="max-autotune", seconds=0.1 * nfe) for nfe in NFE]
    rows += [row("ddim", nfe, 3, guidance="classifier-free, 2") for nfe in NFE]
    return found(rows)


# --- choices ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_the_pareto_front_is_exactly_the_rows_that_no_other_beats(pairs):
    rows = [row("ddim", nfe, metrics={"fid": Estimate(float(fid))}) for nfe, fid in pairs]

    def beaten(nfe: int, fid: int) -> bool:
        return any(x <= nfe and y <= fid and (x, y) != (nfe, fid) for x, y in pairs)

    assert set(choice.pareto(rows, lambda row: row.nfe)) == {i for i, pair in enumerate(pairs) if not beaten(*pair)}


def test_a_row_that_blew_up_is_on_no_front_and_never_recommended():
    rows = [row("heun", 5, metrics={"fid": Estimate(math.nan)}), row("ddim", 5, metrics={"fid": Estimate(9.0)})]
    assert choice.pareto(rows, lambda row: row.nfe) == [1]
    assert [advice.distance.row for advice in choice.recommendations(rows) if advice.distance] == [1]
    assert "not finite" in report.html(found(rows))


def test_a_recommendation_names_ties_by_overlapping_intervals_and_the_cheapest_of_them():
    def fid(solver: str, nfe: int, value: float, low: float, high: float) -> Row:
        return row(solver, nfe, metrics={"fid": Estimate(value, low, high)})

    rows = [
        fid("deis", 10, 3.0, 2.9, 3.1),
        fid("deis", 7, 3.05, 2.95, 3.2),
        fid("uni_pc", 10, 3.1, 3.05, 3.2),
        fid("uni_pc", 5, 3.15, 3.1, 3.4),
        fid("heun", 9, 3.3, 3.15, 3.5),
        fid("ddim", 25, 2.0, 1.9, 2.1),
    ]
    pick = choice.pick(rows, 10, "fid")
    assert pick == choice.Pick(row=0, ties=[2], cheapest=3)  # heun's interval lies above, ddim costs too much


def test_only_deterministic_solvers_have_a_smallest_error(outcome):
    for advice in choice.recommendations(outcome.rows):
        assert advice.error is not None and not outcome.rows[advice.error.row].stochastic
    assert [advice.budget for advice in choice.recommendations(outcome.rows)] == list(NFE)


def test_curves_are_told_apart_by_what_varies_and_drawn_apart_by_color_and_marker(outcome):
    made = curves(outcome.rows)
    labels = [curve.label for curve in made]
    assert labels[:9] == [*SOLVERS, "rk_adaptive"]
    assert labels[9:] == ["heun · float32", "ddim · max-autotune", "ddim · classifier-free, 2"]
    assert len({(curve.color, curve.marker) for curve in made}) == len(made)
    assert len({curve.color for curve in made[:9]}) == 9
    style = (Path(report.__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
    assert set(re.findall(r"\.(c\d+) \{", style)) == {f"c{index}" for index in range(len(COLORS))}
    assert sorted(index for curve in made for index in curve.rows) == list(range(len(outcome.rows)))


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_value_is_written_to_the_first_two_digits_of_its_interval_s_longer_side():
    assert quantities.text(Estimate(2.9756, 2.92, 3.0694)) == "2.976 ± 0.094"
    assert quantities.text(Estimate(4163.19, 4050.0, 4307.0)) == "4163 ± 144"
    assert quantities.text(Estimate(0.9512, 0.94, 0.963), percent=True) == "95.1% ± 1.2%"
    assert quantities.text(Estimate(0.00123456)) == "0.001235"


def test_the_csv_holds_every_row_in_full_precision(outcome):
    *lines, last = csv.DictReader(io.StringIO(tables.table(outcome)))
    assert last["solver"] == "converged" and len(lines) == len(outcome.rows)
    for line, one in zip(lines, outcome.rows, strict=True):
        assert (line["solver"], float(line["nfe"]), float(line["seconds"])) == (one.solver, one.nfe, one.seconds)
        ends = [float(line[f"fid{end}"]) for end in ("", "_low", "_high")]
        assert ends == [one.metrics["fid"].value, one.metrics["fid"].low, one.metrics["fid"].high]
        assert (line["error"] == "") == one.stochastic


def test_the_latex_table_has_a_column_per_budget_and_the_best_of_each_in_bold(outcome):
    text = tables.latex(outcome, "error")
    body = [line for line in text.splitlines() if line.endswith("\\\\")][1:]
    cells = [[cell.strip(" \\") for cell in re.split(r"(?<!\\)&", line)] for line in body]
    assert {len(line) for line in cells} == {1 + len(NFE)}
    assert [line[0] for line in cells] == [
        curve.label.replace("_", "\\_").replace("·", "$\\cdot$")
        for curve in curves(outcome.rows)
        if not curve.stochastic
    ]
    for column, nfe in enumerate(NFE, start=1):
        best = min(one.metrics["error"].value for one in outcome.rows if one.budget == nfe and "error" in one.metrics)
        bold = {match[1] for line in cells if (match := re.match(r"\$\\mathbf\{([\d.]+)\}", line[column]))}
        assert len(bold) == 1 and float(bold.pop()) == pytest.approx(best, rel=0.01)
    adaptive = next(line for line in cells if line[0] == "rk\\_adaptive")
    assert adaptive[:5] == ["rk\\_adaptive", "--", "--", "--", "--"] and adaptive[6].endswith("(39.25)")


def test_every_special_character_is_escaped_in_latex():
    text = tables.latex(found([row("a_b(c={%})", 5)]))
    assert "a\\_b(c=\\{\\%\\}) &" in text
    assert not re.search(r"(?<!\\)%", text) and text.isascii()


def test_the_markdown_names_feature_space_sample_count_floors_and_what_an_interval_is(outcome):
    text = tables.markdown(outcome)
    assert f"FID in {SPACE}, 500 samples each" in text and "real test images 2.57 ± 0.14" in text
    assert "the model's converged solution 2.94" in text and "95 % over draws of the samples" in text
    assert "| rk_adaptive | own steps | no guidance | bfloat16 | not compiled | tolerance 0.01 | 39.25 | " in text
    assert sum(line.startswith("|") for line in text.splitlines()) == 2 + len(outcome.rows)


def with_own(row: Row, value: float) -> Row:
    return replace(row, metrics={**row.metrics, "own_fd": around(value)})


def test_where_the_distance_to_own_samples_was_measured_it_comes_before_fid(tmp_path):
    """FID prefers the one with more noise; the model's own samples are nearer to the other."""
    rows = [with_own(row("ddim", 10, 1), 0.2), with_own(row("euler_maruyama", 10, 0), 3.0)]
    outcome = found(rows)
    outcome = replace(outcome, converged=with_own(outcome.converged, 0.125))
    assert quantities.distance(rows) == "own_fd" and quantities.distance([row("ddim", 5)]) == "fid"
    page = report.html(outcome)
    assert "floor, the converged samples of these seeds: 0.125" in page
    assert "no other row beats in FD to own samples at no more cost" in page and 'data-y="own_fd"' in page
    front = page[page.index("Pareto front against") :].partition("</table>")[0]
    assert "ddim" in front and "euler_maruyama" not in front
    names = report.write(outcome, tmp_path)
    assert {"pareto.svg", "steps_vs_fid.svg"} <= set(names)
    assert "tab:steps-vs-own_fd" in (tmp_path / "table.tex").read_text()
    assert "of other seeds" not in report.html(found([row("ddim", 5)]))


def test_a_report_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        report.html(found([]))


def test_a_metric_of_one_s_own_reaches_table_csv_page_and_charts(show, monkeypatch):
    own = [replace(each := row(name, 5), metrics={**each.metrics, "redness": around(0.4)}) for name in ("ddim", "heun")]
    outcome = found(own)
    assert "| redness |" in tables.markdown(outcome)
    (first, *_) = csv.DictReader(io.StringIO(tables.table(outcome)))
    assert float(first["redness"]) == 0.4 and float(first["redness_low"]) == pytest.approx(0.4 * 0.97)
    page = show(outcome)
    assert page.locator("table.rows th", has_text="redness").count() == 1
    page.locator("#steps-fid select[name=y]").select_option("redness")
    assert page.locator("#steps-fid .point").count() == 2
    monkeypatch.setitem(report.METRICS, "redness", report.Metric("share of red", "how red they are", percent=True))
    assert "| share of red |" in tables.markdown(outcome) and "| 40.0% ± 1.7% |" in tables.markdown(outcome)


def test_the_page_begins_with_what_was_found_in_a_sentence(show):
    rows = [row(name, nfe, place) for place, name in enumerate(("ddim", "heun")) for nfe in (5, 10)]
    rows[0] = row("ddim", 5, 20)
    page = show(found(rows))
    assert page.locator("h1 + p").inner_text() == (
        "Smallest FID: heun with 5, ddim with 10 model evaluations; with 10 it is level, within its interval, with 1 "
        "of 1 others, and ddim is there with 10."
    )
    assert page.locator("h1 ~ .scroll").first.locator("table.budgets").count() == 1  # and what to take, before all else
    alone = words.verdict(found([row("ddim", 5), row("ddim", 10)]))
    assert alone == "Smallest FID: ddim with 5 to 10 model evaluations."


def test_a_solver_that_failed_does_not_flatten_the_others_and_stands_at_the_edge(show):
    good = [row(name, nfe, place) for place, name in enumerate(SOLVERS[1:5]) for nfe in NFE]
    failed = [replace(each := row("euler_maruyama", nfe), metrics={**each.metrics, "fid": around(1e5)}) for nfe in NFE]
    outcome = found(good + failed)
    top = quantities.useful(outcome.rows, "fid")
    assert top is not None and max(each.metrics["fid"].value for each in good) < top < 1e5
    assert quantities.useful(good, "fid") is None
    early = [row("ddim", 3), row("heun", 5, budget=6.0), row("ddim", 6), replace(failed[0], nfe=5, budget=6.0)]
    assert quantities.useful(early, "fid") == pytest.approx(1.1 * early[0].metrics["fid"].value)
    assert quantities.useful(outcome.rows, "kid") is None  # of which the best is at most its interval from zero
    assert quantities.useful(outcome.rows, "precision") is None
    page = show(outcome)
    ticks = page.locator("#steps-fid text.end").all_text_contents()
    assert max(float(text) for text in ticks) < 1e4
    assert "6 of 30 points lie above this range, marked ▲ at its edge" in page.locator("#steps-fid .note").inner_text()
    page.locator("#steps-fid select[name=range]").select_option("all")
    assert max(float(text) for text in page.locator("#steps-fid text.end").all_text_contents()) >= 1e4


def test_ticks_are_where_measurements_are(show):
    page = show(found([row("ddim", nfe) for nfe in (4, 7, 11)]))
    assert page.locator("#steps-fid text.middle:not(.title)").all_text_contents() == ["4", "7", "11"]
    assert figures.apart([5, 5.01, 7, 50]) == [5, 7, 50]


def timing(solver: str, nfe: float, batch: int, seconds: float) -> Timing:
    quartiles = (seconds, 0.9 * seconds, 1.2 * seconds)
    return Timing(solver, "quadratic", nfe, nfe, "", "bfloat16", "", batch, quartiles, 7)


def test_timings_are_charts_of_latency_and_throughput_a_table_and_a_csv(show, tmp_path):
    rows = [row(name, nfe) for name in ("ddim", "heun") for nfe in (5, 10)]
    taken = [timing(each.solver, each.nfe, batch, batch * each.nfe / 100) for each in rows for batch in (1, 64)]
    outcome = found(rows, timings=[*taken, timing("of no row", 5, 1, 1.0)])
    page = show(outcome)
    assert page.locator("#speed-latency .point").count() == page.locator("#speed-rate .point").count() == 4
    assert "Seconds of a batch of 1 against" in page.locator("#speed-latency h3").inner_text()
    assert "Images/s in batches of 64 against" in page.locator("#speed-rate h3").inner_text()
    page.locator("#speed-rate select[name=y]").select_option("rate_1")
    assert page.locator("#speed-rate .point").count() == 4
    page.locator("input[data-curve='0']").uncheck()  # the choice of solvers holds here too
    assert page.locator("#speed-rate .point").count() == 2
    first, *_ = csv.DictReader(io.StringIO(tables.timings(outcome)))
    assert (first["batch"], float(first["seconds"]), float(first["images_per_second"])) == ("1", 0.05, 20.0)
    assert {"timings.csv", "speed.png", "speed.svg"} <= set(report.write(outcome, tmp_path))
    assert show(found(rows)).locator("#speed-latency").count() == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_the_main_columns_need_no_travel_sideways(show, width):
    more = {name: Estimate(0.9, 0.8654, 0.9321) for name in ("recall", "sliced_wasserstein", "pixel_fd")}
    rows = [row(name, nfe, place) for place, name in enumerate(SOLVERS) for nfe in NFE]
    rows = [replace(each, metrics={**each.metrics, **more}, grid="quadratic(end='by_steps')") for each in rows]
    page = show(found(rows), width=width)
    for name in ("budgets", "rows"):
        holder = page.locator(f".scroll:has(table.{name})")
        assert holder.evaluate("at => at.scrollWidth <= at.clientWidth"), name
    if width == 390:
        heads = page.locator("table.rows th:visible").all_inner_texts()
        assert [head.strip() for head in heads] == ["solver", "NFE", "FID", "error"]
        page.locator("#columns").check()
        assert page.locator("table.rows th:visible").count() > 4


def test_fewer_samples_than_features_are_warned_of(show):
    warned = found([row("ddim", 5)], features=2048)
    assert "500 samples are fewer than the 2,048 numbers" in show(warned).locator(".warning").inner_text()
    assert "500 samples are fewer than the 2,048 numbers" in tables.markdown(warned)
    assert show(found([row("ddim", 5)], features=64)).locator(".warning").count() == 0


def test_the_page_can_be_called_otherwise_and_holds_its_csv(show):
    outcome = found([row("ddim", 5)])
    page = show(outcome, title="Mine <b>")
    assert page.title() == "Mine <b>" == page.locator("h1").inner_text()
    link = page.locator("a[download='table.csv']").get_attribute("href")
    assert base64.b64decode(link.removeprefix("data:text/csv;base64,")).decode() == tables.table(outcome)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_everything_is_written_and_an_svg_is_the_same_to_the_byte(tmp_path):
    outcome = found([row(solver, nfe, place) for place, solver in enumerate(SOLVERS[:3]) for nfe in (5, 10)])
    names = report.write(outcome, tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert {"report.html", "table.csv", "table.tex", "steps_vs_fid.svg", "pareto.png", "samples.png"} <= set(names)
    for name, draw in {"steps_vs_fid.svg": figures.steps, "pareto.svg": figures.front}.items():
        before = (tmp_path / name).read_bytes()
        draw(outcome, tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    for name in ("steps_vs_fid.png", "pareto.png", "samples.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_figure_names_its_curves_and_says_when_it_leaves_some_out(tmp_path):
    for count in (figures.MOST, figures.MOST + 1):
        rows = [row(f"solver_{index}", nfe, index) for index in range(count) for nfe in NFE]
        figures.steps(found(rows), tmp_path / "steps.svg")
        text = (tmp_path / "steps.svg").read_text(encoding="utf-8")
        shown = [index for index in range(count) if f"<!-- solver_{index} -->" in text]
        assert shown == list(range(figures.MOST))
        assert (f"the first {figures.MOST} of {count} curves" in text) == (count > figures.MOST)


def test_a_run_without_fid_has_a_report_without_fronts(tmp_path):
    rows = [row("ddim", nfe, metrics={"error": around(1 / nfe)}) for nfe in NFE]
    names = report.write(found(rows), tmp_path)
    assert "pareto.png" not in names and "steps_vs_fid.png" in names
    assert "<h2>Pareto front" not in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- the page in a browser -------------------------------------------------------------------------------------------


@pytest.fixture
def show(show_page):
    """Opens an outcome's report."""
    return lambda outcome, title="", **size: show_page(report.html(outcome, title), **size)


def lines(page: Page, chart: str = "#steps-fid") -> set[int]:
    return {int(line.get_attribute("data-curve") or "") for line in page.locator(f"{chart} g.curve").all()}


def test_a_solver_that_is_not_chosen_has_no_curve_rows_or_images(show, outcome):
    page = show(outcome)
    count = len(curves(outcome.rows))
    assert lines(page) == lines(page, "#front-nfe") == set(range(count))
    assert lines(page, "#steps-error") == {i for i, curve in enumerate(curves(outcome.rows)) if not curve.stochastic}
    page.get_by_label("heun", exact=True).uncheck()
    assert lines(page) == set(range(count)) - {2}
    assert page.locator("table.rows tr[data-curve='2']:visible").count() == 0
    assert page.locator("section[data-curve='2']").is_hidden()
    page.get_by_label("heun", exact=True).check()
    assert lines(page) == set(range(count))
    page.get_by_role("button", name="none").click()
    assert lines(page) == set() and "choose a solver" in page.locator("#steps-fid").inner_text()
    page.locator("label", has_text="deis").click()
    assert lines(page) == {5}
    page.get_by_role("button", name="all").click()
    assert lines(page) == set(range(count))


def test_rows_are_filtered_by_each_condition_that_varies(show, outcome):
    page = show(outcome)
    page.get_by_label("bfloat16", exact=True).uncheck()
    assert lines(page) == {SOLVERS.index("heun") + 7} == {9}
    assert page.locator("table.rows tbody tr:visible").count() == len(NFE)
    page.get_by_label("bfloat16", exact=True).check()
    page.get_by_label("no guidance", exact=True).uncheck()
    assert lines(page) == {11}
    plain = show(found([row("ddim", nfe) for nfe in NFE]))
    assert plain.locator("fieldset").count() == 1


@pytest.mark.parametrize("heading", ["NFE", "FID", "Error", "solver"])
def test_a_heading_sorts_the_table_in_both_directions_with_what_is_missing_last(show, outcome, heading):
    page = show(outcome)
    column = page.locator(
        "table.rows th", has=page.get_by_role("button", name=re.compile(f"^{heading}$", re.IGNORECASE))
    )

    def key(one: Row) -> float | str | None:
        estimate = one.metrics.get(heading.lower())
        return {"NFE": one.nfe, "solver": one.solver}.get(heading, estimate.value if estimate else None)

    known = [value for one in outcome.rows if (value := key(one)) is not None]
    missing = [""] * (len(outcome.rows) - len(known))

    def shown() -> list[str]:
        index = column.evaluate("cell => cell.cellIndex")
        script = "(rows, index) => rows.map((row) => row.cells[index].dataset.value)"
        return page.locator("table.rows tbody tr").evaluate_all(script, index)

    page.keyboard.press("Tab")
    column.get_by_role("button").focus()
    for key_, direction in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key_)
        assert column.get_attribute("aria-sort") == direction
        assert page.locator("table.rows th[aria-sort]").count() == 1
        expected = sorted(known, reverse=direction == "descending")  # type: ignore[type-var]
        assert shown() == [*map(str, expected), *missing]


def test_the_pointer_on_a_point_shows_that_row_s_values_and_interval(show, outcome):
    page = show(outcome)
    tip = page.locator("#steps-fid .tip")
    assert tip.is_hidden()
    for index in (0, 6, 13, 47):
        one = outcome.rows[index]
        # Points of the others may lie on this one.
        page.get_by_role("button", name="none").click()
        page.locator("input[data-curve]").nth(SOLVERS.index(one.solver)).check()
        page.locator(f"#steps-fid [data-row='{index}']").hover()
        text = tip.inner_text().splitlines()
        fid = one.metrics["fid"]
        assert text[0] == one.solver and f"NFE {one.nfe:g}" in text
        assert f"FID {fid.value:.6g} [{fid.low:.6g}, {fid.high:.6g}]" in text
        assert f"own class {100 * one.metrics['own_class'].value:.6g} %" in text
        assert any(line.startswith("error") for line in text) != one.stochastic
        assert f"s per 1000 images {2 * one.seconds:.6g}" in text
    page.mouse.move(2, 2)
    assert tip.is_hidden()


def test_arrow_keys_read_the_points_of_a_chart_aloud(show, outcome):
    page = show(outcome)
    tip = page.locator("#steps-fid .tip")
    page.locator("#steps-fid .plot svg").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert tip.get_attribute("role") == "status"
    assert tip.inner_text().splitlines()[0] == SOLVERS[0] and "NFE 10" in tip.inner_text()
    page.keyboard.press("ArrowDown")
    assert tip.inner_text().splitlines()[0] == SOLVERS[1] and "NFE 10" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_every_metric_can_be_drawn_against_evaluations_and_seconds(show, outcome):
    page = show(outcome)
    for name, label in (("kid", "KID"), ("precision", "Precision"), ("error", "Error")):
        for cost, axis in (("nfe", "model evaluations (NFE)"), ("seconds", "seconds per 1000 images")):
            page.select_option("#steps-fid select[name=y]", name)
            page.select_option("#steps-fid select[name=x]", cost)
            assert page.locator("#steps-fid h3").inner_text() == f"{label} against {axis}"
            drawn = page.locator("#steps-fid path.point").count()
            positive = [one for one in outcome.rows if name in one.metrics and one.metrics[name].value > 0]
            assert drawn == len(positive)
            hidden = sum(name in one.metrics for one in outcome.rows) - drawn
            assert (f"{hidden} at or below zero" in page.locator("#steps-fid .note").inner_text()) == (hidden > 0)


def test_the_close_view_says_how_many_points_lie_above_it(show, outcome):
    page = show(outcome)
    page.select_option("#steps-fid select[name=range]", "near")
    above = re.search(r"(\d+) of (\d+) points lie above", page.locator("#steps-fid .note").inner_text())
    assert above and int(above[2]) == len(outcome.rows)
    top = 10 ** (math.log10(2 * 2.94) + 0.04 * math.log10(2 * 2.94 / 2.43))
    assert int(above[1]) == sum(one.metrics["fid"].value > top for one in outcome.rows)


def test_the_points_on_the_front_are_ringed_and_listed(show, outcome):
    page = show(outcome)
    for name, cost in (("nfe", lambda one: one.nfe), ("seconds", quantities.per_thousand)):
        best = choice.pareto(outcome.rows, cost)
        assert page.locator(f"#front-{name} circle.front").count() == len(best)
        heading = "NFE" if name == "nfe" else "s per 1000 images"
        listed = page.get_by_role("table", name=f"Pareto front against {heading}").locator("tbody tr")
        assert [float(line.split()[0]) for line in listed.all_inner_texts()] == [
            pytest.approx(cost(outcome.rows[index]), rel=1e-3) for index in best
        ]


def test_the_pictures_are_the_samples_to_the_pixel_with_the_converged_solution_below(show, outcome):
    page = show(outcome)
    for number, curve in enumerate(curves(outcome.rows)):
        strips = page.locator(f"section[data-curve='{number}'] img")
        for place, index in enumerate([*curve.rows, len(outcome.rows)]):
            source = strips.nth(place).get_attribute("src") or ""
            with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
                pixels = torch.from_numpy(np.asarray(picture).copy())
            assert torch.equal(pixels.reshape(28, 10, 28).permute(1, 0, 2), outcome.images[index, :, 0])
        heads = page.locator(f"section[data-curve='{number}'] th").all_inner_texts()
        assert heads == ["class", *(f"{outcome.rows[i].nfe:.4g}" for i in curve.rows), "converged"]


def test_text_from_a_configuration_stays_text(show):
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    rows = [row(attack, nfe, grid=attack, guidance=attack) for nfe in NFE] + [row("ddim", 5)]
    page = show(found(rows, config={attack: attack}, environment={attack: attack}))
    assert page.locator("script").count() == 2 and page.locator("img[src=x]").count() == 0
    page.locator("#steps-fid .plot svg").focus()
    page.keyboard.press("ArrowRight")
    assert attack in page.locator("#steps-fid .tip").inner_text()
    assert attack in page.locator("pre").inner_text()


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_is_as_wide_as_its_window_and_no_chart_is_cut_off(show, outcome, width):
    page = show(outcome, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for text in page.locator("figure.chart svg text").all():
        box = text.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width


def test_a_report_of_eight_solvers_and_six_budgets_is_light(outcome):
    rows = outcome.rows[: len(SOLVERS) * len(NFE)]
    text = report.html(found(rows))  # of noise, which no format makes smaller
    assert len(text) < 1e6
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert content and len(json.loads(content[1])["rows"]) == 48
