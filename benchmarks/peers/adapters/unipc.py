"""UniPC's own code (https://github.com/wl-zhao/UniPC), on the continuous VP process."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.adapters import Sample, clone, dpm_solver, source


def load(folder: Path | None) -> tuple[str, Sample]:
    root, commit = clone(folder, "UniPC")
    return commit, dpm_solver.sampler(source(root / "uni_pc.py", "uni_pc"), "UniPC")
