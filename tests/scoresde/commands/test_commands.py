"""The commands as people type them."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import scoresde
import solvers
from scoresde import models
from scoresde.commands import train
from scoresde.commands.app import as_typed, config_folder, placed
from scoresde.commands.main import COMMANDS, main
from scoresde.data import to_pixels

TINY = ("network.channels=[16,32]", "network.depth=1", "warmup=2", "every=6")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def sample(run: Run, model: str) -> Run:
    """``scoresde sample`` from that model, a few images in few steps."""

    def call(*arguments: str) -> Outcome:
        return run("sample", "model=folder", f"model.path={model}", "nfe=4", "n=12", "batch_size=8", *arguments)

    return call


def results(folder: str | Path) -> dict[str, np.ndarray]:
    with np.load(Path(folder) / "samples.npz", allow_pickle=False) as arrays:
        return dict(arrays)


# Help


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_lists_every_command_with_an_example(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    for name, (what, example) in COMMANDS.items():
        assert what in out
        assert example.startswith(f"scoresde {name}")
        assert example in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_names_every_setting_and_choice(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    config = yaml.safe_load((config_folder() / f"{command}.yaml").read_text(encoding="utf-8"))
    groups = [next(iter(entry)) for entry in config["defaults"] if isinstance(entry, dict)]
    for name in (*groups, *(config.keys() - {"defaults", "hydra"})):
        assert re.search(rf"^ +{name} ", out, re.MULTILINE), name
    for path in (path for group in groups for path in (config_folder() / group).glob("*.yaml")):
        assert re.search(rf"\b{path.stem}\b", out), path.stem
    assert f"\n  scoresde {command} " in out
    assert "${" not in out
    assert "== " not in out


def test_the_help_tells_the_settings_of_another_choice(run: Run) -> None:
    out = run("sample", "solver=heun", "--help").out
    for option in solvers.get("heun").options:
        assert re.search(rf"solver\.{option}=\S+ +\w+", out)


def test_the_help_tells_the_settings_of_everything_that_is_chosen(run: Run) -> None:
    out = run("sample", "solver=unipc", "grid=karras", "guidance=classifier_free", "process=edm", "--help").out
    for setting in ("solver.corrector=true", "grid.rho=7.0", "guidance.batched=true", "process.sigma_max=80.0"):
        assert re.search(rf"^  {re.escape(setting)} +\w+", out, re.MULTILINE), setting
    assert re.search(r"^  data.split=train +\w+", run("train", "--help").out, re.MULTILINE)


def test_the_help_has_what_a_folder_of_one_s_own_adds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine" / "solver").mkdir(parents=True)
    own = "# Heun's method as we take it.\nname: heun\ns_churn: 5.0  # as in our last paper\n"
    (tmp_path / "mine" / "solver" / "ours.yaml").write_text(own, encoding="utf-8")
    for where in ("mine", str(tmp_path / "mine")):
        assert re.search(r"^ +.*\bours\b", run("sample", "--config-dir", where, "--help").out, re.MULTILINE)
        out = run("sample", "--config-dir", where, "solver=ours", "--help").out
        assert "Settings of the chosen solver, ours\n  solver.s_churn=5.0  as in our last paper\n" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_in_a_help_text_is_understood(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []
    monkeypatch.setattr(f"scoresde.commands.{command}.run", lambda config, out: started.append(out))
    monkeypatch.setattr("scoresde.commands.early.find", lambda path: path)  # models of examples are nowhere
    examples = re.findall(rf"^  (scoresde {command} (?!\[).*?)(?:   .*)?$", run(command, "--help").out, re.MULTILINE)
    assert len(examples) >= 2
    for example in (*examples, COMMANDS[command][1]):
        if not example.endswith("--help"):
            started.clear()
            assert run(*shlex.split(example)[1:]).status == 0, example
            assert started, example


@pytest.mark.parametrize(
    ("running", "chosen", "policy"),
    [(1, None, "torch's"), (1 + 4096, None, "PASSIVE"), (1 + 4096, "ACTIVE", "ACTIVE"), (None, None, "torch's")],
)
def test_threads_wait_without_spinning_beside_other_work_unless_the_user_wants_it(
    running: int | None, chosen: str | None, policy: str, tmp_path: Path
) -> None:
    load = tmp_path / "loadavg"
    if running is not None:
        load.write_text(f"0.10 0.20 0.30 {running}/5000 123\n", encoding="ascii")
    told = (
        "import os, sys, pathlib; from scoresde.commands import main; assert 'torch' not in sys.modules; "
        "main.LOAD = pathlib.Path(sys.argv[1]); main.main(['--version']); "
        "print(os.environ.get('OMP_WAIT_POLICY', \"torch's\"))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    command = [sys.executable, "-c", told, str(load)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == policy


def test_the_version_is_the_library_s(run: Run) -> None:
    assert run("--version").out == f"scoresde {scoresde.__version__}\n"


# Wrong usage


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("samlpe", "unknown command 'samlpe'; did you mean 'sample'?"),
        ("sample solver=huen", "unknown solver 'huen'; did you mean 'heun'?"),
        ("sample solver=huen,ddim -m", "unknown solver 'huen'; did you mean 'heun'?"),
        ("sample grid=karas", "unknown grid 'karas'; did you mean 'karras'?"),
        ("train network=unett", "unknown network 'unett'; did you mean 'unet'?"),
        ("sample slover=heun", "sample has no setting 'slover'; did you mean 'solver'?"),
        ("sample nfee=20", "sample has no setting 'nfee'; did you mean 'nfe'?"),
        ("sample data=digits", "sample has no setting 'data'; known: batch_size"),
        ("sample solver=heun solver.s_chrun=1", "no setting 'solver.s_chrun'; did you mean 's_churn'?"),
        ("sample solver=heun solver.eta=1", "no setting 'solver.eta'; known: frame, s_churn"),
        ("sample solvr.eta=1", "no setting 'solvr.eta'; did you mean 'solver'?"),
        ("sample grid.rho=5", "no setting 'grid.rho'; the chosen grid has none"),
        ("train network.dept=3", "no setting 'network.dept'; did you mean 'depth'?"),
        ("sample solver=heun,ddim", "several values in 'solver=heun,ddim': add -m"),
        ("train data=npz size=32", "train has no setting 'size'; did you mean 'data.size'?"),
        ("train data=npz channels=3", "no setting 'channels'; did you mean 'data.channels' or 'network.channels'?"),
        ("sample heun", "cannot read 'heun': settings are written key=value"),
        ("sample nfe=ü", "cannot read 'nfe=ü': settings are written key=value, and a value with signs of its own in"),
        ("bench nfe=[1", "cannot read 'nfe=[1': settings are written key=value, and a value with signs of its own in"),
        ("sample --nfe=20", "settings are written without dashes: nfe=…"),
        ("sample model=folder", "model.path must be given: model.path=…"),
        ("train data=npz", "data.path must be given"),
        ("sample solver=ddim solver.eta=high", "solver.eta must be a number, got 'high'"),
    ],
)
def test_wrong_usage_is_one_line_with_what_was_meant(run: Run, typed: str, message: str, tmp_path: Path) -> None:
    status, _, err = run(*typed.split())
    assert status == 2
    assert message in err
    assert err.startswith("scoresde: error: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != "multirun.yaml"] == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("nfe=0", "nfe must be a whole number of at least 1, got 0"),
        ("nfe=many", "nfe must be a whole number of at least 1, got 'many'"),
        ("nfe=2 steps=2", "exactly one of steps and nfe"),
        ("n=0", "n must be a whole number of at least 1, got 0"),
        ("seed=-1", "seed must be a whole number of at least 0, got -1"),
        ("label=10", "label must be 0 to 9, cycle or null, got 10"),
        ("label=data", "label must be 0 to 9, cycle or null, got 'data'"),
        ("seeds=0-5", "give seeds, or n and seed, not both: got seeds=0-5 and n=12"),
        ("n=null seeds=5-0", "a range of seeds goes up, to 2**63 - 1 at most, got '5-0'"),
        ("shard=0", "shard must be a whole number of at least 1, got 0"),
        ("format=pngs", "unknown format 'pngs'; did you mean 'png'?"),
        ("keep=false", "neither samples nor metrics would be kept"),
        ("metrics=true features=model", "no feature network in"),
        ("metrics=true", "needs a reference"),
        ("metrics=3", "metrics must be true or false, got 3"),
        ("metrics=true features=pixels", "features=pixels needs a reference"),
        ("dtype=bfloat17", "unknown dtype 'bfloat17'; did you mean 'bfloat16'?"),
        ("device=tpu", "unknown device 'tpu'; known: auto"),
        ("device=cuda:99", "device 'cuda:99' is not there"),
        ("solver=ddim solver.eta=2", "ddim needs eta between 0 and 1, got 2"),
        ("solver=pf_ode", "chooses its own steps"),
        ("process=vp process.beta_min=30", "0 < beta_min < beta_max"),
        ("model.path=nowhere", "no model 'nowhere'"),
    ],
)
def test_a_bad_value_is_one_line_and_leaves_nothing(sample: Run, typed: str, message: str, tmp_path: Path) -> None:
    status, _, err = sample(*typed.split(), "out=here")
    assert status == 1
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_is_there_for_those_who_ask(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORESDE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="nfe must be"):
        sample("nfe=0")


# Sampling


def test_sampling_leaves_samples_with_seeds_labels_nfe_and_what_made_them(sample: Run, model: str) -> None:
    status, out, _ = sample("solver=heun", "seed=5", "out=here")
    assert status == 0
    assert "heun on the" in out
    assert "3 NFE" in out  # Heun takes 2 NFE a step and 1 in the last, so that 4 hold two steps
    arrays = results("here")
    assert arrays["seeds"].tolist() == list(range(5, 17))
    assert arrays["labels"].tolist() == [*range(10), 0, 1]
    assert arrays["nfe"] == 3
    expected = scoresde.sample(
        models.load(model).model,
        "heun",
        nfe=4,
        shape=(12, 1, 8, 8),
        seeds=5,
        cond={"label": torch.arange(12) % 10},
        batch_size=8,
    )
    assert (arrays["samples"] == expected.samples.numpy()).all()
    recorded = yaml.safe_load(Path("here/config.yaml").read_text(encoding="utf-8"))
    assert recorded["solver"]["name"] == "heun"
    assert recorded["nfe"] == 4
    assert torch.__version__ in Path("here/versions.json").read_text(encoding="utf-8")
    names = {"samples.npz", "images", "grid.png", "shards", "config.yaml", "versions.json"}
    assert {path.name for path in Path("here").iterdir()} == names
    pictures = sorted(Path("here/images").iterdir())
    assert [path.name for path in pictures] == [f"{seed:06}.png" for seed in range(5, 17)]
    shown = np.stack([np.asarray(Image.open(path)) for path in pictures])
    assert (shown == to_pixels(expected.samples)[:, 0].numpy()).all()
    pictures[3].unlink()  # what is missing is made again
    assert sample("solver=heun", "seed=5", "out=here").status == 0 and pictures[3].is_file()


def test_many_images_are_arrays_alone(sample: Run) -> None:
    assert sample("n=101", "batch_size=101", "nfe=1", "out=many").status == 0
    assert sample("shard=8", "out=parts").status == 0
    for folder in ("many", "parts"):
        assert not Path(folder, "images").exists()


def test_the_picture_has_a_column_for_each_class(sample: Run) -> None:
    sample("out=here")
    with Image.open("here/grid.png") as picture:
        width, height = picture.size
    assert 10 * 56 < width < 11 * 56
    assert 2 * 56 < height < 3 * 56


def test_an_image_depends_on_its_own_seed_and_label_only(sample: Run) -> None:
    sample("out=all")
    sample("label=3", "seed=3", "n=1", "out=one")
    assert (results("one")["samples"][0] == results("all")["samples"][3]).all()


def test_no_label_is_recorded_as_such_and_gives_other_images(sample: Run) -> None:
    sample("out=labelled")
    sample("label=null", "out=free")
    assert (results("free")["labels"] == -1).all()
    assert np.abs(results("free")["samples"] - results("labelled")["samples"]).max() > 1e-3


def test_few_images_are_a_batch_and_pay_for_no_more(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, output = list[int](), scoresde.ScoreModel.output

    def counted(self: scoresde.ScoreModel, x: torch.Tensor, *arguments: Any, **cond: Any) -> torch.Tensor:
        sizes.append(len(x))
        return output(self, x, *arguments, **cond)

    monkeypatch.setattr(scoresde.ScoreModel, "output", counted)
    shared = ("sample", "model=folder", f"model.path={model}", "nfe=2")

    def asked(out: str) -> int:
        return yaml.safe_load(Path(out, "config.yaml").read_text(encoding="utf-8"))["batch_size"]

    for out, arguments, size in (
        ("few", ["n=3"], 3),
        ("seeds", ["seeds=[0-1,7]"], 3),
        ("many", ["n=70"], 64),
        ("padded", ["n=3", "batch_size=5"], 5),
    ):
        sizes.clear()
        assert run(*shared, *arguments, f"out={out}").status == 0
        assert set(sizes) == {size} and asked(out) == size
    for arguments in ([], ["batch_size=5"]):  # what the folder was begun with, where nothing else is asked for
        assert "already in padded" in run(*shared, "n=3", *arguments, "out=padded").out
    refused = run(*shared, "n=3", "batch_size=3", "out=padded")
    assert refused.status == 1 and "other values of batch_size" in refused.err


def test_the_same_configuration_twice_computes_once(sample: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("out=here")
    monkeypatch.setattr(scoresde.Sampler, "sample", None)
    status, out, _ = sample("out=here")
    assert status == 0
    assert "already in here" in out


@pytest.mark.parametrize(
    ("change", "key"), [("nfe=5", "nfe"), ("solver=ddim", "solver"), ("seed=1", "seed"), ("process=edm", "process")]
)
def test_a_folder_with_other_results_is_refused_by_the_keys_that_differ(sample: Run, change: str, key: str) -> None:
    sample("out=here")
    before = Path("here/samples.npz").read_bytes()
    status, _, err = sample(change, "out=here")
    assert status == 1
    assert f"made with other values of {key}" in err
    assert Path("here/samples.npz").read_bytes() == before


def test_a_retrained_model_is_not_taken_for_the_old_one(sample: Run, model: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    loaded = models.load(model)
    net = loaded.model.net
    assert isinstance(net, nn.Module)
    options: dict[str, Any] = {"network": "unet", "process": scoresde.VP(), "prediction": "epsilon", "shape": (1, 8, 8)}
    models.save(folder, net, **options, classes=10)
    assert sample(f"model.path={folder}", "out=here").status == 0
    with torch.no_grad():
        next(net.parameters()).add_(1)
    models.save(folder, net, **options, classes=10)
    assert "other values of model.sha256" in sample(f"model.path={folder}", "out=here").err


def test_a_folder_with_results_of_unknown_origin_is_refused(sample: Run) -> None:
    Path("here").mkdir()
    Path("here/samples.npz").write_bytes(b"precious")
    assert "holds samples.npz but no config.yaml" in sample("out=here").err
    assert Path("here/samples.npz").read_bytes() == b"precious"


def test_multirun_gives_each_combination_its_folder_and_the_same_images(sample: Run) -> None:
    status, _, _ = sample("solver=heun,ddim", "-m", "grid=karras", "out=sweep")
    assert status == 0
    assert sorted(path.name for path in Path("sweep").iterdir() if path.is_dir()) == ["solver=ddim", "solver=heun"]
    sample("solver=ddim", "grid=karras", "out=single")
    assert (results("sweep/solver=ddim")["samples"] == results("single")["samples"]).all()


def test_ddim_gives_the_same_images_on_another_process_of_the_same_ends(sample: Run) -> None:
    """DDIM is the same map on any two processes, and σ(t_max) z is the same state where σ_max is VP's σ/α."""
    ends = ["solver=ddim", "grid=log_snr", "steps=4", "nfe=null"]
    low, high = (float(np.exp(-scoresde.VP().half_log_snr(t))) for t in (scoresde.VP.t_min, scoresde.VP.t_max))
    sample(*ends, "out=native")
    sample(*ends, "process=edm", f"process.sigma_min={low!r}", f"process.sigma_max={high!r}", "out=edm")
    np.testing.assert_allclose(results("edm")["samples"], results("native")["samples"], rtol=1e-3, atol=1e-3)


