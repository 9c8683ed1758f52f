"""What a shell offers at the tabulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scoresde.commands import app, completion
from scoresde.commands.main import COMMANDS, main

SCORESDE = Path(sys.executable).with_name("scoresde")


def offered(line: str, folder: Path) -> list[str]:
    """By bash, for a line that ends at the cursor."""
    told = f"""
        eval "$('{SCORESDE}' --completion bash)"
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_TYPE=9
        _python_argcomplete '{SCORESDE}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    found = subprocess.run(["bash", "-c", told], cwd=folder, capture_output=True, text=True, check=True)
    return [word.strip() for word in found.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scoresde sa", ["sample"]),
        ("scoresde sample sol", ["solver="]),
        ("scoresde sample solver=dpmpp_2m_", ["dpmpp_2m_cfg_pp", "dpmpp_2m_sde"]),
        ("scoresde sample solver=heun solver.s_t", ["solver.s_tmin=", "solver.s_tmax="]),
        ("scoresde sample solver=heun,langevin", ["heun,langevin_pc"]),
        ("scoresde sample metrics=", ["true", "false"]),
        ("scoresde train data=folder data.path=pho", ["photos/"]),
        ("scoresde sample model=ru", ["runs/"]),
        ("scoresde sample --config", ["--config-dir"]),
        ("scoresde --completion ", ["bash", "zsh", "fish"]),
        ("scoresde nonsense sol", []),
        ("scoresde sample nothing=", []),
    ],
)
def test_bash_offers_what_may_stand_at_the_cursor(line: str, words: list[str], tmp_path: Path) -> None:
    for name in ("photos", "runs"):
        (tmp_path / name).mkdir()
    assert [word for word in offered(line, tmp_path) if word] == words


def test_it_is_there_before_torch_is() -> None:
    told = "import sys; from scoresde.commands import completion as c; c.candidates('sample', ['solver=heun'], 's')"
    subprocess.run([sys.executable, "-c", f"{told}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_that_is_offered_is_one(command: str) -> None:
    config = app.composed(command, ())
    keys = completion.candidates(command, [], "")
    assert set(keys) == {f"{key}=" for key in config}
    for group in (key[:-1] for key in keys if (app.config_folder() / key[:-1]).is_dir()):
        names = completion.candidates(command, [], f"{group}=")
        assert {f"{group}={path.stem}" for path in (app.config_folder() / group).glob("*.yaml")} <= set(names)


def test_other_shells_have_their_scripts_and_unknown_ones_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, sign in (("bash", "complete "), ("zsh", "compdef "), ("fish", "complete --command scoresde")):
        assert main(["--completion", shell]) == 0
        assert sign in capsys.readouterr().out
    assert main(["--completion", "fsh"]) == 2
    assert "did you mean 'fish'?" in capsys.readouterr().err
    assert main(["--completion"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
