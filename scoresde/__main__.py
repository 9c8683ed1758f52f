"""``python -m scoresde``: the same as the command ``scoresde``."""

from __future__ import annotations

import sys

from scoresde.commands.main import main

if __name__ == "__main__":  # processes that this one spawns import it too
    sys.exit(main())
