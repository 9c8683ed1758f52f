"""In every frame the slope is the derivative of the state along exact trajectories."""

from __future__ import annotations

import math

import pytest
import torch

from scoresde.exact import Gaussian
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers.base import tensor_views
from solvers.coefficients import frames
from solvers.steps import Point

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]

every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
every_frame = pytest.mark.parametrize("frame", frames.FRAMES)


@every_frame
@every_process
def test_the_slope_is_the_derivative_along_exact_trajectories(process: Process, frame: str) -> None:
    chosen = frames.get(frame, process)
    model = Gaussian(process, [0.5, -1.0], [[0.7, 0.3], [0.3, 0.4]])
    for half_log_snr in (-2.0, 0.2, 3.0):
        middle = Point.at(process, process.time(half_log_snr))
        x = middle.alpha * torch.tensor([[1.0, 0.3], [-0.4, 2.0]], dtype=torch.float64)
        w, h = chosen.variable(middle), 1e-4 * chosen.variable(middle)
        ends = []
        for end in (w - h, w + h):
            point = Point.at(process, process.time(chosen.half_log_snr(end)))
            ends.append(model.solution(x, middle.t, point.t) / chosen.scale(point))
        slope = chosen.slope(tensor_views(model.output, "sample")(x, middle), middle)
        torch.testing.assert_close((ends[1] - ends[0]) / (2 * h), slope, rtol=1e-6, atol=1e-7)


@every_frame
@every_process
def test_a_noise_level_is_found_again_by_the_variable(process: Process, frame: str) -> None:
    chosen = frames.get(frame, process)
    for half_log_snr in (-3.0, -0.5, 0.0, 4.0):
        point = Point.at(process, process.time(half_log_snr))
        assert chosen.half_log_snr(chosen.variable(point)) == pytest.approx(half_log_snr, abs=1e-9)


def test_flow_and_vp_frames_are_finite_at_both_ends() -> None:
    noise, data = Point.at(Flow(), 1.0), Point.at(Flow(), 0.0)
    for name, first in (("flow", 1.0), ("vp", math.pi / 2)):
        chosen = frames.get(name, Flow())
        assert (chosen.scale(noise), chosen.scale(data)) == (1.0, 1.0)
        assert (chosen.variable(noise), chosen.variable(data)) == (first, 0.0)
        assert (chosen.half_log_snr(first), chosen.half_log_snr(0.0)) == (-math.inf, math.inf)


def test_the_default_is_flow_on_flow_and_edm_elsewhere() -> None:
    assert {process.name: frames.get(None, process).name for process in PROCESSES} == {
        **{process.name: "edm" for process in PROCESSES},
        "flow": "flow",
    }


def test_an_unknown_frame_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="unknown frame 'edn'; did you mean 'edm'"):
        frames.get("edn", VP())


def test_a_frame_without_an_inverse_finds_the_level_of_its_variable() -> None:
    edm = frames.FRAMES.get("edm")
    bare = frames.Frame("bare", scale=edm.scale, slope=edm.slope, position=edm.position, rate=edm.rate)
    for lam in (-12.3, -1.0, 0.0, 4.5, 20.0):
        assert bare.half_log_snr(edm.position(lam)) == pytest.approx(edm.half_log_snr(edm.position(lam)), abs=1e-9)
