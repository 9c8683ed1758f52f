"""Pipelines of every family of the pinned diffusers, and all that any of them asks of a scheduler."""

from __future__ import annotations

import json
from dataclasses import asdict

import diffusers
import pytest
import torch

from benchmarks.agreement import pipeline_calls
from benchmarks.agreement.families import FAMILIES, Family
from benchmarks.recorded import RESULTS

RECORDED = json.loads((RESULTS / "pipeline_calls.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_small_one_of_every_family_runs(family: Family) -> None:
    own = family.call(family.made())
    found = pipeline_calls.ours(family, "dpmpp_2m")
    assert found.shape == own.shape and bool(found.isfinite().all())
    if family.solver:  # the same method on the same times
        assert pipeline_calls.difference(family, own) < 1e-5


def test_a_stochastic_solver_runs_in_a_pipeline_that_steps_parts_on_their_own() -> None:
    family = next(each for each in FAMILIES if each.name == "LTXConditionPipeline")
    assert torch.equal(pipeline_calls.ours(family, "ddpm"), pipeline_calls.ours(family, "ddpm"))


def test_what_pipelines_ask_is_what_was_recorded_with_the_pinned_diffusers() -> None:
    found = {one.name: asdict(one) for one in pipeline_calls.asked()}
    recorded = {one["name"]: one for one in RECORDED["pipelines"]}
    if diffusers.__version__ == RECORDED["diffusers"]:
        assert found == recorded
    else:  # another one, which has pipelines of its own; those of both ask of us what we have
        fitting = {name for name, one in recorded.items() if not one["lacking"]}
        assert all(not found[name]["lacking"] for name in found.keys() & fitting)


def test_what_is_lacking_is_of_schedulers_of_another_kind() -> None:
    found = pipeline_calls.asked()
    assert len(found) > 200
    assert {one.family for one in found if one.lacking} <= set(pipeline_calls.OTHERS)
    assert sum(not one.lacking for one in found) > 0.9 * len(found)
