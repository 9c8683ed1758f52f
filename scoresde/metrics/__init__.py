"""FID in the space of a small feature network, streamed in float64, and the floors it is read against."""

from scoresde.metrics.features import FeatureNetwork, FeatureSpace, load_features, save_features
from scoresde.metrics.fid import BUNDLED, FID, Score
from scoresde.metrics.floors import Floors, SampleFeatures, floors
from scoresde.metrics.frechet import frechet_distance
from scoresde.metrics.labels import MNIST_COUNTS, class_labels
from scoresde.metrics.moments import Moments

__all__ = [
    "BUNDLED",
    "FID",
    "MNIST_COUNTS",
    "FeatureNetwork",
    "FeatureSpace",
    "Floors",
    "Moments",
    "SampleFeatures",
    "Score",
    "class_labels",
    "floors",
    "frechet_distance",
    "load_features",
    "save_features",
]
