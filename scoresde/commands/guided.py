"""Guided models from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from scoresde import guidance, models
from scoresde.models import Checkpoint
from scoresde.score import ScoreModel, networks
from scoresde.score import models as inside

CLASSIFIER_FREE = guidance.ClassifierFree.name


def guided(
    model: ScoreModel, group: Mapping[str, Any], checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> ScoreModel:
    """The model under the guidance that ``conf/guidance`` chose; itself for ``none``.

    Args:
        model: the checkpoint's, on any process.
        group: the chosen name with its options, nested under ``of``; a weaker model is the folder ``weak``.
        checkpoint: says which label is "no label".
        device, dtype: of a weaker model.

    Raises:
        ValueError: unknown guidance or an option out of range; guidance by class of a model that has none.
        TypeError: an option that the guidance does not have.
    """
    chosen, folder = _without_weak(group)
    if chosen["name"] is None:
        return model
    if (pipeline := _pipeline(model)) is not None:
        found = pipeline.called(**_call(group))
        seen = found.on(model.process)
        seen.guidance, seen.scales = found.guidance, found.scales
        return seen
    recipe = guidance.get(**chosen)
    if not checkpoint.classes and _by_class(recipe):
        raise ValueError(f"guidance {recipe.name!r} is by class, and this model has no classes: take guidance=none")
    weak = None if folder is None else models.load(folder, device=device, dtype=dtype).model
    return recipe(model, unconditional={"label": _no_label(group, checkpoint, recipe)}, weak=weak)


def check(group: Mapping[str, Any]) -> None:
    """See what can be seen of a guidance before there is a model.

    Raises:
        ValueError, TypeError: as for :func:`guided`.
    """
    chosen, folder = _without_weak(group)
    if chosen["name"] is not None:
        guidance.get(**chosen)
    if folder is not None and models.foreign(folder) is None:
        models.find(folder)


def _pipeline(model: ScoreModel) -> Any:
    """A pipeline of diffusers, which guides by itself; None for any other model."""
    return next((inner for inner in inside(model) if hasattr(inner, "called")), None)


def _call(group: Mapping[str, Any]) -> dict[str, Any]:
    """A guidance as a pipeline has it.

    Raises:
        ValueError: it has none such.
    """
    options, rescale = dict(group), 0.0
    if options["name"] == guidance.Rescale.name and options.get("view") is None:
        rescale, options = float(options.get("factor", 0.7)), {"name": CLASSIFIER_FREE, **options.get("of", {})}
    if options.pop("name") != CLASSIFIER_FREE:
        raise ValueError(
            f"a pipeline guides by itself, as guidance={CLASSIFIER_FREE} or {guidance.Rescale.name}, not as "
            f"{group['name']}"
        )
    if options.pop("unconditional", None) is not None:
        raise ValueError("guidance.unconditional is a label, and a pipeline has prompts: give negative_prompt=")
    if options.pop("batched", True) is not True:
        raise ValueError("guidance.batched=false is not for pipelines, which guide in one call")
    return {**options, "rescale": rescale}


def _no_label(group: Mapping[str, Any], checkpoint: Checkpoint, recipe: guidance.Guidance) -> int:
    """The label that stands for none, as the guidance names it or the model has it.

    Raises:
        ValueError: the model has none, or not the one that is named.
    """
    count = next((c for net in networks(checkpoint.model) if type(c := getattr(net, "label_count", None)) is int), None)
    named = _unconditional(group)
    if named is None:
        if count is not None and _by_class(recipe) and count == checkpoint.classes:
            raise ValueError(
                f'this model has no label for "no label": guidance.unconditional= names the one of 0 to {count - 1} '
                "that stands for it"
            )
        return checkpoint.classes
    most = checkpoint.classes if count is None else count - 1
    if type(named) is not int or not 0 <= named <= most:
        raise ValueError(f"guidance.unconditional must be a label from 0 to {most}, got {named!r}")
    return named


def _unconditional(group: Mapping[str, Any]) -> Any:
    inner = group.get("of")
    found = group.get("unconditional")
    return _unconditional(inner) if found is None and isinstance(inner, Mapping) else found


def recorded(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group with the fingerprint of a weaker model, which tells a retrained one from what was there before."""
    folder = weak_folder(group)
    known = _said(group)
    return known if folder is None else {**known, "weak_sha256": models.fingerprint(folder)}


def _said(group: Mapping[str, Any]) -> dict[str, Any]:
    """The group without a label that nobody named, so that runs of before there was such a setting are the same."""
    found = {key: value for key, value in group.items() if key != "unconditional" or value is not None}
    return {**found, "of": _said(found["of"])} if isinstance(found.get("of"), Mapping) else found


def weak_folder(group: Mapping[str, Any]) -> str | None:
    """The folder of the weaker model that a guidance asks for, if it does."""
    return _without_weak(group)[1]


def _without_weak(group: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    options = dict(group)
    folder = options.pop("weak", None)
    options.pop("unconditional", None)
    if isinstance(options.get("of"), Mapping):
        options["of"], inner = _without_weak(options["of"])
        folder = folder or inner
    return options, folder


def _by_class(recipe: guidance.Guidance) -> bool:
    return recipe.name == guidance.ClassifierFree.name or (recipe.of is not None and _by_class(recipe.of))
