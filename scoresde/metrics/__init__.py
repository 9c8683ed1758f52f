"""How good samples are: figures in named feature spaces, with intervals, and the floors they are read against."""

from scoresde.files.bundled import DEFAULT as BUNDLED
from scoresde.metrics import clip_score, real_images, spaces
from scoresde.metrics.clip_score import ClipScore
from scoresde.metrics.collector import Collector, Figures
from scoresde.metrics.fid import FID, Score
from scoresde.metrics.figures.error import rms_error
from scoresde.metrics.figures.estimate import Estimate, share
from scoresde.metrics.figures.frechet import frechet_distance, frechet_error
from scoresde.metrics.figures.kid import kid
from scoresde.metrics.figures.precision_recall import precision_recall
from scoresde.metrics.figures.sliced import sliced_wasserstein
from scoresde.metrics.floors import Floors, SampleFeatures, floors, real_floor
from scoresde.metrics.labels import class_labels
from scoresde.metrics.measure import Measure
from scoresde.metrics.moments import Moments
from scoresde.metrics.points import PointMeasure
from scoresde.metrics.reference import Reference
from scoresde.metrics.spaces.network import FeatureNetwork, FeatureSpace, load_features, save_features
from scoresde.metrics.spaces.patches import PatchNetwork
from scoresde.metrics.spaces.pixels import PixelSpace
from scoresde.metrics.spaces.space import Space
from scoresde.metrics.statistics import Statistics, load_moments

__all__ = [
    "BUNDLED",
    "FID",
    "ClipScore",
    "Collector",
    "Estimate",
    "FeatureNetwork",
    "FeatureSpace",
    "Figures",
    "Floors",
    "Measure",
    "Moments",
    "PatchNetwork",
    "PixelSpace",
    "PointMeasure",
    "Reference",
    "SampleFeatures",
    "Score",
    "Space",
    "Statistics",
    "class_labels",
    "clip_score",
    "floors",
    "frechet_distance",
    "frechet_error",
    "kid",
    "load_features",
    "load_moments",
    "precision_recall",
    "real_floor",
    "real_images",
    "rms_error",
    "save_features",
    "share",
    "sliced_wasserstein",
    "spaces",
]
