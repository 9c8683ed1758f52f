"""Plans: programs that run on tensors, know their moments, and lie in files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from solvers.plan.execute import execute
from solvers.plan.gaussian import Moments, moments
from solvers.plan.instructions import PlanError, decode, encode, number
from solvers.plan.program import Program
from solvers.steps import Process

FORMAT = "scoresde-plan"
VERSION = 1


class Plan(Program):
    """A solver on a grid for one process and prediction type; see :class:`solvers.plan.program.Program`."""

    def run(
        self,
        predict: Callable[[Tensor, float], Any],
        x: Tensor,
        noise: Callable[[], Tensor] | None = None,
        *,
        step: Callable[[Tensor, float], Tensor | None] | None = None,
    ) -> Tensor:
        """Execute the plan.

        Args:
            predict: called as ``predict(x, t)`` with a float t; returns the output in the plan's prediction type,
                shaped like x, or a mapping from names to such outputs with the model's own under ``"model"``.
            x: the state at ``times[0]``, any shape.
            noise: gives the next standard normal tensor shaped like x at each call; not needed if the plan draws none.
            step: called after each step as ``step(x, t)``; a tensor that it returns takes the place of the state.

        Returns:
            The state at ``times[-1]``. ``x`` and the model's outputs are left as they are.

        Raises:
            PlanError: the plan draws noise and none is given.
        """
        return execute(self, predict, x, noise, step)

    def moments(self, process: Process, mean: Any = 0.0, variance: Any = 1.0) -> Moments:
        """Exact mean and variance of the samples on Gaussian data; see :func:`solvers.plan.gaussian.moments`."""
        return moments(self, process, mean, variance)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; floats are kept exactly."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "solver": self.solver,
            "options": dict(self.options),
            "prediction": self.prediction,
            "times": list(self.times),
            "instructions": [encode(instruction) for instruction in self.instructions],
        }
        path, text = Path(path), json.dumps(content, indent=1) + "\n"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that :meth:`save` wrote.

        Raises:
            PlanError: the file is damaged, of another format or version, or not a valid program.
        """
        if Path(path).exists() and not Path(path).is_file():
            raise PlanError(f"{str(path)!r} is not a plan: it is no file")  # and might be waited for without end
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise PlanError(f"{str(path)!r} is not a plan: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise PlanError(f"{str(path)!r} is not a plan: its format is not {FORMAT!r}")
        if content.get("version") != VERSION:
            raise PlanError(f"{str(path)!r} is a plan of version {content.get('version')!r}; this is version {VERSION}")
        try:
            return cls(
                solver=str(content["solver"]),
                options=dict(**content["options"]),
                prediction=content["prediction"],
                times=tuple(number(t) for t in content["times"]),
                instructions=tuple(decode(*instruction) for instruction in content["instructions"]),
            )
        except PlanError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(f"{str(path)!r} is not a valid plan: {error!r}") from error
