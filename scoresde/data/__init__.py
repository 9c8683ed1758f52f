"""Images for training and reference statistics, from wherever the user has them."""

from scoresde.data.images import SUFFIXES, DataError, DataWarning, Images, Stream, load, located, to_pixels, to_state
from scoresde.data.resizing import Resizing

__all__ = [
    "SUFFIXES",
    "DataError",
    "DataWarning",
    "Images",
    "Resizing",
    "Stream",
    "load",
    "located",
    "to_pixels",
    "to_state",
]
