"""``scoresde plan``: what a solver does on a grid, as numbers and as a picture, before any run."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig

from scoresde.commands import values
from scoresde.commands.measured import loaded
from scoresde.commands.request import PASSING, Asked
from scoresde.files.text import say
from scoresde.report import plans
from scoresde.runs import record

FILE, PICTURE = "plan.json", "plan.png"


def run(config: DictConfig, out: Path) -> None:
    """Print the plan that ``conf/plan.yaml`` asks for, and keep it with its picture in the folder ``out``.

    Raises:
        ValueError: a setting out of range, or a solver that chooses its own steps and so has no plan.
    """
    settings, device = values.resolved(config, without=PASSING), torch.device("cpu")
    asked = Asked.of(config, settings)
    sampler, _, _ = asked.sampler(config, settings, loaded(settings, device), device, out)
    plan = sampler.plan
    if plan is None:
        raise ValueError(f"{asked.solver} has no plan: it chooses its steps as it goes")
    with record.held(out) as unwritable:
        record.complete(out, settings, (FILE, PICTURE))  # refuses another configuration's folder
        if unwritable is not None:
            raise unwritable
        record.write(out, settings, device)
        plan.save(out / FILE)
        plans.draw(plan, out / PICTURE)
    say(f"{plan}\n\n{out}: {FILE}, {PICTURE}, {record.CONFIG}, {record.VERSIONS}")
