"""Our Scheduler inside pipelines of diffusers that were saved to a folder and loaded from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from benchmarks.agreement import pipelines
from benchmarks.agreement.tiny_pipelines import BATCH, CASES, PROMPTS, SIZE, lib, stable_diffusion_network
from scoresde.integrations.diffusers import Scheduler
from scoresde.integrations.diffusers.conventions import read

# A guided output w c − (w − 1) u carries 2w − 1 roundings of a float32 network, w = 3. 64 such are room for any kernel
# over these few steps; none yet took eight. A time off by one of a thousand makes 3e-4, a network off by 0.1% 1e-3.
TOLERANCE = 64 * torch.finfo(torch.float32).eps * 5
SOLVERS = ("ddim", "dpmpp_3m", "uni_pc", "heun", "dpmpp_3s", "dpmpp_2m_sde", "dpmpp_sde", "sa_solver")


@pytest.fixture(scope="module")
def loaded() -> dict[str, Any]:
    return {name: case.saved_and_loaded() for name, case in CASES.items()}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("pipeline", CASES)
def test_a_pipeline_gives_what_our_own_loop_gives(pipeline: str, name: str, loaded: dict[str, Any]) -> None:
    row = pipelines.beside_our_loop(loaded[pipeline], CASES[pipeline], name, pipelines.SOLVERS[name])
    assert row["difference"] < TOLERANCE
    assert row["nfe"] == row["our nfe"] >= pipelines.STEPS


@pytest.mark.parametrize("peer", list(pipelines.peers()), ids=lambda peer: f"{peer.pipeline}-{peer.theirs}-{peer.name}")
def test_their_scheduler_gives_the_same_on_its_timesteps(peer: pipelines.Peer, loaded: dict[str, Any]) -> None:
    row = pipelines.beside_theirs(loaded[peer.pipeline], CASES[peer.pipeline], peer)
    assert row["difference"] < TOLERANCE
    assert row["nfe"] == row["their nfe"]


@pytest.mark.parametrize("pipeline", CASES)
def test_the_networks_have_a_say(pipeline: str, loaded: dict[str, Any]) -> None:
    """Without which agreement would mean little: another network gives other samples."""
    pipe, case = loaded[pipeline], CASES[pipeline]
    scheduler = Scheduler.from_config(pipe.scheduler.config)
    first, last, _ = pipelines.run(pipe, scheduler, case)
    model = case.model(pipe)
    mute = scoresde.ScoreModel(lambda x, t: torch.zeros_like(x), model.process, model.prediction)
    found = scoresde.sample(mute, x_init=first, grid=pipelines.grid(pipe, solvers.get("dpmpp_2m"), pipelines.STEPS))
    assert pipelines.relative(found.samples, last) > 0.1


@pytest.mark.parametrize("pipeline", ["DDPMPipeline", "StableDiffusion3Pipeline"])
def test_a_pipeline_is_saved_and_loaded_with_our_scheduler(pipeline: str, loaded: dict[str, Any], tmp_path) -> None:
    pipe, case = loaded[pipeline], CASES[pipeline]
    native = pipe.scheduler
    pipe.register_modules(scheduler=Scheduler.from_config(native.config, solver="uni_pc", order=3, seeds=3))
    pipe.save_pretrained(tmp_path)
    again = type(pipe).from_pretrained(tmp_path, low_cpu_mem_usage=False, **dict.fromkeys(case.absent))
    again.set_progress_bar_config(disable=True)
    assert isinstance(again.scheduler, Scheduler) and again.scheduler.config["solver"]["order"] == 3
    results = [pipelines.run(one, one.scheduler, case)[1] for one in (pipe, again)]
    pipe.register_modules(scheduler=native)
    assert torch.equal(*results)


# Stable Diffusion: images, masks, callbacks


def stable(loaded: dict[str, Any], kind: str, name: str, **options: Any) -> Any:
    source = loaded["StableDiffusionPipeline"]
    parts = {key: value for key, value in source.components.items() if key != "image_encoder"}
    scheduler = Scheduler.from_config(source.scheduler.config, solver=name, **options)
    pipe = getattr(lib, kind)(**{**parts, "scheduler": scheduler}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def guided(pipe: Any) -> scoresde.ScoreModel:
    return scoresde.ScoreModel(stable_diffusion_network(pipe), read(pipe.scheduler.config).process)


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


ARGUMENTS: dict[str, Any] = {"prompt": PROMPTS, "guidance_scale": 3.0, "output_type": "latent", "return_dict": False}


@pytest.mark.parametrize("name", ["ddim", "dpmpp_3m", "uni_pc", "heun", "dpmpp_3s", "dpmpp_2m_sde", "sa_solver"])
def test_image_to_image_begins_at_its_strength(name: str, loaded: dict[str, Any]) -> None:
    pipe = stable(loaded, "StableDiffusionImg2ImgPipeline", name, seeds=3)
    images = torch.rand(BATCH, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))  # 4 channels: latents
    torch.manual_seed(2)
    found = pipe(image=images, strength=0.5, num_inference_steps=8, **ARGUMENTS)[0]

    process = read(pipe.scheduler.config).process
    times = solvers.get(name).recommended(process, 8)[4:]
    torch.manual_seed(2)
    x = process.alpha(times[0]) * images + process.sigma(times[0]) * torch.randn(BATCH, 4, SIZE, SIZE)
    with torch.no_grad():
        ours = scoresde.sample(guided(pipe), solvers.get(name), x_init=x, grid=times, seeds=3)
    assert pipelines.relative(found, ours.samples) < TOLERANCE


@pytest.mark.parametrize("name", ["ddim", "dpmpp_3m", "uni_pc", "er_sde"])
def test_a_callback_that_keeps_a_part_of_the_picture_is_our_callback(name: str, loaded: dict[str, Any]) -> None:
    pipe = stable(loaded, "StableDiffusionPipeline", name, seeds=3)
    known, noise, x = (randn(seed, BATCH, 4, SIZE, SIZE) for seed in range(3))
    mask = torch.zeros(SIZE, SIZE)
    mask[2:6, 2:6] = 1

    def keep(pipe: Any, i: int, t: Tensor, states: dict[str, Tensor]) -> dict[str, Tensor]:
        following = pipe.scheduler.timesteps[i + 1 : i + 2]
        around = pipe.scheduler.add_noise(known, noise, following) if len(following) else known
        return {"latents": mask * states["latents"] + (1 - mask) * around}

    found = pipe(latents=x, num_inference_steps=6, callback_on_step_end=keep, **ARGUMENTS)[0]

    process = read(pipe.scheduler.config).process
    times = solvers.get(name).recommended(process, 6)

    def ours(x: Tensor, t: float) -> Tensor:
        return mask * x + (1 - mask) * (process.alpha(t) * known + process.sigma(t) * noise)

    initial = process.sigma(times[0]) * x
    expected = scoresde.sample(guided(pipe), solvers.get(name), x_init=initial, grid=times, seeds=3, callback=ours)
    assert pipelines.relative(found, expected.samples) < TOLERANCE


@pytest.mark.parametrize("name", ["dpmpp_3m", "heun", "dpmpp_2s"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_inpainting_keeps_what_the_mask_keeps(name: str, strength: float, loaded: dict[str, Any]) -> None:
    pipe = stable(loaded, "StableDiffusionInpaintPipeline", name)
    images = randn(1, BATCH, 4, SIZE, SIZE)  # 4 channels: latents
    mask = torch.zeros(BATCH, 1, SIZE, SIZE)
    mask[..., 2:6, 2:6] = 1
    size = {"height": SIZE, "width": SIZE}
    torch.manual_seed(3)
    found = pipe(image=images, mask_image=mask, strength=strength, num_inference_steps=6, **size, **ARGUMENTS)[0]
    mask = mask.bool().expand_as(images)
    torch.testing.assert_close(found[~mask], images[~mask])
    assert (found[mask] - images[mask]).abs().min() > 0 and found.isfinite().all()


def test_a_flow_model_s_image_to_image_begins_at_its_strength(loaded: dict[str, Any]) -> None:
    source, case = loaded["StableDiffusion3Pipeline"], CASES["StableDiffusion3Pipeline"]
    scheduler = Scheduler.from_config(source.scheduler.config, solver="dpmpp_3m")
    parts = {
        key: value for key, value in source.components.items() if key not in ("image_encoder", "feature_extractor")
    }
    pipe = lib.StableDiffusion3Img2ImgPipeline(**{**parts, "scheduler": scheduler})
    pipe.set_progress_bar_config(disable=True)
    images = randn(1, BATCH, 4, SIZE, SIZE)
    torch.manual_seed(4)
    found = pipe(image=images, strength=0.5, num_inference_steps=8, **case.arguments(), return_dict=False)[0]
    even = np.linspace(1, 1 / 8, 8)
    times = np.append(3 * even / (1 + 2 * even), 0.0)[4:]
    torch.manual_seed(4)
    x = (1 - times[0]) * images + times[0] * torch.randn(BATCH, 4, SIZE, SIZE)
    expected = scoresde.sample(case.model(source), "dpmpp_3m", x_init=x.float(), grid=times)
    assert pipelines.relative(found, expected.samples) < TOLERANCE