def test_dtype_is_the_precision_of_the_network(sample: Run) -> None:
    for dtype in ("float32", "bfloat16", "float64"):
        assert sample(f"dtype={dtype}", f"out={dtype}").status == 0
    reference = results("float64")["samples"]
    errors = [np.abs(results(dtype)["samples"] - reference).max() for dtype in ("float32", "bfloat16")]
    assert errors[0] < 1e-3 * max(1, np.abs(reference).max()) < 1e3 * errors[1]
    assert errors[0] < errors[1] / 10


@pytest.mark.parametrize("name", ["pf_ode", "rk_adaptive", "dpm_adaptive", "adaptive_sde"])
def test_an_adaptive_solver_needs_no_budget(run: Run, model: str, name: str) -> None:
    loose = ["solver.rtol=0.5", "solver.atol=0.5"] if name == "adaptive_sde" else []
    status, out, _ = run(
        "sample", "model=folder", f"model.path={model}", f"solver={name}", "n=2", "batch_size=2", "out=a", *loose
    )
    assert status == 0
    assert "steps of its own" in out
    assert results("a")["nfe"] > 6


def test_a_plan_is_printed_kept_and_drawn_before_any_run(run: Run, model: str) -> None:
    asked = ("plan", f"model={model}", "solver=heun", "nfe=5", "out=here")
    status, out, _ = run(*asked)
    assert status == 0 and out.count("EVAL") == 5 and "here: plan.json, plan.png" in out
    kept, sampler = solvers.Plan.load("here/plan.json"), scoresde.Sampler(models.load(model), "heun", nfe=5)
    assert sampler.plan is not None and kept.instructions == sampler.plan.instructions
    assert Path("here/plan.png").stat().st_size > 10_000
    assert run(*asked).status == 0
    refused = run(*asked[:-2], "nfe=7", "out=here")
    assert refused.status == 1 and "other values of nfe" in refused.err
    refused = run("plan", f"model={model}", "solver=rk_adaptive", "out=other")
    assert refused.status == 1 and "chooses its steps as it goes" in refused.err and not Path("other").exists()


