"""Trained models, each with its process: loaded from wherever they are, and kept in folders."""

from __future__ import annotations

from scoresde.files.bundled import CONFIG, WEIGHTS, CheckpointError, bundled
from scoresde.integrations.diffusers.loading import from_diffusers
from scoresde.integrations.diffusers.repository import clip
from scoresde.models.folders import save
from scoresde.models.sources import DIFFUSERS, Place, beside, exact, find, fingerprint, foreign, home, load, of_text
from scoresde.networks import NETWORKS, build
from scoresde.networks.checkpoint import Checkpoint, check_levels

__all__ = [
    "CONFIG",
    "DIFFUSERS",
    "NETWORKS",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointError",
    "Place",
    "beside",
    "build",
    "bundled",
    "check_levels",
    "clip",
    "exact",
    "find",
    "fingerprint",
    "foreign",
    "from_diffusers",
    "home",
    "load",
    "of_text",
    "save",
]
