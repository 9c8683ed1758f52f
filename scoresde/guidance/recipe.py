"""Guidance as a recipe: a kind by its name, with its options."""

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
from solvers.registry import Registry

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
        for key, parameter in inspect.signature(_KINDS[self.name]).parameters.items():
            if key in given:
                if given[key] is None and parameter.default is parameter.empty:
                    raise ValueError(f"guidance {self.name!r} needs {NEEDS[key]}: give {key}=")
                needs[key] = given[key]
        return _KINDS[self.name](inner, **needs, **self.options)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({options})" + (f" of {self.of}" if self.of else "")


GUIDANCES: Registry[Guidance] = Registry("guidance")
get, names = GUIDANCES.get, GUIDANCES.names


def register(kind: type[Guided]) -> type[Guided]:
    """Make a kind of guidance known by its ``name``, for :func:`get`: its keyword-only arguments are the options.

    ``of`` is an option of all: the guidance inside, as one of :func:`get`, a name, or a mapping of a name and its
    options; a name of None is none.

    Raises:
        ValueError: the name is taken.
    """
    parameters = inspect.signature(kind).parameters.values()
    options = [value for value in parameters if value.kind is value.KEYWORD_ONLY]
    defaults = {value.name: value.default for value in options}

    def make(*, of: Guidance | str | Mapping[str, Any] | None = None, **given: Any) -> Guidance:
        return Guidance(kind.name, {**defaults, **given}, _inner(of))

    of = inspect.Parameter("of", inspect.Parameter.KEYWORD_ONLY, default=None)
    make.__doc__, make.__name__, make.__module__ = kind.__doc__, kind.name, kind.__module__
    make.__signature__ = inspect.Signature([*options, of], return_annotation=Guidance)  # type: ignore[attr-defined]
    GUIDANCES.add(kind.name, make)
    _KINDS[kind.name] = kind
    return kind


_KINDS: dict[str, type[Guided]] = {}
for _kind in (ClassifierFree, Autoguidance, ClassifierGuidance, Rescale, DynamicThreshold):
    register(_kind)


def _inner(of: Guidance | str | Mapping[str, Any] | None) -> Guidance | None:
    if of is None or isinstance(of, Guidance):
        return of
    if isinstance(of, str):
        return get(of)
    return None if of.get("name") is None else get(**of)
