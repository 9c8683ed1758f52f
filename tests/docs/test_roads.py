"""The roads of three users, each a page that begins in an empty folder: walked from an installed wheel, in small."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.agreement import tiny_pipelines
from scoresde.commands.main import main
from scoresde.networks import NETWORKS
from solvers import Plan
from solvers.registry import PLUGIN

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"


@dataclass(frozen=True)
class Road:
    """One page.

    Attributes:
        page: its file.
        small: settings by command, for less to do.
        commands, refusals: how many it has.
    """

    page: str
    commands: int
    refusals: int
    small: dict[str, list[str]] = field(default_factory=dict)


FEW = ["n=8", "batch_size=8", "reference_nfe=12"]
RESEARCHER = Road(
    "researcher.md",
    commands=9,
    refusals=4,
    small={"certify": ["processes=[vp]", "shapes=[uniform]"], "sample": ["n=20"], "bench": ["nfe=[6]", *FEW]},
)
BENCHMARKER = Road("benchmarker.md", commands=8, refusals=2, small={"bench": [*FEW, "dtype=[float32]"]})
PRACTITIONER = Road("practitioner.md", commands=12, refusals=2, small={"bench": FEW, "tune": ["n=16"]})
ROADS = [RESEARCHER, BENCHMARKER, PRACTITIONER]


def blocks(page: str) -> list[tuple[str, str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(sh|text|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def words_of(line: str, small: dict[str, list[str]]) -> tuple[list[str], str]:
    """A command of a page, in small, and what it is refused with."""
    command, _, refusal = line.partition("  # fails: ")
    _, name, *words = shlex.split(command)
    return [name, *words, *(small.get(name, []) if not refusal else [])], refusal


def walked(line: str, small: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command of a page prints, which ends as the page says."""
    words, refusal = words_of(line, small)
    status = main(words)
    said = capsys.readouterr()
    assert (status == 0) == (not refusal), (line, said.err)
    assert refusal in said.err, said.err
    return said.out + said.err


def alike(line: str) -> str:
    """A line with other numbers and spaces, and intervals or none."""
    return " ".join(re.sub(NUMBER, "0", re.sub(rf" ± {NUMBER}%?", "", line)).split())


def printed(line: str, said: str) -> bool:
    """Whether a line of a page is among what was said, with other numbers, and anything for ``…``."""
    pattern = re.compile(".*".join(re.escape(alike(part)) for part in line.split("…")))
    return line == "" or any(pattern.fullmatch(alike(other)) for other in said.splitlines())


def prints(block: str) -> list[str]:
    """What a block of Python says that it prints."""
    return re.findall(r"# prints (.*)", block)


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.page.removesuffix(".md"))
def test_every_command_of_a_page_is_one(
    road: Road,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    passing_plugins: None,
) -> None:
    """Choices and settings are there, and what is refused by itself is refused so; walked they are in ``make slow``."""
    monkeypatch.chdir(tmp_path)
    Path("stable-diffusion").mkdir()
    Path("stable-diffusion", "model_index.json").write_text("{}")
    Path("second_look.py").write_text(next(block for kind, block in blocks("researcher.md") if kind == "python"))
    lines = [line for kind, block in blocks(road.page) if kind == "sh" for line in block.splitlines()]
    for line in lines:
        if " report " in line or " -m " in line or "other values of" in line:
            continue  # no configuration, or several; refused for what is in the folder
        if "# fails: " in line:
            walked(line, {}, capsys)
        else:
            assert main([*words_of(line, road.small)[0], "--cfg", "job"]) == 0, capsys.readouterr().err
    assert (len(lines), sum("# fails: " in line for line in lines)) == (road.commands, road.refusals)


