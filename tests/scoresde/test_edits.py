"""Image to image and inpainting: what pipelines of diffusers do with our Scheduler, from the same noise."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import scoresde
import solvers
from benchmarks.agreement import text_pipelines, tiny_pipelines
from benchmarks.agreement.tiny_pipelines import lib
from scoresde import Sampler, models
from scoresde.data import picture, to_state
from scoresde.edits import Edit
from scoresde.exact import GaussianMixture
from scoresde.integrations.diffusers import Scheduler
from scoresde.models import Checkpoint
from scoresde.noise import Noise

PROMPTS, SEEDS, STEPS, SIDE = ["a red cat", "dogs"], range(2), 6, 8
LABELS = {"label": torch.tensor([0, 1])}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    found = tmp_path_factory.mktemp("stable-diffusion")
    text_pipelines.stable_diffusion().save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return models.load(folder, prompts=PROMPTS)


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int) -> Tensor:
    return Noise(SEEDS, shape, torch.float32)()


def by_hand(
    folder: Path, kind: str, solver: str, monkeypatch: pytest.MonkeyPatch, image: Tensor, **call: Any
) -> tuple[Tensor, tuple[float, ...]]:
    """What a pipeline makes of an image in latents with the noise of our seeds, and the times of all of its steps."""
    source: Any = lib.StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False, safety_checker=None)
    source.scheduler = Scheduler.from_config(source.scheduler.config, solver=solver)
    parts = {key: value for key, value in source.components.items() if key != "image_encoder"}
    pipe = getattr(lib, kind)(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(import_module(type(pipe).__module__), "randn_tensor", lambda shape, **_: noise(*shape[1:]))
    given = {"num_inference_steps": STEPS, "output_type": "pt", "return_dict": False}
    return pipe(prompt=PROMPTS, image=image.expand(2, -1, -1, -1), **given, **call)[0], pipe.scheduler.plan.times


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_image_to_image_is_that_of_the_pipeline(
    solver: str, strength: float, folder: Path, checkpoint: Checkpoint, cat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoint.encode is not None
    known = checkpoint.encode(to_state(picture(cat, 16, 16, 3))[None])
    expected, times = by_hand(folder, "StableDiffusionImg2ImgPipeline", solver, monkeypatch, known, strength=strength)
    edit = Edit(known, strength)
    sampler = edit.taken(Sampler(checkpoint, solvers.get(solver), grid=times))
    assert len(sampler.times) - 1 == int(strength * STEPS)
    found = edit.sample(sampler, seeds=SEEDS, cond=LABELS)
    assert (found.samples / 2 + 0.5).clamp(0, 1).sub(expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_is_that_of_the_pipeline(
    strength: float, cat: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    tiny_pipelines.stable_diffusion().save_pretrained(tmp_path)  # whose states are as large as its images
    checkpoint = models.load(tmp_path, prompts=PROMPTS)
    assert checkpoint.encode is not None
    known = checkpoint.encode(to_state(picture(cat, SIDE, SIDE, 3))[None])
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., :3] = 1
    call: dict[str, Any] = {"strength": strength, "mask_image": mask, "height": SIDE, "width": SIDE}
    expected, times = by_hand(tmp_path, "StableDiffusionInpaintPipeline", "dpmpp_2m", monkeypatch, known, **call)
    edit = Edit(known, strength, mask)
    found = edit.sample(edit.taken(Sampler(checkpoint, "dpmpp_2m", grid=times)), seeds=SEEDS, cond=LABELS)
    assert (found.samples / 2 + 0.5).clamp(0, 1).sub(expected).abs().max() < TOLERANCE


def test_a_picture_is_made_a_state_as_the_pipeline_makes_it(folder: Path, checkpoint: Checkpoint, cat: Path) -> None:
    pipe: Any = lib.StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False, safety_checker=None)
    image = pipe.image_processor.preprocess(Image.open(cat), height=16, width=16)
    ours = to_state(picture(cat, 16, 16, 3))[None]
    torch.testing.assert_close(ours, image)
    with torch.no_grad():
        expected = pipe.vae.encode(image).latent_dist.mode() * pipe.vae.config.scaling_factor
    assert checkpoint.encode is not None
    torch.testing.assert_close(checkpoint.encode(ours), expected)


# Any model


def exact(process: Any) -> scoresde.ScoreModel:
    means = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return GaussianMixture(process, torch.ones(3), means, torch.full((3,), 0.05))


KNOWN = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun", "euler_ancestral"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_sample_depends_on_its_seed_alone(solver: str, masked: bool) -> None:
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 4) if masked else None
    edit = Edit(KNOWN, 0.5, mask)
    sampler = edit.taken(Sampler(exact(scoresde.VP()), solver, steps=8))
    whole = edit.sample(sampler, seeds=range(5), batch_size=2)
    last = edit.sample(sampler, seeds=[4], batch_size=2)
    assert torch.equal(whole.samples[4:], last.samples)
    assert (whole.seeds, len(whole.evaluations), whole.nfe) == ([*range(5)], 5, sampler.nfe)
    if masked:
        torch.testing.assert_close(whole.samples[..., 2:], KNOWN[..., 2:].expand(5, -1, -1, -1), atol=1e-6, rtol=0)
        assert (whole.samples[..., :2] - KNOWN[..., :2]).abs().min() > 0


def test_the_way_from_an_image_is_kept_whatever_the_batches() -> None:
    edit = Edit(KNOWN, 0.5, torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 4, 4))
    sampler = edit.taken(Sampler(exact(scoresde.VP()), "dpmpp_2m", steps=8))
    found = edit.sample(sampler, seeds=range(5), batch_size=2, trajectory=True)
    assert found.trajectory is not None and found.trajectory.shape == (5, 5, 1, 4, 4)
    assert found.trajectory_times == sampler.times
    first, drawn = sampler.times[0], Noise(range(5), (1, 4, 4), torch.float32)()
    begun = sampler.model.process.alpha(first) * KNOWN + sampler.model.process.sigma(first) * drawn
    torch.testing.assert_close(found.trajectory[0], begun)
    assert torch.equal(found.trajectory[-1], found.samples)


def test_less_strength_stays_nearer_to_the_image() -> None:
    apart = []
    for strength in (0.2, 0.5, 1.0):
        edit = Edit(KNOWN, strength)
        found = edit.sample(edit.taken(Sampler(exact(scoresde.VP()), "dpmpp_2m", steps=10)), seeds=range(20))
        apart.append(float((found.samples - KNOWN).square().mean()))
    assert apart == sorted(apart)


@pytest.mark.parametrize(("process", "steps"), [(scoresde.VP(), 4), (scoresde.Flow(), 5)], ids=str)
def test_steps_are_rounded_as_pipelines_of_the_kind_round_them(process: Any, steps: int) -> None:
    sampler = Sampler(exact(process), "euler", steps=8)
    assert len(Edit(KNOWN, 0.6).taken(sampler).times) - 1 == steps  # of 4.8


def test_what_is_no_edit_is_refused() -> None:
    sampler = Sampler(exact(scoresde.VP()), "dpmpp_2m", steps=8)
    for strength in (0, 1.2, -1, True, "half"):
        with pytest.raises(ValueError, match="strength must be a number above 0 and up to 1, got"):
            Edit(KNOWN, strength)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strength = 0.1 of 8 steps is not one step"):
        Edit(KNOWN, 0.1).taken(sampler)
    with pytest.raises(ValueError, match="chooses its own steps, and strength is a share of the steps of a grid"):
        Edit(KNOWN, 0.5).taken(Sampler(exact(scoresde.VP()), "pf_ode"))
    with pytest.raises(ValueError, match=r"a mask of states of \(1, 1, 4, 4\) cannot be of \(1, 1, 2, 2\)"):
        Edit(KNOWN, 0.5, torch.ones(1, 1, 2, 2))
