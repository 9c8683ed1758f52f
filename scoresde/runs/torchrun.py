"""What torchrun tells the processes that it starts, which is known before torch is."""

from __future__ import annotations

import os


def several() -> bool:
    """Whether this is one of several processes, as ``torchrun`` tells them by their environment."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def restarted() -> bool:
    """Whether ``torchrun --max-restarts`` has started the command again, which then goes on with what it has done."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
