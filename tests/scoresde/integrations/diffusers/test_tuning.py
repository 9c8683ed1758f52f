"""Pipelines of diffusers are tuned by running them, and give what the fit said when they take the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from benchmarks.agreement.families import FAMILIES, Family
from benchmarks.agreement.tiny_pipelines import CASES, lib
from scoresde import ScoreModel, TunedSolver, tuned
from scoresde.exact import GaussianMixture
from scoresde.integrations.diffusers import Scheduler, pipelines, read, tune
from scoresde.noise import Noise
from scoresde.score import as_times, expand
from scoresde.tuned import Fixed, Member
from scoresde.tuning.trajectories import Trajectories
from solvers import PlannedSolver
from solvers.coefficients.fitted import for_all

ANGLES = torch.arange(7, dtype=torch.float64) * (2 * torch.pi / 7)
MIXTURE = {
    "weights": torch.ones(7),
    "means": torch.stack([1.5 * ANGLES.cos(), 1.5 * ANGLES.sin(), torch.zeros(7), torch.zeros(7)], 1),
    "variances": torch.linspace(0.02, 0.1, 7)[[0, 4, 2, 6, 1, 5, 3]],
    "labels": list(range(7)),
}
WORDS = ["red", "orange", "yellow", "green", "blue", "violet", "grey"]  # prompts, one for each label
SCHEDULERS = {
    "VP": lambda: lib.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "flow": lambda: lib.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "EDM": lambda: lib.EDMEulerScheduler(),
}


class Exact(ModelMixin, ConfigMixin):
    """The exact network of a mixture, by the conventions of a scheduler's configuration."""

    @register_to_config
    def __init__(self, scheduler: dict[str, Any] | None = None):
        super().__init__()
        assert scheduler is not None
        self.trained = read(scheduler)
        self.mixture = GaussianMixture(self.trained.process, prediction=self.trained.prediction, **MIXTURE)
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        trained, times = self.trained, as_times(self.trained.process_time(t), x).clamp(max=self.trained.process.t_max)
        if trained.input_scale is not None:
            x = x / expand(trained.input_scale(times), x)
        out = self.mixture.output(x, times, label=label)
        return (out - expand(trained.c_skip(times), x) * x) / expand(trained.c_out(times), x) if self.scales else out

    @property
    def scales(self) -> bool:
        return self.trained.output_scales is not None


class ExactPipeline(lib.DiffusionPipeline):
    """Text to image as pipelines of diffusers go about it, with the exact network."""

    def __init__(self, transformer: Any, scheduler: Any):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        num_inference_steps: int = 50,
        guidance_scale: float = 2.0,
        late: bool = False,
        latents: Tensor | None = None,
    ) -> Tensor:
        self.scheduler.set_timesteps(num_inference_steps, device="cpu")
        label = torch.tensor([WORDS.index(word) for word in prompt])
        state = torch.randn(len(prompt), 4) if latents is None else latents
        state = state * self.scheduler.init_noise_sigma
        with self.progress_bar(total=num_inference_steps):
            for step, t in enumerate(self.scheduler.timesteps):
                x = self.scheduler.scale_model_input(state, t)
                both = torch.cat((label, torch.full_like(label, -1)))
                given, free = self.transformer(torch.cat((x, x)), t, both).chunk(2)
                scale = 1.0 if late and step == 0 else guidance_scale
                state = self.scheduler.step(free + scale * (given - free), t, state, return_dict=False)[0]
        return state


def exact(kind: str) -> Any:
    scheduler = SCHEDULERS[kind]()
    return ExactPipeline(Exact(dict(scheduler.config)), scheduler)


def samples(pipe: Any, latents: Tensor, steps: int, call: dict[str, Any], **choice: Any) -> Tensor:
    own = pipe.scheduler
    pipe.scheduler = Scheduler.from_config(own.config, **choice)
    try:
        return pipe(latents=latents, num_inference_steps=steps, **call)
    finally:
        pipe.scheduler = own


