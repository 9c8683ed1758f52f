"""Networks, and model folders that hold a trained one together with its process."""

from __future__ import annotations

from scoresde.models.checkpoint import (
    CONFIG,
    NETWORKS,
    WEIGHTS,
    Checkpoint,
    CheckpointError,
    build,
    bundled,
    find,
    fingerprint,
    load,
    save,
)
from scoresde.models.from_diffusers import from_diffusers

__all__ = [
    "CONFIG",
    "NETWORKS",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointError",
    "build",
    "bundled",
    "find",
    "fingerprint",
    "from_diffusers",
    "load",
    "save",
]
