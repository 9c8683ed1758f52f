"""Pipelines of diffusers, tuned and judged on fresh seeds and prompts: python -m benchmarks.tuning.pipelines.

The pipelines are small and their weights random, so that the figures say that what is fitted is what runs, and nothing
of pictures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.agreement.tiny_pipelines import CASES, PROMPTS, SIZE
from scoresde.integrations.diffusers import Scheduler, tune
from scoresde.noise import Noise

NFE, COUNT, SCALE = 4, 32, 3.0
FIXED = ("auto", "uni_pc", "dpmpp_2m", "ddim")


def conditions(name: str, count: int, seed: int) -> dict[str, Any]:
    """Prompts, or embeddings where the pipeline has no text encoder; of another seed they are others."""
    if name == "StableDiffusionPipeline":
        return {"prompt": [f"{prompt} {chr(97 + seed)}" for prompt in (PROMPTS * count)[:count]]}
    random = torch.Generator().manual_seed(seed)
    shapes = {"prompt_embeds": (5, 16), "pooled_prompt_embeds": (16,)}
    given = {key: torch.randn(count, *shape, generator=random) for key, shape in shapes.items()}
    return given | {f"negative_{key}": torch.zeros_like(value) for key, value in given.items()}


def run(pipe: Any, config: Any, steps: int, latents: Tensor, call: dict[str, Any], **choice: Any) -> Tensor:
    """What the pipeline makes of latents with a scheduler of ours."""
    pipe.scheduler = Scheduler.from_config(config, **choice)
    return pipe(latents=latents, num_inference_steps=steps, output_type="latent", **call).images


def main() -> None:
    for name in ("StableDiffusionPipeline", "StableDiffusion3Pipeline"):
        pipe = CASES[name].saved_and_loaded()
        config, call = pipe.scheduler.config, dict[str, Any](guidance_scale=SCALE)
        if name != "StableDiffusionPipeline":
            call |= {"height": SIZE, "width": SIZE}
        seeds = range(1000, 1000 + COUNT)
        made = tune(pipe, conditions(name, 4, 0), nfe=NFE, seeds=seeds, batch_size=COUNT, **call)
        latents = Noise(range(COUNT), made.about["shape"], torch.float32)()
        call |= conditions(name, COUNT, 1)
        ends = run(pipe, config, 256, latents, call, solver="uni_pc", order=3, grid="quadratic")
        with tempfile.TemporaryDirectory() as folder:
            made.save(Path(folder) / "tuned.json")
            choices = {"tuned": {"tuned": Path(folder) / "tuned.json"}} | {each: {"solver": each} for each in FIXED}
            for label, choice in choices.items():
                apart = (run(pipe, config, NFE, latents, call, **choice) - ends).flatten(1)
                print(f"{name} {label}: {float(apart.square().mean(1).sqrt().mean()):.4f}", flush=True)


if __name__ == "__main__":
    main()