# Training


def weights(folder: str) -> bytes:
    return (Path(folder) / "model" / models.WEIGHTS).read_bytes()


def test_a_model_trained_on_digits_is_sampled_from_its_folder(run: Run) -> None:
    status, out, err = run("train", "epochs=3", *TINY, "out=digits")
    assert status == 0, err
    assert "1437 images of (1, 8, 8), 10 classes" in out
    assert re.search(r"step 6/33  epoch 0.5  loss \d\.\d+  \d+ images/s  0 h \d\d min left", out)
    checkpoint = models.load("digits/model")
    training = checkpoint.card["training"]
    assert training["loss"][-1][1] < 0.97 * training["loss"][0][1]
    assert sum(training["class_counts"]) == 1437
    assert training["command"].startswith("scoresde train epochs=3 network.channels=[16,32]")
    assert (checkpoint.shape, checkpoint.classes, checkpoint.card["time_scale"]) == ((1, 8, 8), 10, 1.0)
    assert checkpoint.card["preconditioning"]["name"] == "edm"
    for name in ("loss.png", "samples.png"):
        with Image.open(Path("digits") / name) as picture:
            picture.verify()
    assert run("sample", "model=folder", "model.path=digits/model", "n=4", "nfe=3", "out=images").status == 0
    assert "already in digits" in run("train", "epochs=3", *TINY, "out=digits").out


