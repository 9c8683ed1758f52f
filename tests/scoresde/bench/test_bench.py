"""The benchmark: every combination of what is varied is a row, from the same seeds, kept as it goes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

import scoresde
import solvers
from scoresde.bench import run as bench_run
from scoresde.bench.cases import LATER, Case
from scoresde.commands import bench as bench_command
from scoresde.commands import fitting
from scoresde.commands.main import main
from scoresde.metrics import class_labels, floors

SMALL = ["n=20", "batch_size=20", "reference_nfe=30", "tolerances=[0.1]", "dtype=float32"]
QUICK = [*SMALL, "metrics=[fid]"]  # where it is no matter which figures there are
SOLVERS = "solvers=[ddim,{name: pf_ode, method: rk4},{name: ddim, eta: [0.5,1]},pf_ode]"


@pytest.fixture(autouse=True)
def quickly(unplotted):
    """Figures are tested with the report."""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "out"
    assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5,8]", f"out={folder}"]) == 0
    return folder


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "options", "later", "key"),
    [
        ("uni_pc", {"order": 3}, {"lower_order_final": True}, "b3db180791432add"),
        ("dpmpp_3m", {}, {"solver_type": "midpoint"}, "2a105452535f2c3e"),
        ("dpm_solver_3m", {}, {"lower_order_final": True}, "15e81097a600b6c5"),
        ("dpmpp_3s", {}, {"nodes": "grid"}, "96050f41a3548822"),
        ("dpm_solver_3", {"r1": 0.25}, {"nodes": "grid"}, "9e6863c270cab64a"),
        ("auto", {}, {"scale": 1.0}, "363225fc5f80c609"),
    ],
)
def test_what_is_recorded_is_what_was_before_there_was_an_option(name, options, later, key):
    def key_of(**chosen):
        return Case(solvers.get(name, **chosen), 10, None, "", "float32", "").key

    assert key_of(**options) == key  # as it was then
    assert key_of(**options, **later) != key
    everything = dict(solvers.get(name, **options).options)
    kept = fitting.named(name, everything, "")[1]
    assert kept == {
        "name": name,
        **{option: value for option, value in everything.items() if option not in LATER[name]},
    }
    assert later.items() <= fitting.named(name, {**everything, **later}, "")[1].items()


def test_each_solver_has_a_row_per_budget_and_budgets_of_equal_steps_share_one(out):
    found = [(row["solver"], row["nfe"]) for row in rows(out)]
    assert found[:3] == [("ddim", 4), ("ddim", 5), ("ddim", 8)]
    assert [nfe for solver, nfe in found if solver == "pf_ode(method=rk4)"] == [1, 5]  # 8 NFE buy no more than 5
    for eta in ("0.5", "1"):  # a list of an option's values
        assert [nfe for solver, nfe in found if solver == f"ddim(eta={eta})"] == [4, 5, 8]
    assert found[-1][0] == "pf_ode(method=dopri5)" and found[-1][1] > 8
    assert rows(out)[-1]["budget"] == 0.1  # the tolerance


def test_the_error_falls_with_nfe_and_stochastic_solvers_have_none(out):
    errors = {(row["solver"], row["nfe"]): row["metrics"].get("error") for row in rows(out)}
    assert errors["ddim", 8]["value"] < errors["ddim", 5]["value"] < errors["ddim", 4]["value"]
    assert errors["ddim", 8]["low"] < errors["ddim", 8]["value"] < errors["ddim", 8]["high"]
    assert errors["ddim(eta=1)", 8] is None


def test_a_row_holds_what_sample_gives_for_the_same_seeds_and_labels(out):
    digits = scoresde.models.load("mnist")
    labels = class_labels(20, digits.card["training"]["class_counts"])
    samples = scoresde.sample(
        digits.model, "ddim", nfe=5, shape=(20, 1, 28, 28), seeds=0, cond={"label": labels}, batch_size=20
    ).samples
    with np.load(out / "converged" / next(path.name for path in (out / "converged").iterdir())) as content:
        expected = float((samples.double() - torch.from_numpy(content["samples"])).square().mean().sqrt())
    row = next(row for row in rows(out) if (row["solver"], row["nfe"]) == ("ddim", 5))
    assert row["metrics"]["error"]["value"] == pytest.approx(expected, rel=1e-3)


def test_the_table_names_feature_space_and_sample_count_beside_the_floors(out):
    text = (out / "table.md").read_text()
    floor = floors(20)
    assert f"FID in {floor.real.feature_space}, 20 samples each" in text
    assert f"{floor.real.value:.2f}" in text and f"{floor.converged.value:.2f}" in text


def test_a_second_run_samples_nothing_and_writes_the_same_table(out, capsys):
    before = (out / "table.md").read_text(), (out / "results.jsonl").read_text()
    with mock.patch.object(bench_run.Sampler, "sample", side_effect=AssertionError("sampled again")):
        assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5,8]", f"out={out}"]) == 0
    assert "12 rows of 20 images, 12 of them" in capsys.readouterr().out
    assert ((out / "table.md").read_text(), (out / "results.jsonl").read_text()) == before


def test_an_interrupted_run_does_only_what_is_missing_and_lists_may_grow(tmp_path, out):
    arguments = ["bench", *SMALL, "solvers=[ddim]", f"out={tmp_path / 'out'}"]
    sample, calls = bench_run.Sampler.sample, []

    def interrupted(sampler, **kwargs):
        calls.append(sampler.nfe)
        if len(calls) == 4:  # the reference, its half, and the first row are done
            raise KeyboardInterrupt
        return sample(sampler, **kwargs)

    with mock.patch.object(bench_run.Sampler, "sample", interrupted):
        assert main([*arguments, "nfe=[4,5]"]) == 130
        with open(tmp_path / "out" / "results.jsonl", "a") as file:
            file.write('{"key": "half a li')  # what a killed process may leave
        assert main([*arguments, "nfe=[4,5]"]) == 0
        assert main([*arguments, "nfe=[4,5,8]"]) == 0
    assert calls == [30, 15, 4, 5, 5, 8]
    whole = {row["nfe"]: row["metrics"] for row in rows(out) if row["solver"] == "ddim"}
    assert {row["nfe"]: row["metrics"] for row in rows(tmp_path / "out")} == whole


def test_precisions_and_grids_are_varied_on_one_load_of_the_model(tmp_path, capsys):
    lists = ["solvers=[ddim]", "nfe=[4]", "grids=[null,{name: karras, rho: [5,7]}]", "dtype=[float32,bfloat16]"]
    with mock.patch("scoresde.models.load", wraps=scoresde.models.load) as load:
        assert main(["bench", "n=4", "reference_nfe=10", *lists, f"out={tmp_path}"]) == 0
    assert load.call_count == 1
    found = {(row["grid"], row["dtype"]) for row in rows(tmp_path)}
    assert len(found) == 6
    assert any("karras" in grid and "5" in grid for grid, _ in found)
    told = [line for line in capsys.readouterr().out.splitlines() if " ddim on " in line]
    assert len(told) == 6 and all(any(f"ddim on {grid} {dtype}" in line for line in told) for grid, dtype in found)


def test_a_compiled_network_gives_the_samples_of_the_network_as_it_is(tmp_path):
    compiled = []

    def compile(net, **options):
        compiled.append(options["mode"])
        return net

    with mock.patch("torch.compile", compile):
        lists = ["solvers=[ddim]", "nfe=[4]", "compile=[null,default]", "dtype=float32"]
        assert main(["bench", "n=4", "reference_nfe=10", *lists, f"out={tmp_path}"]) == 0
    plain, other = rows(tmp_path)
    assert compiled == ["default"] and (plain["compile"], other["compile"]) == ("", "default")
    assert plain["metrics"] == other["metrics"]


def test_guidance_is_varied_and_has_a_converged_solution_of_its_own(tmp_path):
    lists = ["solvers=[ddim]", "nfe=[4]", "guidances=[null,1,{name: classifier_free, scale: [3]}]", "dtype=float32"]
    assert main(["bench", "n=20", "batch_size=20", "reference_nfe=10", *lists, f"out={tmp_path}"]) == 0
    plain, unit, strong = rows(tmp_path)
    assert [row["guidance"] for row in (plain, unit, strong)] == [
        "",
        "classifier_free(scale=1)",
        "classifier_free(scale=3)",
    ]
    assert unit["metrics"]["error"]["value"] == pytest.approx(plain["metrics"]["error"]["value"], rel=1e-3)
    assert strong["metrics"]["error"]["value"] != pytest.approx(plain["metrics"]["error"]["value"], rel=1e-2)
    assert strong["nfe"] == plain["nfe"] == 4  # both passes in one forward
    assert len(list((tmp_path / "converged").iterdir())) == 3


def test_other_settings_in_the_same_folder_are_refused_by_name(out, capsys):
    assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5]", "seed=1", f"out={out}"]) == 1
    assert "other values of seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("solver=[heun,ddim]", "scoresde bench 'solvers=[heun,ddim]'"),
        ("solvers=[heunn]", "unknown solver 'heunn'; did you mean 'heun'?"),
        ("solvers=[{name: ddim, etta: 1}]", "no option 'etta'; did you mean 'eta'?"),
        ("solvers=[{eta: 1}]", "write a name, or {name: …}"),
        ("grids=[karas]", "did you mean 'karras'?"),
        ("nfe=[0]", "nfe must be a whole number of at least 1, got 0"),
        ("tolerances=[0]", "tolerances must be a number above 0, got 0"),
        ("dtype=[float16]", "unknown dtype 'float16'"),
        ("guidance=[1,2]", "scoresde bench 'guidances=[1,2]'"),
        ("guidances=[{name: classifier_fre}]", "did you mean 'classifier_free'?"),
        ("compile=[fast]", "unknown compile mode 'fast'; known: default"),
        ("solvers=[]", "nothing to compare"),
    ],
)
def test_a_wrong_list_is_one_line_and_leaves_nothing(tmp_path, capsys, typed, message):
    assert main(["bench", typed, f"out={tmp_path / 'out'}"]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_results_file_is_refused(tmp_path, capsys):
    arguments = ["bench", *QUICK, "solvers=[ddim]", "nfe=[4]", f"out={tmp_path}"]
    assert main(arguments) == 0
    (tmp_path / "results.jsonl").write_text("{\n")
    assert main(arguments) == 1
    assert "damaged" in capsys.readouterr().err


def test_jobs_of_a_multirun_run_side_by_side_with_joblib(tmp_path):
    arguments = ["-m", "seed=0,7", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "n=4", "solvers=[ddim]"]
    arguments += ["nfe=[4]", "reference_nfe=10", f"out={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "scoresde", "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0, done.stderr
    found = {path.parent.name for path in (tmp_path / "out").glob("*/report.html")}
    assert found == {"seed=0", "seed=7"}


def test_a_model_without_features_is_told_which_there_are(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "real.npz", images=np.zeros((4, 8, 8), np.uint8))
    few = ["solvers=[ddim]", "nfe=[3]", "n=8", "batch_size=8", "reference_nfe=10", f"out={tmp_path / 'out'}"]
    asked = ["model=folder", f"model.path={model}", "features=model", f"reference={tmp_path / 'real.npz'}"]
    assert main(["bench", *asked, *few]) == 1
    said = capsys.readouterr().err
    others = "clip, dinov2, efficientnet_lite, inception, pixels, torchscript"
    assert f"there is no feature network in {model!r}: give features= ({others})" in said
    assert not (tmp_path / "out").exists()


def test_samples_are_compared_with_the_model_s_own_of_other_seeds(tmp_path):
    """Its converged samples are no further from others of theirs than those of three steps, and not at zero."""
    small = ["n=12", "batch_size=12", "reference_nfe=12", "dtype=float32"]
    many = [*small, "solvers=[ddim]", "nfe=[3]", "guidances=[null,2]", f"out={tmp_path}"]
    command = ["bench", *many, "reference=converged"]
    assert main(command) == 0
    plain, guided = rows(tmp_path)
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        floor = float(list(csv.DictReader(file))[-1]["fid"])
    assert 0.1 < floor < plain["metrics"]["fid"]["value"]
    assert plain["metrics"]["fid"] != guided["metrics"]["fid"]
    assert len(list((tmp_path / "converged").iterdir())) == 4  # of these seeds and of others, with guidance and without
    assert "of the model's own converged samples" in (tmp_path / "table.md").read_text()
    before = (tmp_path / "results.jsonl").read_bytes()
    assert main(command) == 0 and (tmp_path / "results.jsonl").read_bytes() == before
    assert main(["bench", *many]) == 1  # another reference needs another folder


def table(folder) -> list[dict]:
    return list(csv.DictReader((folder / "table.csv").read_text(encoding="utf-8").splitlines()))


def test_a_report_has_everything_in_its_folder(tmp_path, capsys):
    out = tmp_path / "out"
    small = [*QUICK, f"out={out}"]
    assert main(["bench", *small, "solvers=[ddim,heun]", "nfe=[4,5]"]) == 0
    capsys.readouterr()
    assert main(["bench", *small, "solvers=[dpmpp_2m]", "nfe=[6]"]) == 0
    assert "5 rows are in" in capsys.readouterr().out
    shown = [row["solver"] for row in table(out) if row["solver"] != "converged"]
    assert shown == ["dpmpp_2m", "ddim", "ddim", "heun", "heun"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "- heun" in page and "- dpmpp_2m" in page  # in its configuration


def test_a_plan_that_was_tuned_again_takes_the_place_of_its_rows(tmp_path):
    solver = scoresde.tuned.of(scoresde.models.load("mnist").model, "tuned")
    old = {4: replace(solver.members[4], numbers=None), 5: solver.members[5]}
    arguments = ["bench", *QUICK, f"out={tmp_path / 'out'}"]
    for members, nfe in ((old, "[4,5]"), ({4: solver.members[4]}, "[4]")):
        path = tmp_path / f"{len(members)}.json"
        scoresde.TunedSolver(members, solver.about).save(path)
        assert main([*arguments, f"solvers=[{{name: tuned, path: {path}}}]", f"nfe={nfe}"]) == 0
    shown = [row for row in table(tmp_path / "out") if row["solver"] == "tuned"]
    assert sorted(float(row["budget"]) for row in shown) == [4, 5]
    newest = rows(tmp_path / "out")[-1]
    assert newest["budget"] == 4 and float(shown[0]["error"]) == newest["metrics"]["error"]["value"]


def test_what_failed_before_is_told_apart_from_what_is_asked_now(tmp_path, capsys):
    def failing(self, case, converged):
        raise ArithmeticError(f"no {case.solver.name} today")

    small = [*QUICK, f"out={tmp_path / 'out'}", "nfe=[4]"]
    assert main(["bench", *small, "solvers=[ddim]"]) == 0
    with mock.patch.object(bench_run.Bench, "_measure", failing):
        for name in ("heun", "dpmpp_2m"):
            assert main(["bench", *small, f"solvers=[{name}]"]) == 1
            told = capsys.readouterr().err
            assert "none of 1 rows could be measured" in told and f"no {name} today" in told
        next((tmp_path / "out" / "images").iterdir()).unlink()  # its row stands, and cannot be shown
        assert main(["bench", *small, "solvers=[ddim]"]) == 1
        assert "no ddim today" in capsys.readouterr().err
    assert main(["bench", *small, "solvers=[ddim,heun]"]) == 0
    assert sorted(row["solver"] for row in table(tmp_path / "out") if row["solver"] != "converged") == ["ddim", "heun"]


@pytest.mark.parametrize("reference", [[], ["reference=converged"]])
def test_only_the_figures_that_are_asked_for_are_measured(tmp_path, reference):
    asked = [*SMALL, *reference, "solvers=[ddim]", "nfe=[4]", "metrics=[kid,own_class]"]
    assert main(["bench", *asked, f"out={tmp_path / 'out'}"]) == 0
    (row,) = rows(tmp_path / "out")
    assert sorted(row["metrics"]) == ["error", "kid", "own_class"]
    assert (tmp_path / "out" / "report.html").is_file()
    words = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert words.startswith("KID in scoresde-mnist-64") and "FID" not in words


def test_a_model_without_features_or_reference_has_errors_where_no_figures_are_asked_for(model, tmp_path, capsys):
    asked = [f"model={model}", "n=4", "reference_nfe=10", "solvers=[ddim]", "nfe=[4]", f"out={tmp_path / 'out'}"]
    assert main(["bench", *asked]) == 1
    assert "needs a reference" in capsys.readouterr().err
    assert main(["bench", *asked, "metrics=[]"]) == 0
    (row,) = rows(tmp_path / "out")
    assert list(row["metrics"]) == ["error"] and row["feature_space"] == ""


def test_pictures_stand_under_the_names_of_their_classes(tmp_path):
    net = scoresde.models.build({"name": "unet", "channels": [4], "in_channels": 1, "num_classes": 2}, (1, 8, 8))
    made = {"process": scoresde.VP(), "prediction": "sample", "shape": (1, 8, 8), "classes": 2}
    scoresde.models.save(tmp_path / "model", net, network="unet", class_names=("automobile", "cat"), **made)
    asked = [f"model={tmp_path / 'model'}", "n=4", "label=cycle", "solvers=[ddim]", "nfe=[2]", "reference_nfe=10"]
    assert main(["bench", *asked, "metrics=[]", f"out={tmp_path / 'out'}"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('<span title="automobile">automobile</span>') == 2


def test_an_unknown_figure_is_refused_before_anything_is_loaded(tmp_path, capsys):
    with mock.patch.object(bench_command.measured, "loaded", side_effect=AssertionError("loaded")):
        assert main(["bench", *SMALL, "metrics=[fidd]", f"out={tmp_path / 'out'}"]) == 1
    assert "'fidd'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_solvers_are_timed_by_repeats_in_batches_of_any_size_and_once(tmp_path, capsys):
    folder = tmp_path / "out"
    asked = ["bench", *SMALL, "solvers=[ddim,{name: ddim, eta: 1}]", "nfe=[2]", "metrics=[]", f"out={folder}"]
    assert main([*asked, "timing=[1,30]"]) == 0
    timings = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    assert [(each["solver"], each["batch"], each["nfe"]) for each in timings] == [
        ("ddim", 1, 2.0),
        ("ddim", 30, 2.0),
        ("ddim(eta=1)", 1, 2.0),
        ("ddim(eta=1)", 30, 2.0),
    ]
    for each in timings:
        middle, low, high = each["seconds"]
        assert 0 < low <= middle <= high and each["runs"] >= 3 and "torch" in each["versions"]
    assert {"timings.csv", "speed.png", "speed.svg"} <= {path.name for path in folder.iterdir()}
    assert "No distance of distributions was measured" in (folder / "table.md").read_text(encoding="utf-8")
    before = (folder / "timings.jsonl").read_bytes()
    assert main([*asked, "timing=1"]) == 0  # what is there is not timed again, and other sizes stay
    assert (folder / "timings.jsonl").read_bytes() == before
    assert main([*asked, "timing=[0]"]) == 1
    assert "timing must be a whole number of at least 1, got 0" in capsys.readouterr().err


def test_the_time_left_is_not_that_of_converged_solutions(monkeypatch):
    clock, told = [0.0], []

    def kept(bench, case):
        clock[0] += 1.0
        if not told:  # its converged solution came first
            clock[0] += 1000.0
            bench._aside += 1000.0

    monkeypatch.setattr(bench_run, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(bench_run.Bench, "__init__", lambda bench: None)
    monkeypatch.setattr(bench_run.Bench, "_kept", kept)
    bench = bench_run.Bench()  # type: ignore[call-arg]
    bench.report = lambda row, done, total, left: told.append(left)
    bench.work([Case(solvers.get("ddim"), 5.0, None, "", "float32", "") for _ in range(3)], 3)
    assert told == [2.0, 1.0, 0.0]
