"""``scoresde certify``: whether a solver converges with the order that it declares."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import solvers
from scoresde import process as processes
from scoresde.commands import values
from scoresde.files import replacing
from scoresde.files.text import say
from scoresde.runs import record
from solvers.certificate import SHAPES, declared
from solvers.errors import known

RESULT = "certificate.json"


def run(config: DictConfig, out: Path) -> None:
    """Measure as ``conf/certify.yaml`` says; print what is found as it comes, and keep it in the folder ``out``.

    Raises:
        ValueError: a setting out of range, a solver that declares no order, or an order that does not hold.
    """
    settings = values.resolved(config)
    name, options = values.named(settings["solver"])
    solver = solvers.get(str(name), **options)
    order = declared(solver)  # what has none is refused before there is a folder
    forward = {each: processes.get(each) for each in values.several(settings, "processes", processes.PROCESSES)}
    shapes = [known("shape", shape, SHAPES) for shape in values.several(settings, "shapes", SHAPES)]
    with record.held(out) as unwritable:
        record.complete(out, settings, (RESULT,))  # refuses another configuration's folder
        if unwritable is not None:
            raise unwritable
        record.write(out, settings, torch.device("cpu"))
        rows: list[dict[str, Any]] = []
        for each, shape in itertools.product(forward, shapes):
            found = solvers.certify(solver, {each: forward[each]}, [shape])
            head, *lines = str(found).splitlines()
            say("\n".join(lines if rows else [head, *lines]))
            rows += found.rows()
        content = {"solver": solver.name, "options": dict(solver.options), "measured": rows}
        with replacing(out / RESULT) as path:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    say(f"{out}: {RESULT}, {record.CONFIG}, {record.VERSIONS}")
    if wrong := [row for row in rows if not row["holds"]]:
        row = wrong[0]
        raise ValueError(
            f"{solver.name} declares order {order}, which does not hold on {row['process']}, "
            f"{row['grid']} steps ({len(wrong)} of {len(rows)} do not)"
        )