def test_an_interrupted_run_goes_on_to_the_same_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = train._report

    def interrupted(trainer: Any) -> None:
        if trainer.step == 6:
            raise KeyboardInterrupt
        report(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(train, "_report", interrupted)
        status, _, err = run("train", "epochs=1", *TINY, "out=broken")
    assert (status, err) == (130, "scoresde: interrupted; the same command with out=broken goes on from step 6\n")
    assert "other values of learning_rate" in run("train", "epochs=1", *TINY, "learning_rate=0.1", "out=broken").err
    assert "going on from step 6 of 11" in run("train", "epochs=1", *TINY, "out=broken").out
    run("train", "epochs=1", *TINY, "out=whole")
    assert weights("broken") == weights("whole")


def test_weights_are_stored_in_the_precision_asked_for(run: Run) -> None:
    run("train", "epochs=1", *TINY, "weights=bfloat16", "out=half")
    stored = load_file(Path("half/model") / models.WEIGHTS)
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("data=npz data.path=nowhere.npz", "no data at 'nowhere.npz'"),
        ("process=native", "training needs a process of its own"),
        ("process=flow objective=ddpm", "predicts 'epsilon' says nothing about x0 at t = 1.0"),
        ("prediction=epsilom", "did you mean 'epsilon'?"),
        ("network.fold=3", "multiples of 6, got (1, 8, 8)"),
        ("batch_size=2000", "batch_size 2000 is larger than the data set of 1437 images"),
        ("learning_rate=fast", "learning_rate must be a number of at least 0, got 'fast'"),
        ("bf16=maybe", "bf16 must be true or false, got 'maybe'"),
        ("epochs=1.5", "epochs must be a whole number of at least 1, got 1.5"),
        ("weights=float16", "unknown weights 'float16'"),
    ],
)
def test_bad_training_settings_are_refused_before_anything_is_written(
    run: Run, typed: str, message: str, tmp_path: Path
) -> None:
    status, _, err = run("train", *TINY, *typed.split(), "out=here")
    assert status == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


