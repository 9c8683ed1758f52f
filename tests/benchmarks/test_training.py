"""What trainings are compared by."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.training.objectives import VARIANTS
from benchmarks.training.step_time import measured, timed
from benchmarks.training.variants import EVERY, P_MEAN, P_STD, Study, Variant, all_of, edm_loss, trainer
from scoresde.data import Images, load, to_state
from scoresde.process import EDM, VE, VP, Flow
from scoresde.score import ScoreModel

DIGITS = load("digits")
SMALL = Variant(
    "small",
    {"name": "vp"},
    {"name": "ddpm"},
    network={"name": "unet", "channels": [8, 16], "depth": 1},
    settings={"batch_size": 32, "bf16": False},
)


def test_the_loss_of_a_known_denoiser() -> None:
    """D = 0 is off by x0, whose mean square is known: E w(σ) E x0², w = 1/σ² + 1/d²."""
    images, d = DIGITS.take(torch.arange(1000)), 0.7
    model = ScoreModel(lambda x, t, label: torch.zeros_like(x), EDM(), "sample")
    mean = (1 / d**2) + torch.tensor(2.0 * P_STD**2 - 2 * P_MEAN).exp()
    expected = float(mean) * float(to_state(images.pixels).square().mean())
    assert edm_loss(model, images, d) == pytest.approx(expected, rel=0.1)  # levels below t_min count as t_min


@pytest.mark.parametrize("process", [VP(), VE(), Flow()])
def test_the_loss_is_that_of_the_denoiser_on_whatever_process(process: object) -> None:
    def shrinking(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        sigma = t.float().view(-1, 1, 1, 1)
        return x / (1 + sigma**2)

    model = ScoreModel(shrinking, EDM(), "sample")
    images = DIGITS.take(torch.arange(300))
    assert edm_loss(model.on(process), images, 0.5) == pytest.approx(edm_loss(model, images, 0.5), rel=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_a_run_has_the_steps_that_were_asked_for_or_a_few_more(steps: int, tmp_path: Path) -> None:
    run = trainer(SMALL, DIGITS, steps, 0, tmp_path)
    assert steps <= run.steps < steps + run.settings.epochs
    seen = torch.bincount(run.data.rows, minlength=len(DIGITS)) if run.data.rows is not None else None
    assert seen is not None and seen.max() <= 1 + (run.per_epoch * 32 > len(DIGITS))


def test_a_run_on_images_that_are_sorted_by_class_has_every_class_in_its_share(tmp_path: Path) -> None:
    assert DIGITS.labels is not None
    by_class = DIGITS.take(DIGITS.labels.sort(stable=True).indices)
    run = trainer(SMALL, by_class, 20, 0, tmp_path)
    assert run.data.labels is not None and len(run.data) < len(DIGITS)
    shares = torch.bincount(DIGITS.labels) / len(DIGITS) * len(run.data)
    assert (torch.bincount(run.data.labels) - shares).abs().max() <= 1


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_can_be_trained(variant: Variant, tmp_path: Path) -> None:
    small = Variant(variant.name, variant.process, variant.objective, variant.prediction, SMALL.network, SMALL.settings)
    run = trainer(small, DIGITS, 1, 0, tmp_path)
    run.run(lambda _: None, every=EVERY)
    assert run.step == 1


def study() -> Study:
    return Study(DIGITS, DIGITS.take(torch.arange(100)), None, None, 0, ())


def test_what_is_done_is_kept(tmp_path: Path) -> None:
    found = all_of(study, (), [(SMALL, 0, 2), (SMALL, 1, 2)], tmp_path, jobs=1)
    assert list(found) == ["small 0", "small 1"]
    assert found["small 0"]["edm_loss"] != found["small 1"]["edm_loss"]
    (tmp_path / "small 0" / "figures.json").write_text(json.dumps({"edm_loss": 5.0}))
    assert all_of(study, (), [(SMALL, 0, 2)], tmp_path, jobs=1) == {"small 0": {"edm_loss": 5.0}}


def test_parts_in_parts_count_once_and_nothing_stays_timed() -> None:
    spent, before = {"images": 0.0}, Images.take
    images = DIGITS.take(torch.arange(4))
    with timed(spent):
        start = time.perf_counter()
        next(iter(images.chunks()))  # which takes
        images.take(torch.tensor([0]))
        total = time.perf_counter() - start
    assert 0 < spent["images"] <= total
    assert Images.take is before
    counted = spent["images"]
    images.take(torch.tensor([0]))
    assert spent["images"] == counted


def test_the_parts_of_a_step_are_parts_of_it() -> None:
    found = measured(DIGITS, {"name": "unet", "channels": [8, 16], "depth": 1, "augment": 9}, augment=0.3)
    parts = sum(value for key, value in found.items() if key != "step")
    assert all(value > 0 for value in found.values()) and parts < found["step"]
