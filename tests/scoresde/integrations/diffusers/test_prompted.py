"""Pipelines of text give, by our sampler and from their folders alone, what they give when they are called by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from benchmarks.agreement.text_pipelines import BUILT
from benchmarks.agreement.tiny_pipelines import lib
from scoresde import models
from scoresde.integrations.diffusers import Scheduler
from scoresde.integrations.diffusers.prompted import PIPELINES
from scoresde.noise import Noise

PROMPTS, SEEDS, STEPS = ["a red cat", "dogs"], range(4), 4
LABELS = torch.tensor([0, 1, 0, 1])
TOLERANCE = 1e-4  # of values from 0 to 1, guided at 7 and more; another prompt or scale makes 1e-2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, build in BUILT.items():
        torch.manual_seed(1)
        build().save_pretrained(found.setdefault(name, tmp_path_factory.mktemp(name)))
    return found


def opened(folder: Path, solver: str) -> Any:
    """The pipeline with our Scheduler, as one would load it."""
    absent = (
        {}
        if (folder / "text_encoder_3").exists() or "3" not in folder.name
        else dict.fromkeys(("text_encoder_3", "tokenizer_3"))
    )
    pipe: Any = lib.DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False, **absent)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config, solver=solver)
    return pipe


def noise(*shape: int) -> Tensor:
    return Noise(SEEDS, shape, torch.float32)()


@pytest.mark.parametrize("name", BUILT)
def test_prompts_give_the_images_that_the_pipeline_gives(name: str, folders: dict[str, Path]) -> None:
    pipe = opened(folders[name], "dpmpp_2m")
    sizes: dict[str, Any] = {"height": 32, "width": 16}
    call: dict[str, Any] = {"num_inference_steps": STEPS, "output_type": "pt"}
    latents = noise(4, 16, 8)
    if name == "FluxPipeline":
        latents = pipe._pack_latents(latents, *latents.shape)
    negative = {"negative_prompt": ["blue"] * 4} if PIPELINES[name].guided else {}
    if name == "PixArtAlphaPipeline":
        negative, call = {"negative_prompt": "blue"}, {**call, "use_resolution_binning": False}
    expected = pipe(prompt=PROMPTS * 2, latents=latents, **negative, **sizes, **call).images

    checkpoint = models.load(folders[name], prompts=PROMPTS, negative="blue" if negative else None, **sizes)
    assert (checkpoint.shape, checkpoint.classes, checkpoint.class_names) == ((4, 16, 8), 2, tuple(PROMPTS))
    times = pipe.scheduler.plan.times
    found = scoresde.sample(checkpoint, "dpmpp_2m", grid=times, seeds=SEEDS, cond={"label": LABELS})
    assert (found.samples / 2 + 0.5).clamp(0, 1).sub(expected).abs().max() < TOLERANCE
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", BUILT)
def test_prompt_negative_prompt_and_scale_have_a_say(name: str, folders: dict[str, Path]) -> None:
    """Without which the test above would mean little."""
    options: dict[str, Any] = {"nfe": 2, "seeds": SEEDS, "cond": {"label": LABELS}}
    sizes: dict[str, Any] = {"height": 16, "width": 16}
    plain = models.load(folders[name], prompts=PROMPTS, **sizes)
    others = {"prompt": models.load(folders[name], prompts=["a blue cat", "a dog"], **sizes)}
    if PIPELINES[name].guided:
        others["negative"] = models.load(folders[name], prompts=PROMPTS, negative="a blue cat", **sizes)
    first = scoresde.sample(plain, **options).samples
    for what, other in others.items():
        assert (scoresde.sample(other, **options).samples - first).abs().max() > 10 * TOLERANCE, what
    scaled: Any = plain.model
    moved = scoresde.sample(scaled.called(scale=2.0), decode=plain.decode, shape=(4, *plain.shape), **options)
    assert (moved.samples - first).abs().max() > 10 * TOLERANCE


def test_a_sample_depends_on_its_seed_and_prompt_alone(folders: dict[str, Path]) -> None:
    checkpoint = models.load(folders["StableDiffusionPipeline"], prompts=PROMPTS)
    whole = scoresde.sample(checkpoint, nfe=3, seeds=SEEDS, cond={"label": LABELS}, batch_size=2)
    last = scoresde.sample(checkpoint, nfe=3, seeds=[3], cond={"label": torch.tensor([1])}, batch_size=2)
    assert torch.equal(whole.samples[3:], last.samples)
    alone = models.load(folders["StableDiffusionPipeline"], prompts=[PROMPTS[1]])
    found = scoresde.sample(alone, nfe=3, seeds=[3], cond={"label": torch.tensor([0])}, batch_size=2)
    assert torch.equal(whole.samples[3:], found.samples)


def test_a_solver_with_steps_of_its_own_asks_the_pipeline_at_each_sample_s_time(folders: dict[str, Path]) -> None:
    checkpoint = models.load(folders["StableDiffusionPipeline"], prompts=PROMPTS)
    solver = solvers.get("rk_adaptive", rtol=0.2, atol=0.2)
    given: dict[str, Any] = {"decode": lambda x: x, "cond": {"label": LABELS}, "seeds": SEEDS}
    found = scoresde.sample(checkpoint, solver, **given)
    near = scoresde.sample(checkpoint, "uni_pc", nfe=15, **given)
    assert len(set(found.evaluations)) > 1  # so that their times differ
    assert (found.samples - near.samples).square().mean().sqrt() < 0.1 * near.samples.std()


def test_guidance_in_an_interval_is_none_outside_it(folders: dict[str, Path]) -> None:
    checkpoint = models.load(folders["StableDiffusionPipeline"], prompts=PROMPTS)
    model: Any = checkpoint.model
    x, cond = noise(*checkpoint.shape), {"label": LABELS}
    inside, times = model.called(scale=5.0, low=0.5, high=2.0), torch.tensor([50.0, 500.0, 950.0, 500.0])
    level = torch.as_tensor([float(model.process.sigma(t) / model.process.alpha(t)) for t in times])
    guided = (level > 0.5) & (level <= 2)
    assert 0 < int(guided.sum()) < 4
    with torch.no_grad():
        out = inside.output(x, times, **cond)
        whole, none = (model.called(scale=scale).output(x, times, **cond) for scale in (5.0, 1.0))
    torch.testing.assert_close(out, torch.where(guided[:, None, None, None], whole, none), atol=1e-5, rtol=1e-5)
    assert inside.network_calls(times).tolist() == (1 + guided.long()).tolist()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StableDiffusionPipeline", {"scale": 0.5}, "is guided at scales of 1 and more"),
        ("StableDiffusionPipeline", {"scale": [3, 1]}, "or over a range of them, got"),
        ("StableDiffusion3Pipeline", {"rescale": 0.5}, "StableDiffusion3Pipeline has no guidance_rescale"),
        ("StableDiffusionPipeline", {"rescale": 2}, "guidance_rescale must be from 0 to 1, got 2"),
        ("FluxPipeline", {"low": 0.5}, "FluxPipeline is told its scale, which is the same at every noise level"),
        ("StableDiffusionPipeline", {"low": 2, "high": 1}, "0 ≤ low < high, got 2 to 1"),
    ],
)
def test_a_guidance_that_a_pipeline_does_not_have_is_refused(
    name: str, options: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    model: Any = models.load(folders[name], prompts="a").model
    with pytest.raises(ValueError, match=message):
        model.called(**options)
