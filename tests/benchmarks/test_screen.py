"""What the screen of solvers measures beside rows of a benchmark, and how figures are held against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.bundled import rankings, screen
from benchmarks.bundled.screen import FLOOR, STUDIES, Screen, Study, tables
from scoresde.bench import Row, Settings
from scoresde.data import to_pixels
from scoresde.metrics import Estimate, Moments, frechet_distance


def row(solver: str, nfe: int, **figures: float) -> Row:
    """Figures with a standard error of 0.1."""
    return Row(
        solver=solver,
        name=solver,
        options={},
        stochastic=False,
        grid="karras",
        budget=nfe,
        nfe=nfe,
        guidance="",
        dtype="float32",
        compile="",
        samples=100,
        feature_space="pixels",
        metrics={name: Estimate.of(value, 0.1) for name, value in figures.items()},
        seconds=1.0,
    )


def figure(name: str) -> rankings.Figure:
    return lambda row: row.metrics.get(name)


def test_only_pairs_that_are_apart_in_both_are_counted() -> None:
    rows = [row("a", 5, one=1.0, two=1.0), row("b", 5, one=2.0, two=2.0), row("c", 5, one=3.0, two=2.1)]
    found = rankings.agreement(rows, figure("one"), figure("two"))
    assert (found.alike, found.opposite, found.once, found.tau) == (2, 0, 1, 1.0)  # b and c are apart in one alone
    assert str(found) == "1.00 (2, 1)"


def test_two_standard_errors_of_the_difference_are_what_apart_means() -> None:
    error = 0.1 * 2**0.5
    assert not rankings.apart(Estimate.of(1.0, 0.1), Estimate.of(1.0 + 1.99 * error, 0.1))
    assert rankings.apart(Estimate.of(1.0, 0.1), Estimate.of(1.0 + 2.01 * error, 0.1))
    assert rankings.apart(Estimate(1.0), Estimate(1.1))  # no interval, no doubt


def test_orders_that_are_opposite_have_tau_minus_one_and_are_named() -> None:
    rows = [row("quick", 5, one=1.0, two=9.0), row("slow", 5, one=4.0, two=2.0), row("other", 6, one=9.0, two=1.0)]
    found = rankings.agreement(rows, figure("one"), figure("two"))
    assert found.tau == -1 and [(a.solver, b.solver) for a, b in found.against] == [("quick", "slow")]
    assert any(
        line.startswith("| 5 | quick | 1 ± 0.196 |")
        for line in rankings.disagreements(rows, figure("one"), figure("two"), 5)
    )


def test_pairs_of_other_budgets_and_rows_without_a_figure_do_not_count() -> None:
    rows = [row("a", 5, one=1.0, two=1.0), row("b", 6, one=2.0, two=2.0), row("c", 5, one=3.0)]
    found = rankings.agreement(rows, figure("one"), figure("two"))
    assert found.alike == found.opposite == found.once == 0 and str(found) == "– (0, 0)"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Screen:
    monkeypatch.setattr(screen, "PLACED", [("ddim", {}), ("dpmpp_2m", {})])
    monkeypatch.setattr(screen, "GRIDS", [("karras", {"end": "by_steps"}), ("auto", {})])
    monkeypatch.setattr(screen, "OTHERS", [("euler_ancestral", {})])
    monkeypatch.setattr(screen, "Settings", partial(Settings, reference=12))
    for name, value in {"STARTS": 4, "STEPS": 12, "REFERENCE": 12, "TIMED": 2}.items():
        monkeypatch.setattr(screen, name, value)
    real = torch.randint(0, 256, (80, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Screen(Study("mnist", "", (4,), few=8, many=24, by_error=1, stochastic=1), real, tmp_path)


def test_a_screen_goes_on_where_it_stopped_and_its_tables_have_every_figure(
    small: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = small.few()
    many = small.many(few)
    assert [row.name for row in many.rows if row.budget == 4] == [
        "tuned",
        "auto",
        "dpmpp_2m",
        "euler_ancestral",
        "ddim",
    ]
    for each in (*many.rows, many.converged):
        own = each.metrics["own_fd"]
        assert own.low is not None and own.high is not None and own.low < own.value < own.high
    states = [torch.from_numpy(np.load(path)["samples"]) for path in (small.out / "many" / "converged").iterdir()]
    assert len(states) == 2 and not torch.equal(*states)  # of these seeds and of others
    moments = [Moments(small.space.size, small.space.name) for _ in states]
    for each, images in zip(moments, states, strict=True):
        each.update(small.space.features(to_pixels(images)).numpy())
    expected = frechet_distance(*moments)
    assert many.converged.metrics["own_fd"].value == pytest.approx(expected, rel=2e-3)  # features are kept in float16

    monkeypatch.setattr(Screen, "measure", property(lambda self: pytest.fail("something was measured again")))
    monkeypatch.setattr(screen, "_figures", lambda *_: pytest.fail("something was measured again"))
    kept = Estimate(1.0, 0.9, 1.1), Estimate(2.0, 1.9, 2.1)
    other = {FLOOR: kept, **{(each.solver, each.budget): kept for each in many.rows}}
    lines = tables(small.study, few, many, other)
    assert sum(line.startswith("## ") for line in lines) == 10
    assert any(line.startswith("| own samples, FID |") for line in lines)


def test_figures_of_a_row_that_is_measured_again_are_not_those_of_before(tmp_path: Path) -> None:
    one, two = row("tuned", 5), row("heun", 5)
    for name in (screen.OWN, screen.BY_OTHERS):
        screen._keep(tmp_path / name, {screen._key(each): [1.0] for each in (one, two)})
    screen._save(tmp_path, one, torch.ones(3, 1, 8, 8, dtype=torch.uint8))
    for name in (screen.OWN, screen.BY_OTHERS):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == {screen._key(two): [1.0]}
    assert torch.equal(screen._kept(tmp_path, one), torch.ones(3, 1, 8, 8, dtype=torch.uint8))


def test_every_stretch_of_the_real_images_has_all_classes(tmp_path: Path) -> None:
    """Also of data that are sorted by class, whose front is of one class alone."""
    labels = np.repeat(np.arange(10), 30)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None], (300, 8, 8))  # of which each shows its class
    np.savez(tmp_path / "sorted.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    real = screen.real_images(replace(STUDIES[0], data="sorted.npz"), tmp_path)
    shown = real[:, 0, 0, 0].view(-1, 50)
    assert len(shown) == 6
    for stretch in shown:
        assert stretch.bincount(minlength=10).tolist() == [5] * 10


def test_the_studies_are_of_models_by_name_and_have_room_for_ours() -> None:
    """At most eight leaders beside ddim, auto and tuned."""
    for study in STUDIES:
        assert study.by_error + study.stochastic <= 8 and study.few < study.many
        assert list(study.budgets) == sorted(set(study.budgets))
