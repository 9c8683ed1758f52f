"""Images for training and reference statistics, from wherever the user has them."""

from scoresde.data.errors import DataError, DataWarning
from scoresde.data.images import SKLEARN, Images, Stream, load, picture, to_pixels, to_state
from scoresde.data.mapped import load_mapped
from scoresde.data.resizing import Resizing
from scoresde.data.sources import SUFFIXES, located, numbered
from scoresde.data.tables import Columns

__all__ = [
    "SKLEARN",
    "SUFFIXES",
    "Columns",
    "DataError",
    "DataWarning",
    "Images",
    "Resizing",
    "Stream",
    "load",
    "load_mapped",
    "located",
    "numbered",
    "picture",
    "to_pixels",
    "to_state",
]
