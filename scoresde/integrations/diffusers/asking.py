"""A pipeline of diffusers as a network: run up to its scheduler's first step, it says what it makes of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from scoresde.conditions import SCALE
from scoresde.integrations.diffusers.conventions import Trained
from scoresde.integrations.diffusers.denoisers import unwrapped
from scoresde.integrations.diffusers.scheduler import Scheduler
from scoresde.integrations.schedule import Schedule


class Done(Exception):  # noqa: N818  (how a run is left, and nothing that went wrong)
    """Nothing more of the pipeline is wanted."""


class Asking(Scheduler):
    """A scheduler with one evaluation, at a time that is asked for, whose output it keeps."""

    asked: float
    sample: Tensor
    output: Tensor

    @property
    def init_noise_sigma(self) -> float:
        """1: the latents that are given are the state."""
        return 1.0

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        original_inference_steps: int | None = None,
        strength: float = 1.0,
    ) -> None:
        """The one evaluation, whatever is given."""
        process = self._trained.process
        t = min(max(float(self._trained.process_time(self.asked)), process.t_min), process.t_max)
        plan = self._solver.plan(process, [t, process.t_clean], self._trained.prediction)
        self._take(Schedule(self._trained, self._solver, plan), device)

    def step(self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, *others: Any, **named: Any) -> Any:
        """Keep the output, and leave the pipeline."""
        self.output, self.sample = model_output, sample
        raise Done


class PipelineNetwork(nn.Module):
    """What the pipeline hands its scheduler for latents and a time, as a network of those and of what belongs to a row.

    Its parameters are those of the pipeline's denoisers.
    """

    def __init__(self, pipe: Any, asking: Asking, rows: Mapping[str, Any], options: Mapping[str, Any]):
        super().__init__()
        inner = (part for part in pipe.components.values() if isinstance(part, nn.Module))
        # Autoencoders of diffusers decode, text encoders and checkers are none of its models.
        own = [part for part in inner if isinstance(unwrapped(part), ModelMixin) and not hasattr(part, "decode")]
        self.parts = nn.ModuleList(own)
        self.pipe, self.asking, self.rows, self.options = pipe, asking, rows, options

    def forward(self, x: Tensor, t: Tensor, row: Tensor, guidance_scale: Tensor | None = None) -> Tensor:
        """The output at states x of shape (batch, …), each at its own time, of its own row and at its own scale."""
        scales = [None] * len(x) if guidance_scale is None else guidance_scale.tolist()
        kinds = dict[tuple[float, float | None], list[int]]()
        for place, kind in enumerate(zip(t.tolist(), scales, strict=True)):
            kinds.setdefault(kind, []).append(place)
        out = torch.empty_like(x)
        for (time, scale), places in kinds.items():  # a pipeline takes one of each
            those = slice(None) if len(kinds) == 1 else places
            out[those] = self._asked(x[those], time, row[those], {} if scale is None else {SCALE: scale})
        return out

    def _asked(self, x: Tensor, t: float, row: Tensor, more: Mapping[str, Any]) -> Tensor:
        self.asking.asked = t
        self.run(row, latents=x, num_inference_steps=1, **more)
        if self.asking.sample.shape != x.shape:
            raise ValueError(
                f"{type(self.pipe).__name__} was given latents of {tuple(x.shape)}, and steps states of "
                f"{tuple(self.asking.sample.shape)}: it is no model of its latents"
            )
        return self.asking.output[:, : x.shape[1]].to(x.dtype)  # a variance that was learned is left aside

    def run(self, row: Tensor, **more: Any) -> None:
        """The pipeline with the conditions of some rows, until its scheduler has what it wants."""
        index = row.tolist()
        own = {
            key: value[index] if isinstance(value, Tensor) else [value[place] for place in index]
            for key, value in self.rows.items()
        }
        try:
            self.pipe(**{**own, **self.options, **more})
        except Done:
            return
        raise ValueError(f"{type(self.pipe).__name__} ended without a step of its scheduler")

    def shape(self, trained: Trained, cond: Mapping[str, Tensor]) -> tuple[int, ...]:
        """That of one state, as the pipeline makes it by itself for the first row of a condition."""
        self.asking.asked = float(trained.time_input(trained.process.t_max))
        more = {SCALE: float(cond[SCALE][0])} if SCALE in cond else {}
        self.run(cond["row"][:1], num_inference_steps=1, **more)
        return tuple(self.asking.sample.shape[1:])