@pytest.mark.parametrize(("kind", "scale"), [("VP", 2.0), ("flow", 2.0), ("EDM", 1.5)])
def test_on_fresh_seeds_and_prompts_a_tuned_pipeline_is_nearer_to_converged_samples(
    kind: str, scale: float, tmp_path: Path
) -> None:
    pipe = exact(kind)
    pipe.set_progress_bar_config(desc="own")
    own = pipe.scheduler
    made = tune(pipe, WORDS[:6], nfe=3, seeds=range(500, 540), target="error", batch_size=40, guidance_scale=scale)
    assert pipe.scheduler is own and pipe._progress_bar_config == {"desc": "own"}
    assert made.members[3].numbers is not None
    assert str(made.about["guidance"]).startswith(f"ExactPipeline(guidance_scale={scale:g}) of 6 conditions ")
    made.save(tmp_path / "tuned.json")
    latents, errors = Noise(range(32), (4,), torch.float32)(), dict[str, float]()
    call = {"prompt": [WORDS[6]] * 32, "guidance_scale": scale}  # which was not fitted
    ends = samples(pipe, latents, 100, call, solver="uni_pc", order=3, grid="quadratic")
    choices: dict[str, dict[str, Any]] = {
        "tuned": {"tuned": tmp_path / "tuned.json"},
        "auto": {"solver": "auto"},
        "uni_pc": {"solver": "uni_pc"},
    }
    for name, choice in choices.items():
        apart = samples(pipe, latents, 3, call, **choice) - ends
        errors[name] = float(apart.square().mean(1).sqrt().mean())
    assert errors.pop("tuned") < min(errors.values())


class StoppedError(Exception):
    """Nothing is fitted."""


def fitted_to(pipe: Any, prompts: Any, monkeypatch: pytest.MonkeyPatch, **call: Any) -> dict[str, Any]:
    """What the fit of a pipeline would be given."""
    found: dict[str, Any] = {}

    def stop(model: ScoreModel, **options: Any) -> TunedSolver:
        found.update(options, model=model)
        raise StoppedError

    monkeypatch.setattr(pipelines.tuning, "tune", stop)
    with pytest.raises(StoppedError):
        tune(pipe, prompts, nfe=5, **call)
    return found


def agree(pipe: Any, found: dict[str, Any], call: dict[str, Any], folder: Path, dtype: torch.dtype) -> float:
    """How far the pipeline's samples, with a file of some numbers, are from what the fit makes of these."""
    model, shape = found["model"], found["shape"]
    numbers, process = for_all(model.process, 5, 1.0), model.process
    about = {"levels": tuned.levels(process), "prediction": model.prediction}
    TunedSolver({5: Member(numbers, Fixed("auto"))}, about).save(folder / "tuned.json")
    count = len(next(iter(call["rows"].values())))
    cond = {key: value[:count] for key, value in found["cond"].items()}
    starts = Trajectories.of(model, range(count), shape, cond=cond)
    with pipelines._driven(pipe, model.net.asking):
        expected = starts.follow(numbers)
    seen: list[Tensor] = []
    scheduler = Scheduler.from_config(pipe.scheduler.config, tuned=folder / "tuned.json")
    step = scheduler.step

    def kept(*given: Any, **options: Any) -> Any:
        result = step(*given, **options)
        seen.append(result[0])
        return result

    scheduler.step = kept
    own, pipe.scheduler = pipe.scheduler, scheduler
    pipe(latents=starts.noise.to(dtype), num_inference_steps=5, **call["rows"], **call["options"])
    pipe.scheduler = own
    assert len(seen) == 5
    return float((seen[-1] - expected).double().square().mean().sqrt() / expected.double().square().mean().sqrt())


