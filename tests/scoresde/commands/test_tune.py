"""``scoresde tune``, and what other commands make of the file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import scoresde
from scoresde import ScoreModel, tuned
from scoresde.commands.main import main
from scoresde.commands.tune import run
from scoresde.files.bundled import bundled
from scoresde.models import load
from scoresde.tuned import Fixed, Member, TunedSolver
from solvers.coefficients.fitted import for_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a file for the bundled model, its plans not fitted but those for all models."""
    out, model = tmp_path_factory.mktemp("tuned"), load("mnist").model
    members = {nfe: Member(for_all(model.process, nfe, 3.0), Fixed("auto", {}, "auto")) for nfe in (2, 3)}
    about = {"prediction": model.prediction, "fingerprint": tuned.fingerprint(model), "noise_scale": 3.0}
    TunedSolver(members, about).save(out / "tuned.json")
    return out


def test_it_leaves_a_solver_a_page_a_picture_and_their_record_and_is_done_at_once_when_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["tune", "nfe=2", "n=16", "batch_size=16", "threads=1", f"out={tmp_path}"]
    assert main(asked) == 0
    found = TunedSolver.load(tmp_path / "tuned.json")
    assert list(found.members) == [2] and found.about["shape"] == [1, 28, 28]
    assert (tmp_path / "tuned.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["n"] == 16
    page = (tmp_path / "tuned.html").read_text(encoding="utf-8")
    assert "<h1>A solver tuned to mnist</h1>" in page and f"{found.about['noise_scale']:.4g}" in page
    capsys.readouterr()
    with monkeypatch.context() as patched:  # an older folder gets its page without a new tuning
        patched.setattr("scoresde.tune", None)
        (tmp_path / "tuned.html").unlink()
        picture = (tmp_path / "tuned.png").stat()
        figures, tune = [], run
        patched.setattr("scoresde.commands.tune.run", lambda config, out: figures.append(tune(config, out)))
        assert main(asked) == 0
        assert figures == [found.members[2].report["taken"]["mean"]]
        assert (tmp_path / "tuned.html").read_text(encoding="utf-8") == page
        assert (tmp_path / "tuned.png").stat().st_mtime_ns == picture.st_mtime_ns
        assert main(asked) == 0
    assert capsys.readouterr().out.count("tuned.json is there") == 2
    assert main([asked[0], "nfe=1", *asked[2:]]) == 0
    assert list(TunedSolver.load(tmp_path / "tuned.json").members) == [1, 2]
    assert "fixed solver kept" in (tmp_path / "tuned.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*asked, "seed=5"]) == 1
    assert "made with other values of seed" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("mine")
    with monkeypatch.context() as patched:
        there: list[str] = []
        patched.setattr(
            "scoresde.tune", lambda *_, folder, **__: there.extend(p.name for p in folder.iterdir()) or found
        )
        assert main([*asked, "seed=5", "--force"]) == 0
    assert sorted(there) == ["config.yaml", "mine.txt", "run.lock", "versions.json"]


def test_samples_of_it_are_drawn_and_recorded_by_its_content(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("sample", "solver=tuned", f"solver.path={folder / 'tuned.json'}", "n=2", "batch_size=2", "threads=1")
    assert main([*chosen, "nfe=3", f"out={tmp_path}"]) == 0
    recorded = yaml.safe_load((tmp_path / "config.yaml").read_text())["solver"]
    assert recorded == {"name": "tuned", "sha256": recorded["sha256"]} and len(recorded["sha256"]) == 64
    assert main([*chosen, "nfe=9", f"out={tmp_path / 'many'}"]) == 0
    assert "note: tuned(nfe=2, 3): 3 evaluations are taken, not 9" in capsys.readouterr().out
    assert main([*chosen, "nfe=1", f"out={tmp_path / 'few'}"]) == 1
    assert "tuned for 2, 3 evaluations: there is no plan for 1" in capsys.readouterr().err
    assert main(["sample", "solver=tuned", f"solver.path={tmp_path / 'none.json'}", f"out={tmp_path / 'x'}"]) == 1
    assert "none.json" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_beside_a_model_it_is_found_by_its_name_and_tells_auto_its_scale(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "model"
    own.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bundled()["mnist"] / name, own / name)
    common = ("model=folder", f"model.path={own}", "n=2", "nfe=3", "batch_size=2", "threads=1")
    assert main(["sample", *common, "solver=tuned", f"out={tmp_path / 'without'}"]) == 1
    assert "solver 'tuned' needs its file" in capsys.readouterr().err
    assert main(["sample", *common, "solver=auto", f"out={tmp_path / 'measured'}"]) == 0
    assert "solver=auto measured this model's noise scale" in capsys.readouterr().out
    shutil.copy(folder / "tuned.json", own / "tuned.json")
    assert main(["sample", *common, "solver=tuned", f"out={tmp_path / 'with'}"]) == 0
    assert main(["sample", *common, "solver=auto", f"out={tmp_path / 'auto'}"]) == 0
    assert "measured" not in capsys.readouterr().out
    scale = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())["solver"]["scale"]
    assert scale == json.loads((folder / "tuned.json").read_text())["noise_scale"]


def test_a_run_of_auto_from_before_there_was_a_scale_goes_on_as_it_was(tmp_path: Path) -> None:
    common = ("sample", "solver=auto", "n=2", "nfe=3", "batch_size=2", "threads=1", f"out={tmp_path}")
    assert main([*common]) == 0
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del settings["solver"]["scale"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    for path in [tmp_path / "samples.npz", *tmp_path.glob("shards/*")]:
        path.unlink()
    assert main([*common]) == 0
    assert "scale" not in yaml.safe_load((tmp_path / "config.yaml").read_text())["solver"]


def test_a_range_of_scales_is_tuned_over_and_each_of_them_sampled_at(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned_at_once(model: ScoreModel, **options: Any) -> TunedSolver:
        made = TunedSolver.load(folder / "tuned.json")
        of = {"guidance": model.guidance, "fingerprint": tuned.fingerprint(model)}
        bundled = TunedSolver.load(str(load("mnist").model.tuned))
        report = bundled.members[3].report
        members = {nfe: replace(member, report=report) for nfe, member in made.members.items()}
        return TunedSolver(members, {**bundled.about, **made.about, **of})

    monkeypatch.setattr(scoresde, "tune", tuned_at_once)
    common = ("guidance=classifier_free", "nfe=2", "batch_size=2", "threads=1")
    assert main(["tune", *common, "guidance.scale=[1,3]", f"out={tmp_path / 'tuned'}"]) == 0
    file = tmp_path / "tuned" / "tuned.json"
    assert TunedSolver.load(file).about["guidance"] == "classifier_free(scale=1 to 3)"
    sampled = ("sample", *common, "n=2", "solver=tuned", f"solver.path={file}")
    assert main([*sampled, "guidance.scale=1.5", f"out={tmp_path / 'within'}"]) == 0
    capsys.readouterr()
    assert main([*sampled, "guidance.scale=3.5", f"out={tmp_path / 'above'}"]) == 1
    assert "tuned for the guidance 'classifier_free(scale=1 to 3)'" in capsys.readouterr().err
    assert main([*sampled, "guidance.scale=[1,3]", f"out={tmp_path / 'over'}"]) == 1
    assert "images are made at one guidance scale, got a range" in capsys.readouterr().err
    inside = ("guidance=rescale", "guidance.of.scale=[1,3]", "nfe=2", f"out={tmp_path / 'inside'}")
    assert main(["tune", *inside]) == 0
    found = TunedSolver.load(tmp_path / "inside" / "tuned.json")
    assert found.about["guidance"] == "rescale(factor=0.7) of classifier_free(scale=1 to 3)"
    capsys.readouterr()
    assert main([*sampled, "guidance.scale=[1,high]", f"out={tmp_path / 'word'}"]) == 2
    assert "guidance.scale must be a number, got [1, 'high']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nfe=0", "nfe must be a whole number of at least 1, got 0"),
        ("nfe=[]", "nfe must be one or more whole numbers"),
        ("n=15", "n must be a whole number of at least 16, got 15"),
        ("effort=quik", "unknown effort 'quik'"),
        ("target=fid", "unknown target 'fid'"),
        ("label=11", "label must be 0 to 9"),
    ],
)
def test_what_is_typed_wrong_is_said_before_there_is_a_folder(
    wrong: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", wrong, f"out={tmp_path / 'out'}"]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
