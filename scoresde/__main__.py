"""``python -m scoresde``: the same as the command ``scoresde``."""

from __future__ import annotations

import sys

from scoresde.commands.main import main

sys.exit(main())
