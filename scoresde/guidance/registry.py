"""The names by which guidance is found."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scoresde.guidance.autoguidance import Autoguidance
from scoresde.guidance.classifier import ClassifierGuidance, LogProb
from scoresde.guidance.classifier_free import ClassifierFree
from scoresde.guidance.guided import Guided
from scoresde.guidance.rescale import Rescale
from scoresde.guidance.threshold import DynamicThreshold
from scoresde.score import ScoreModel
from solvers.errors import check_options, nearest

KINDS: dict[str, type[Guided]] = {
    kind.name: kind for kind in (ClassifierFree, Autoguidance, ClassifierGuidance, Rescale, DynamicThreshold)
}
NEEDS = {
    "unconditional": "the unconditional condition, such as {'label': 10}",
    "weak": "a weaker model",
    "classifier": "a classifier of noisy states",
}


@dataclass(frozen=True)
class Guidance:
    """A kind of guidance with its options, which makes a guided model of a model.

    Attributes:
        name: of the kind.
        options: all of them.
        of: the guidance that comes first, inside; None for none.
    """

    name: str
    options: Mapping[str, Any]
    of: Guidance | None = None

    def __call__(
        self,
        model: ScoreModel,
        *,
        unconditional: Mapping[str, Any] | None = None,
        weak: ScoreModel | None = None,
        classifier: LogProb | None = None,
    ) -> ScoreModel:
        """The guided model.

        Args:
            model: what to guide.
            unconditional: what takes the place of the condition, for ``classifier_free`` and ``classifier``.
            weak: for ``autoguidance``.
            classifier: for ``classifier``.

        Raises:
            ValueError: something is needed and not given, or an option is out of range.
        """
        given = {"unconditional": unconditional, "weak": weak, "classifier": classifier}
        inner = (
            model if self.of is None else self.of(model, unconditional=unconditional, weak=weak, classifier=classifier)
        )
        needs = {}
        for key, parameter in inspect.signature(KINDS[self.name]).parameters.items():
            if key in given:
                if given[key] is None and parameter.default is parameter.empty:
                    raise ValueError(f"guidance {self.name!r} needs {NEEDS[key]}: give {key}=")
                needs[key] = given[key]
        return KINDS[self.name](inner, **needs, **self.options)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({options})" + (f" of {self.of}" if self.of else "")


def names() -> list[str]:
    """Names of all kinds of guidance."""
    return sorted(KINDS)


def get(name: str, *, of: Guidance | str | Mapping[str, Any] | None = None, **options: Any) -> Guidance:
    """The guidance of that name.

    Args:
        name: see :func:`names`.
        of: the guidance inside: one of :func:`get`, a name, or a mapping of a name and its options; a name of None is
            none.
        options: of the kind; those left out have their defaults.

    Raises:
        ValueError: unknown name; the nearest is given.
        TypeError: an option that the kind does not have.
    """
    if name not in KINDS:
        raise ValueError(f"unknown guidance {name!r}{nearest(name, KINDS)}")
    known = defaults(name)
    check_options(f"guidance {name!r}", options, [*known, "of"])
    return Guidance(name, {**known, **options}, _inner(of))


def defaults(name: str) -> dict[str, Any]:
    """Options of a kind of guidance."""
    parameters = inspect.signature(KINDS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _inner(of: Guidance | str | Mapping[str, Any] | None) -> Guidance | None:
    if of is None or isinstance(of, Guidance):
        return of
    if isinstance(of, str):
        return get(of)
    return None if of.get("name") is None else get(**of)
