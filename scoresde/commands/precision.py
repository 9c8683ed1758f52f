"""``dtype=auto``: the precision in which a network is quicker on this machine, found once for a folder."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from scoresde.models import Checkpoint
from scoresde.runs import record
from scoresde.score import PRECISIONS, ScoreModel

AUTO = "auto"
CHOICES = ("float32", "bfloat16")
RUNS = 3  # timed evaluations in each precision; the quickest counts, since other work only ever slows one down


def chosen(out: Path | None, key: str, checkpoint: Checkpoint, batch_size: int, device: torch.device) -> str:
    """What the folder was begun with, as ``key`` of its configuration says; measured, where it says nothing.

    Args:
        out: the folder of results; None for one that is begun anew.
        key: of the recorded configuration.
        checkpoint: its network is timed in a batch of ``batch_size``, once unmeasured and then in turns.
        batch_size: as in the run.
        device: of the network.
    """
    recorded = (record.recorded(out) or {}).get(key) if out else None
    return recorded if recorded in PRECISIONS else quicker(checkpoint, batch_size, device)


def quicker(checkpoint: Checkpoint, batch_size: int, device: torch.device) -> str:
    """``float32`` or ``bfloat16``, by the time of an evaluation of the network; an exact model has none."""
    if not isinstance(checkpoint.model.net, nn.Module):
        return "float32"
    models = {name: _in(checkpoint.model, name) for name in CHOICES}
    state = torch.zeros((batch_size, *checkpoint.shape), device=device)
    cond = {"label": torch.zeros(batch_size, dtype=torch.long, device=device)} if checkpoint.classes else {}
    for model in models.values():
        _seconds(model, state, cond)
    times = {name: min(_seconds(model, state, cond) for _ in range(RUNS)) for name, model in models.items()}
    return min(times, key=lambda name: times[name])


def _in(model: ScoreModel, name: str) -> ScoreModel:
    found = copy.copy(model)
    if isinstance(model.net, nn.Module):
        found.net = copy.deepcopy(model.net).to(PRECISIONS[name])
    return found


def _seconds(model: ScoreModel, state: Tensor, cond: dict[str, Tensor]) -> float:
    start = time.perf_counter()
    with torch.no_grad():
        model.output(state, 0.5 * (model.process.t_min + model.process.t_max), **cond)
    if state.device.type != "cpu":
        torch.accelerator.synchronize(state.device)
    return time.perf_counter() - start