# As processes of their own


def test_a_typo_in_the_shell_shows_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scoresde", "sample", "solver=dpmp_2m"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == "scoresde: error: unknown solver 'dpmp_2m'; did you mean 'dpmpp_2m'?\n"


def test_ctrl_c_in_the_shell_stops_training_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "scoresde", "train", "epochs=1000", *TINY, "out=run"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("step 12/"):
                break
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert re.fullmatch(r"scoresde: interrupted; the same command with out=run goes on from step \d+\n", err)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()


# Other people's data and words


def folders(root: Path, *names: str, size: tuple[int, int] = (8, 8)) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(2):
            Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(root / name / f"{index}.png")
    return root


SMALL = ["epochs=1", "batch_size=4", "warmup=1", "network.channels=[8,16]"]


def test_names_of_classes_are_told_kept_and_taken_as_labels(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(tmp_path / "data", "dog", "cat", "10", "Blüten & Gräser")
    status, out, _ = run("train", "data=folder", "data.path=data", *SMALL, "out=run")
    assert (
        status == 0 and "classes: 0 10, 1 Blüten & Gräser, 2 cat, 3 dog; sample takes label=<name> or the number" in out
    )
    assert json.loads(Path("run/model/config.json").read_text())["class_names"] == [
        "10",
        "Blüten & Gräser",
        "cat",
        "dog",
    ]
    ask = ["sample", "model=folder", "model.path=run/model", "n=1", "nfe=2"]
    for label, number in (("dog", 3), ("'10'", 0), ("2", 2), ("Blüten & Gräser", 1)):
        assert run(*ask, f"label={label}", f"out=out{number}").status == 0
        assert np.load(f"out{number}/samples.npz")["labels"].tolist() == [number]
    labels: list[str] = []

    def drawn(path: Path, *_: Any, column_labels: list[str]) -> None:
        labels.extend(column_labels)
        path.touch()

    monkeypatch.setattr("scoresde.commands.sample.save_grid", drawn)
    assert run(*ask[:3], "n=4", "nfe=2", "out=cycle").status == 0
    assert labels == ["10", "Blüten & Gräser", "cat", "dog"]
    status, _, err = run("train", "data=folder", "data.path=data", *SMALL, "held_out=7", "out=other")
    assert status == 1 and re.search("held_out=7 leaves no image of class (10|Blüten & Gräser) to train on", err)
    status, _, err = run(*ask, "label=dgo", "out=out")
    assert (
        status == 1
        and "or a class by its name: '10', 'Blüten & Gräser', 'cat', 'dog', got 'dgo'; did you mean 'dog'" in err
    )


def test_sizes_and_channels_of_data_are_settings_and_their_defaults_change_no_run(run: Run, tmp_path: Path) -> None:
    folders(tmp_path / "data", "a", "b", size=(20, 20))
    assert (
        run("train", "data=folder", "data.path=data", *SMALL, "data.size=8", "data.channels=1", "out=run").status == 0
    )
    assert json.loads(Path("run/model/config.json").read_text())["shape"] == [1, 8, 8]
    recorded = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    assert recorded == {"path": "data", "size": 8, "channels": 1}
    again = ["train", "data=folder", "data.path=data", *SMALL, "data.size=8", "data.channels=1"]
    status, _, err = run(*again, "data.flip=true", "out=run")
    assert status == 1 and "flip" in err
    assert run(*again, "data.flip=true", "out=mirrored").status == 0
    assert yaml.safe_load(Path("mirrored/config.yaml").read_text())["data"]["flip"] is True
    status, _, err = run(*again, "data.flip=1", "out=other")
    assert status == 1 and err == "scoresde: error: data.flip must be true or false, got 1\n"
    status, _, err = run("train", "data=folder", "data.path=data", *SMALL, "data.size=0", "out=other")
    assert status == 1 and err == "scoresde: error: data.size must be from 1 to 16384 pixels, got 0\n"


def test_shards_of_a_webdataset_are_trained_on_by_their_pattern(run: Run, tmp_path: Path) -> None:
    for index in range(3):
        with tarfile.open(f"train-{index:02d}.tar", "w") as archive:
            stream = io.BytesIO()
            Image.new("RGB", (12, 10), (index, 0, 0)).save(stream, "JPEG")
            for name, content in ((f"{index}.jpg", stream.getvalue()), (f"{index}.cls", str(index % 2).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    ask = ["train", "data=webdataset", 'data.path="train-{00..02}.tar"', *SMALL, "batch_size=3", "out=run"]
    status, out, _ = run(*ask, "data.size=8", "data.crop=true")
    assert status == 0 and "3 images of (3, 8, 8), 2 classes" in out


def test_a_run_is_data_and_reference_like_any_other(run: Run) -> None:
    for form in ("npz", "png", "zip"):
        assert run("sample", "n=4", "nfe=2", f"format={form}", f"out={form}").status == 0
    assert run("sample", "n=4", "nfe=2", "shard=2", "batch_size=2", "out=shards").status == 0
    figures = set()
    for index, reference in enumerate(
        ("npz", "png", "zip", "shards", "npz/samples.npz", "png/images", "shards/shards")
    ):
        settings = ["n=4", "nfe=2", "seed=100", "metrics=true", f"reference={reference}", f"out=m{index}"]
        assert run("sample", *settings).status == 0
        figures.add(json.loads(Path(f"m{index}/metrics.json").read_text())["metrics"]["fid"]["value"])
    assert max(figures) == pytest.approx(min(figures), rel=1e-2)  # batches of two round differently
    assert run("sample", "n=4", "nfe=2", "keep=false", "metrics=true", "out=bare").status == 0
    status, _, err = run("sample", "n=4", "nfe=2", "metrics=true", "reference=bare", "out=x")
    assert status == 1 and "'bare' is a run that kept no samples (keep=false)" in err


def test_how_a_reference_was_resized_stands_with_the_figures(run: Run, tmp_path: Path) -> None:
    folders(tmp_path / "real", "a", size=(30, 30))
    ask = ["sample", "n=4", "nfe=2", "metrics=true", "reference=real"]
    status, _, err = run(*ask, "out=a")
    assert status == 1 and "takes images of shape" in err
    folders(tmp_path / "real", "wide", size=(20, 30))
    status, _, err = run(*ask, "reference_size=28", "out=a")
    assert status == 1 and "20 × 30 pixels are no square: reference_crop=true takes the middle" in err
    status, _, err = run("train", "data=folder", "data.path=real", "out=a")
    assert status == 1 and "give data.size= (and data.crop=true for the square in the middle)" in err
    settings = ["reference_size=28", "reference_crop=true", "reference_channels=1", "out=b"]
    assert run(*ask, *settings).status == 0
    said = "cut to the square in the middle, resized to 28 × 28 by Lanczos, 1 channels"
    assert json.loads(Path("b/metrics.json").read_text())["reference"]["resized"] == said
    assert not any(key.startswith("reference") for key in yaml.safe_load(Path("b/config.yaml").read_text()))


def test_files_left_out_are_a_note_of_one_line(run: Run, tmp_path: Path) -> None:
    (folders(tmp_path / "data", "a", "b") / "a" / "notes.txt").write_text("x")
    status, _, err = run("train", "data=folder", "data.path=data", *SMALL, "out=run")
    assert status == 0 and err == "scoresde: note: 1 file left out: .txt (1), in 'data'\n"


def test_a_grid_may_be_times_of_one_s_own(run: Run, model: str) -> None:
    shared = ("sample", f"model={model}", "solver=heun", "n=2")
    done = run(*shared, "grid=[1,0.4,0.1,0]", "out=a")
    assert done.status == 0 and "heun on 4 given times" in done.out and "5 NFE" in done.out
    checkpoint = models.load(model)
    labels = {"label": torch.tensor([0, 1])} if checkpoint.classes else {}
    expected = scoresde.sample(checkpoint, "heun", grid=[1, 0.4, 0.1, 0], seeds=range(2), cond=labels, batch_size=2)
    assert torch.equal(torch.from_numpy(results("a")["samples"]), expected.samples)
    assert "already in a" in run(*shared, "grid=times", "grid.times=[1,0.4,0.1,0]", "out=a").out
    for wrong, told in (
        ("grid=[0.1,0.4]", "0.1 is followed by 0.4"),
        ("grid=times", "grid.times must be given"),
        ("grid.times=[1,x]", "grid.times must be a list of numbers such as [1,0.5,0], got [1, 'x']"),
    ):
        refused = run(*shared, *(["grid=times"] if wrong.startswith("grid.") else []), wrong, "out=b")
        assert refused.status in (1, 2) and told in refused.err
    refused = run(*shared, "grid=[1,0]", "nfe=4", "out=b")
    assert refused.status == 1 and "neither steps" in refused.err


@pytest.mark.parametrize("place", ["run/model", "a folder", "word", "./word", "absolute"])
def test_a_model_is_the_folder_that_it_is_in(run: Run, model: str, tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    shutil.copytree(model, folder)
    named = str(folder) if place == "absolute" else place
    assert run("sample", f"model={named}", "n=1", "nfe=1", "out=a").status == 0
    assert run("sample", "model=folder", f"model.path={model}", "n=1", "nfe=1", "out=b").status == 0
    assert (results("a")["samples"] == results("b")["samples"]).all()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model=mnist", ["model=mnist"]),
        ("model=mnits", ["model=mnits"]),
        ("model=folder", ["model=folder"]),
        ("model=folder,mnist", ["model=folder,mnist"]),
        ("model=google/ddpm-cifar10-32", ["model=diffusers", "model.id=google/ddpm-cifar10-32"]),
        ("model=~/runs", ["model=folder", "model.path=~/runs"]),
        ("model=../ddpm", ["model=folder", "model.path=../ddpm"]),
        ("model=a/b/c", ["model=folder", "model.path=a/b/c"]),
        ("model='my runs/b'", ["model=folder", "model.path=my runs/b"]),
        ("solver=a/b", ["solver=a/b"]),
    ],
)
def test_a_place_is_told_from_a_choice(
    typed: str, meant: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my runs").mkdir()
    assert placed(config_folder(), typed) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("n=1e4", "n=10000"),
        ("nfe=[1e1,2e1]", "nfe=[10,20]"),
        ("nfe=1e1,2.5e1", "nfe=10,25"),
        ("seed=2.5e3", "seed=2500"),
        ("solver.rtol=1e-3", "solver.rtol=1e-3"),
        ("factor=1.25e1", "factor=1.25e1"),
        ("label=1e4a", "label=1e4a"),
        ("out=1e3", "out='1e3'"),
        ("label=10", "label=10"),
        ("label=it's", r"label='it\'s'"),
        ("data.column=a (b)", "data.column='a (b)'"),
    ],
)
def test_a_power_of_ten_is_a_whole_number_where_it_is_one(typed: str, meant: str) -> None:
    assert as_typed(typed) == meant


def test_a_device_that_is_not_there_is_a_line(run: Run) -> None:
    for device in ("mps", "xpu"):
        status, _, err = run("sample", "n=1", "nfe=2", f"device={device}", "out=x")
        assert status == 1 and err.count("\n") == 1 and f"device {device!r} is not there" in err


def test_the_state_in_the_network_s_dtype_is_asked_for_by_name(run: Run) -> None:
    assert run("sample", "n=2", "nfe=4", "dtype=bfloat16", "state=network", "out=small").status == 0
    assert run("sample", "n=2", "nfe=4", "dtype=bfloat16", "out=full").status == 0
    small, full = (np.load(f"{name}/samples.npz")["samples"] for name in ("small", "full"))
    assert (small == torch.from_numpy(small).bfloat16().float().numpy()).all() and (small != full).any()
    assert "state" not in yaml.safe_load(Path("full/config.yaml").read_text())
    assert "unknown state 'half'; known: full, network" in run("sample", "state=half", "out=x").err


def test_a_file_of_weights_is_called_one_and_its_name_may_hold_anything(run: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": {"model.weight": torch.zeros(2)}}, "epoch=3.ckpt")
    status, _, err = run("sample", "model=folder", "model.path=epoch=3.ckpt", "n=1", "out=x")
    assert status == 1 and "'epoch=3.ckpt' is a file, and models are folders: load its weights into your network" in err
    status, _, err = run("convert", "edm", "epoch=3.ckpt", "out")
    assert status == 1 and "'epoch=3.ckpt' is a file of torch.save, not one of EDM's pickles" in err
