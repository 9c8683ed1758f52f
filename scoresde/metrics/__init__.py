"""How good samples are: figures in named feature spaces, with intervals, and the floors they are read against."""

from scoresde.metrics import spaces, statistics
from scoresde.metrics.error import rms_error
from scoresde.metrics.estimate import Estimate, share
from scoresde.metrics.features import FeatureNetwork, FeatureSpace, load_features, save_features
from scoresde.metrics.fid import BUNDLED, FID, Score
from scoresde.metrics.figures import Collector, Figures
from scoresde.metrics.floors import Floors, SampleFeatures, floors
from scoresde.metrics.frechet import frechet_distance, frechet_error
from scoresde.metrics.kid import kid
from scoresde.metrics.labels import MNIST_COUNTS, class_labels
from scoresde.metrics.measure import Measure
from scoresde.metrics.moments import Moments
from scoresde.metrics.pixels import PixelSpace
from scoresde.metrics.precision_recall import precision_recall
from scoresde.metrics.reference import Reference, Statistics, load_moments
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.metrics.space import Space

__all__ = [
    "BUNDLED",
    "FID",
    "MNIST_COUNTS",
    "Collector",
    "Estimate",
    "FeatureNetwork",
    "FeatureSpace",
    "Figures",
    "Floors",
    "Measure",
    "Moments",
    "PixelSpace",
    "Reference",
    "SampleFeatures",
    "Score",
    "Space",
    "Statistics",
    "class_labels",
    "floors",
    "frechet_distance",
    "frechet_error",
    "kid",
    "load_features",
    "load_moments",
    "precision_recall",
    "rms_error",
    "save_features",
    "share",
    "sliced_wasserstein",
    "spaces",
    "statistics",
]
