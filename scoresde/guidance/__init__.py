"""Guidance: score models around score models, which push samples towards their condition or keep them in bounds.

    guided = scoresde.guidance.get("classifier_free", scale=2)(model, unconditional={"label": 10})
    scoresde.sample(guided, "dpmpp_2m", nfe=10, shape=(16, 1, 28, 28), cond={"label": labels})

What comes out is a :class:`scoresde.ScoreModel` of the same process and prediction type, which can be guided again.
"""

from __future__ import annotations

from scoresde.guidance.autoguidance import Autoguidance
from scoresde.guidance.classifier import ClassifierGuidance
from scoresde.guidance.classifier_free import ClassifierFree
from scoresde.guidance.guided import Guided
from scoresde.guidance.interval import OnInterval
from scoresde.guidance.recipe import GUIDANCES, Guidance, get, names, register
from scoresde.guidance.rescale import Rescale
from scoresde.guidance.threshold import DynamicThreshold

__all__ = [
    "GUIDANCES",
    "register",
    "Autoguidance",
    "ClassifierFree",
    "ClassifierGuidance",
    "DynamicThreshold",
    "Guidance",
    "Guided",
    "OnInterval",
    "Rescale",
    "get",
    "names",
]