def split(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a call, those that each condition has its own of and the others."""
    rows = {key: value for key, value in arguments.items() if isinstance(value, (Tensor, list))}
    return {"rows": rows, "options": {key: value for key, value in arguments.items() if key not in rows}}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("StableDiffusionPipeline", torch.float32),
        ("StableDiffusionPipeline", torch.bfloat16),
        ("StableDiffusion3Pipeline", torch.float32),
        ("FluxPipeline", torch.float32),
    ],
    ids=str,
)
def test_a_pipeline_with_the_file_gives_the_samples_that_the_fit_makes_of_its_numbers(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    pipe = case.build(**dict.fromkeys(case.absent)).to(dtype)
    pipe.set_progress_bar_config(disable=True)
    call = split(dict(case.arguments()))
    call["rows"] = {key: value.to(dtype) if isinstance(value, Tensor) else value for key, value in call["rows"].items()}
    found = fitted_to(pipe, call["rows"], monkeypatch, **call["options"])
    assert agree(pipe, found, call, tmp_path, dtype) < (1e-5 if dtype == torch.float32 else 0.05)
    assert tuned.fingerprint(found["model"]) == tuned.fingerprint(
        ScoreModel(getattr(pipe, "transformer", None) or pipe.unet, found["model"].process)
    )


@pytest.mark.parametrize(
    "family",
    [each for each in FAMILIES if each.name in ("StableDiffusionXLPipeline", "PixArtAlphaPipeline", "WanPipeline")],
    ids=lambda family: family.name,
)
def test_so_do_pipelines_of_other_families(family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe, call = family.made(), split(dict(family.arguments()))
    found = fitted_to(pipe, call["rows"], monkeypatch, **call["options"])
    assert agree(pipe, found, call, tmp_path, torch.float32) < 1e-5


def test_each_latent_has_its_own_prompt_and_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = exact("VP")
    found = fitted_to(pipe, WORDS[:3], monkeypatch, seeds=range(60), guidance_scale=[1.0, 3.0])
    model, cond = found["model"], found["cond"]
    scales = cond["guidance_scale"].unique().tolist()
    assert scales == [1.0, 1.5, 2.0, 2.5, 3.0]
    for row in range(3):  # each prompt meets each scale
        assert set(cond["guidance_scale"][cond["row"] == row].tolist()) == set(scales)
    x, t = Noise(range(60), (4,), torch.float32)(), 700.25
    with pipelines._driven(pipe, model.net.asking):
        out = model.output(x, t, **cond)
    mixture = pipe.transformer.mixture
    given, free = mixture.output(x, t, label=cond["row"]), mixture.output(x, t, label=torch.full((60,), -1))
    torch.testing.assert_close(out, free + cond["guidance_scale"][:, None] * (given - free))


def test_a_fit_belongs_to_its_prompts_and_to_all_arguments_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = exact("VP")
    told = [
        fitted_to(pipe, prompts, monkeypatch, **call)["model"].guidance
        for prompts, call in ((["red"], {}), ("red", {}), (["green"], {}), (["red"], {"guidance_scale": 3.0}))
    ]
    assert told[0] == told[1] and len(set(told)) == 3
    assert told[0].startswith("ExactPipeline(guidance_scale=2) of 1 conditions")  # what the pipeline has by itself


@pytest.mark.parametrize(
    ("prompts", "call", "message"),
    [
        ([], {}, "prompts must be one or more"),
        ({"prompt": ["red"], "other": ["a", "b"]}, {}, "each with a value of every argument, got {'prompt': 1, 'other"),
        (["red"], {"latents": torch.ones(1, 4)}, "latents is set by the tuning"),
        (["red"], {"guidance_scale": (3, 1)}, "the two ends of a range that rises"),
        (["red"], {"late": True}, "by the number of the step"),
        (["red"], {"seeds": []}, "16 different seeds or more, got 0"),
    ],
    ids=range(6),
)
def test_what_cannot_be_tuned_is_refused_and_the_pipeline_left_as_it_was(
    prompts: Any, call: dict[str, Any], message: str
) -> None:
    pipe = exact("flow")
    own = pipe.scheduler
    with pytest.raises(ValueError, match=message):
        tune(pipe, prompts, nfe=4, **call)
    assert pipe.scheduler is own


def test_a_pipeline_without_latents_is_refused() -> None:
    family = next(each for each in FAMILIES if each.name == "DiTPipeline")
    with pytest.raises(ValueError, match="DiTPipeline takes no latents="):
        tune(family.made(), {"class_labels": [1, 2]}, nfe=4)


def test_a_scheduler_of_another_prediction_type_or_process_refuses_the_file(tmp_path: Path) -> None:
    config = dict(SCHEDULERS["VP"]().config)
    trained = read(config)
    about = {"levels": tuned.levels(trained.process), "prediction": trained.prediction}
    TunedSolver({5: Member(for_all(trained.process, 5, 1.0), Fixed("auto"))}, about).save(tmp_path / "tuned.json")
    Scheduler.from_config(config, tuned=tmp_path / "tuned.json")
    for other, message in (
        ({**config, "prediction_type": "v_prediction"}, "tuned for the prediction 'epsilon'"),
        ({**config, "beta_end": 0.02}, "tuned on"),
    ):
        with pytest.raises(ValueError, match=message):
            Scheduler.from_config(other, tuned=tmp_path / "tuned.json")
        foreign = {"name": "tuned", "path": str(tmp_path / "tuned.json"), "foreign": True}
        assert isinstance(Scheduler.from_config(other, solver=foreign)._solver, PlannedSolver)