def test_a_practitioner_s_page_is_walked_from_an_empty_folder(
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unplotted: None,
) -> None:
    """With a small network in the place of the bundled one; the pipeline's commands are another test's."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tiny_pipelines.stable_diffusion().save_pretrained("stable-diffusion")
    said = ""
    for kind, block in blocks("practitioner.md"):
        if kind == "sh":
            lines = [line.replace("model=mnist", f"model={model}") for line in block.splitlines()]
            said = "".join(walked(line, PRACTITIONER.small, capsys) for line in lines if "stable-diffusion" not in line)
        elif kind == "text" and said:
            assert [line for line in block.splitlines() if not printed(line, said)] == [], said
        elif kind == "python":
            capsys.readouterr()
            exec(compile(block, "practitioner.md", "exec"), {})
            assert capsys.readouterr().out.splitlines() == prints(block)
    labels = [np.load(f"swept/solver={name}/samples.npz")["labels"].tolist() for name in ("ddim", "uni_pc", "auto")]
    assert labels[0] == labels[1] == labels[2]
    assert np.load("quick/samples.npz")["samples"].shape == (16, 1, 8, 8)
    assert np.load("first/samples.npz")["labels"].tolist() == [3] * 16


@pytest.mark.slow
@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.page.removesuffix(".md"))
def test_a_page_is_walked_from_a_wheel_in_an_empty_folder(road: Road, installed: Any, tmp_path: Path) -> None:
    """As for who has neither the checkout nor its tests."""
    found = blocks(road.page)
    if road is RESEARCHER:
        (_, plugin), *found = found
        (tmp_path / "second_look.py").write_text(plugin, encoding="utf-8")
    if road is PRACTITIONER:
        torch.manual_seed(0)
        tiny_pipelines.stable_diffusion().save_pretrained(tmp_path / "stable-diffusion")
        (tmp_path / "prompts.txt").write_text("a red cat\ntwo dogs\n", encoding="utf-8")
    said, runs = "", 0
    for kind, block in found:
        if kind == "sh":
            said = ""
            for line in block.splitlines():
                runs += 1
                words, refusal = words_of(line, road.small)
                done = installed.run("scoresde", *words, cwd=tmp_path)
                assert (done.returncode == 0) == (not refusal) and refusal in done.stderr, (line, done.stderr)
                said += done.stdout + done.stderr
        elif kind == "text":
            for line in block.splitlines():
                assert printed(line, said), (line, said)
        else:
            done = installed.run("python", "-c", block, cwd=tmp_path)
            assert done.returncode == 0 and done.stdout.splitlines() == prints(block), done.stderr
    assert runs == road.commands
    for name, check in ((RESEARCHER, researched), (BENCHMARKER, benchmarked)):
        if road is name:
            check(tmp_path)


def researched(folder: Path) -> None:
    """What a researcher has at the end."""
    assert Plan.load(folder / "plan" / "plan.json").nfe == 5
    assert np.load(folder / "ring" / "samples.npz")["samples"].shape == (20, 2)
    for name in ("plan/plan.png", "ring/samples.png", "ring/trajectories.png", "compared/samples.png", "paths.png"):
        assert np.asarray(Image.open(folder / name).convert("RGB")).std() > 5, name
    page = (folder / "compared" / "report.html").read_text(encoding="utf-8")
    assert 'alt="points: second_look(share=0), 6 evaluations"' in page


def benchmarked(folder: Path) -> None:
    """What a benchmarker has at the end."""
    runs = folder / "runs"
    assert len((runs / "both" / "table.csv").read_text(encoding="utf-8").splitlines()) == 1 + 1 + 24
    assert "Two times 200 digits" in (runs / "both" / "report.html").read_text(encoding="utf-8")
    assert (runs / "speed" / "timings.csv").is_file()


def test_a_process_a_network_and_a_density_of_ones_own_are_made_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passing_plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    text = (DOCS / "yours.md").read_text(encoding="utf-8")
    found = blocks("yours.md")
    own = [block for kind, block in found if kind == "python" and ".add(" in block]
    files = dict(zip(re.findall(r"`(\w+\.py)`:", text), own, strict=True))
    assert files.keys() == {"mine.py", "schedule.py", "cross.py"}
    names: dict[str, Any] = {}
    commands = 0
    for kind, block in found:
        if kind == "python" and (file := next((name for name, b in files.items() if b == block), None)):
            Path(file).write_text(block, encoding="utf-8")
        elif kind == "sh":
            for line in block.splitlines():
                with monkeypatch.context() as passing:
                    if "plugins=" not in line:  # as in a process of its own
                        ours = {name: NETWORKS[name] for name in NETWORKS if name != "small"}
                        passing.setattr(NETWORKS, "_makers", ours)
                    walked(line, {}, capsys)
                commands += 1
        elif kind == "python":
            names |= vars(sys.modules[f"{PLUGIN}mine"])
            exec(compile(block, "yours.md", "exec"), names)
            assert capsys.readouterr().out.splitlines() == re.findall(r"^[^#].*# prints (.*)", block, re.MULTILINE)
    assert commands == 7
    for folder, shape in (("drawn", (4, 1, 8, 8)), ("late", (50, 2)), ("crossed", (50, 2))):
        assert np.load(f"{folder}/samples.npz")["samples"].shape == shape
