"""Command lines: whatever goes wrong is one line on stderr, and an exit status."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from scoresde.commands import app
from scoresde.commands.main import COMMANDS, main

HERE = [sys.executable, "-m", "scoresde"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "error: the memory is not enough (MemoryError): a smaller batch_size needs less"),
        (RuntimeError("[enforce fail] can't allocate memory: 9 bytes"), "a smaller batch_size needs less"),
        (RuntimeError("two\nlines"), "error: two lines"),
        (ValueError(), "error: ValueError"),
        (KeyError("loss"), "KeyError: 'loss'. No such error should get here: please report it to the project"),
        (IndexError("3"), "IndexError: 3. No such error"),
        (AttributeError("no x"), "AttributeError: no x. No such error"),
        (RecursionError("deep"), "error: deep"),
        (AssertionError("underflow in dt"), "AssertionError: underflow in dt. No such error"),
        (KeyboardInterrupt(), "scoresde: interrupted"),
    ],
)
def test_every_error_is_one_line(error: BaseException, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        raise error

    assert app.guarded(action) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    line = capsys.readouterr().err
    assert said in line
    assert line.startswith("scoresde: ")
    assert line.count("\n") == 1


def test_an_error_about_a_file_does_not_end_in_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    assert main(["sample", "n=1", "nfe=1", f"out={tmp_path}/out/in"]) == 1
    line = capsys.readouterr().err
    assert "None" not in line
    assert "ot a directory" in line


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_quoted_word_is_read_back_as_it_was(word: str) -> None:
    assert OverridesParser.create().parse_override(f"key={app.quoted(word)}").value() == word


@given(st.text("ab'\"\\=()[]#~ $%é,:", min_size=1))
def test_a_path_that_is_no_word_of_hydra_s_is_read_as_typed(word: str) -> None:
    typed = app.as_typed(f"model.path={word}")
    if word.startswith(("'", '"', "[", "{")) or "," in word:
        return  # quoted by hand, or a list
    found = OverridesParser.create().parse_override(typed).value()
    assert found == word or "\\" in word  # a backslash is Hydra's escape where its grammar has one


ODD = [
    "x=1",
    "+x=1",
    "~n",
    "=",
    "out",
    "n==",
    "n=[",
    "n={",
    "n='",
    "--n=1",
    "n=${x}",
    "n=${oc.env:HOME}",
    "hydra.mode=odd",
    "\x1b[31m=1",
]


@pytest.mark.parametrize(
    ("command", "typed"),
    [(command, typed) for command in sorted(COMMANDS) for typed in (ODD if command == "sample" else ODD[:4])],
)
def test_odd_settings_are_wrong_usage_or_refused(
    command: str, typed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [f"out={tmp_path}/out", "edm=none.pkl"] if command == "convert" else [f"out={tmp_path}/out", "model=none"]
    assert main([command, *given, typed]) in (1, 2)
    line = capsys.readouterr().err
    assert line.startswith("scoresde: error: ")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("raised", [AttributeError("half made"), RuntimeError("lost"), OSError("closed")])
def test_an_error_on_the_way_out_of_what_was_interrupted_is_an_interrupt(
    raised: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """OmegaConf puts things back in ``finally``, where they may be half made."""

    def cleaning_up() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise raised

    def wrapping() -> None:
        try:
            cleaning_up()
        except Exception as error:
            raise ValueError("wrapped") from error

    for action in (cleaning_up, wrapping):
        assert app.guarded(action) == 130
        assert capsys.readouterr().err == "scoresde: interrupted\n"


def test_ctrl_c_at_any_moment_is_one_line(tmp_path: Path) -> None:
    for delay in (0.08, 0.3, 0.7, 1.2):
        with subprocess.Popen(
            [*HERE, "sample", "n=100000", f"out={tmp_path}/out"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            handled = Path(f"/proc/{process.pid}/status")
            while not int(handled.read_text().partition("SigCgt:")[2].split()[0], 16) & 2:  # not Python yet
                time.sleep(0.005)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        if delay > 0.1:  # before that it may still be Python's own start
            assert process.returncode == 130, err
            assert err.startswith("scoresde: interrupted")
            assert err.count("\n") == 1


@pytest.mark.parametrize("closed", [*(pytest.param((n,), marks=pytest.mark.slow) for n in range(3)), (0, 1, 2)])
def test_closed_streams_harm_nothing(closed: tuple[int, ...], tmp_path: Path) -> None:
    """Nor is a file opened in their place, which the next message would be written into."""
    script = (
        "import os, sys\n"
        f"for number in {closed}: os.close(number)\n"
        "from scoresde.commands.main import main\n"
        "assert main(['unknown']) == 2\n"
        f"assert main(['sample', 'n=0', 'out={tmp_path}/out']) == 1\n"
        f"assert os.open('{tmp_path}/file', os.O_CREAT) > 2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m scoresde sample --help | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_letters_that_the_terminal_lacks_are_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*HERE, "sample", "n=1", "nfe=1", f"out={tmp_path}/Übung"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "\\xdcbung" in done.stdout


def test_help_and_mistyped_names_are_there_before_torch_is() -> None:
    script = """if True:
        import sys
        from scoresde.commands.main import main
        tried = {"--help": 0, "sample --help": 0, "sample solver=hein": 2, "smaple": 2, "sample n": 2}
        for typed, status in tried.items():
            assert main(typed.split()) == status, typed
        heavy = {"torch", "numpy", "scipy", "matplotlib", "torchdiffeq"} & set(sys.modules)
        assert not heavy, heavy
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unknown solver 'hein'; did you mean 'heun'" in done.stderr


def test_what_is_wrong_by_itself_is_said_before_torch_is_there() -> None:
    script = """if True:
        import sys
        from scoresde.commands.main import main
        for typed in sys.argv[1:]:
            assert main(typed.split()) == 1, typed
            assert "torch" not in sys.modules, typed
    """
    compared = {"reference=none.npz": "no file at 'none.npz'", "features=pixels": "features=pixels needs a reference"}
    said = {f"sample metrics=true {typed}": message for typed, message in compared.items()}
    said |= {f"bench {typed}": message for typed, message in compared.items()}
    said |= {
        f"{command} {key}={least - 1}": f"{key} must be a whole number of at least {least}, got"
        for command, key, least in (
            ("sample", "n", 1),
            ("sample", "nfe", 1),
            ("plan", "steps", 1),
            ("bench", "n", 2),
            ("bench", "reference_nfe", 10),
            ("tune", "n", 16),
            ("train", "epochs", 1),
            ("train", "held_out", 0),
        )
    }
    said |= {
        f"{command} nfe=[5,x]": "nfe must be a whole number of at least 1, got 'x'" for command in ("bench", "tune")
    }
    said |= {f"{command} model.path=nowhere": "no model 'nowhere'" for command in ("sample", "bench", "tune", "plan")}
    said |= {f"{command} prompts=none.txt": "there is no file 'none.txt' for prompts" for command in ("sample", "tune")}
    said |= {
        f"bench {typed}=none.png": "there is no picture 'none.png'"
        for typed in ("image", f"image={sys.executable} mask")
    }
    said |= {
        "bench solvers=[ddim,hein]": "unknown solver 'hein'; did you mean 'heun'",
        "bench grids=[null,{name:karas}]": "unknown grid 'karas'; did you mean 'karras'",
        "bench guidances=[2,autoguidanc]": "unknown guidance 'autoguidanc'; did you mean 'autoguidance'",
        "bench features=torchscript features.path=none.pt reference=converged": "no TorchScript file at 'none.pt'",
    }
    done = subprocess.run([sys.executable, "-c", script, *said], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    for line, message in zip(lines, said.values(), strict=True):
        assert message in line


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("sample format=jpg", "unknown format 'jpg'"),
        ("sample dtype=auto format=jpg", "unknown format 'jpg'"),
        ("sample n=1 metrics=true", "metrics compare sets of images: give n=2 or more"),
        ("sample nfe=3 out=there", "'there' holds results made with other values of nfe"),
        ("sample dtype=auto nfe=3 out=there", "'there' holds results made with other values of nfe"),
        ("sample guidance=autoguidance guidance.weak=none", "no model 'none'"),
        ("tune guidance=autoguidance guidance.weak=none", "no model 'none'"),
        ("tune out=there", "'there' holds results made with other values of n"),
        ("bench solvers=[]", "nothing to compare: solvers is empty"),
        ("bench grids=[{name:karras,rho:x}]", "karras"),
        ("bench guidances=[{name:autoguidance,weak:none,scale:2}]", "no model 'none'"),
        ("bench compile=[fast]", "unknown compile mode 'fast'"),
        ("bench tolerances=[-1]", "tolerances must be a number above 0, got -1"),
        ("bench n=8 out=there", "'there' holds results made with other values of n"),
    ],
)
def test_what_needs_no_model_to_be_refused_is_refused_without_one(
    typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/config.yaml").write_text("n: 64\nnfe: 2\n", encoding="utf-8")
    loaded = importlib.import_module("scoresde.commands.measured")
    monkeypatch.setattr(loaded.models, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert main(typed.split()) == 1
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"there"}


@pytest.mark.parametrize("package", ["solvers", "scoresde"])
def test_every_public_name_is_found_whichever_is_asked_for_first(package: str) -> None:
    script = f"""if True:
        import os, torch, matplotlib, {package}
        for name in {package}.__all__:
            if not os.fork():
                try:
                    exec(f"from {package} import {{name}}")
                except ImportError as error:
                    print(name, error, flush=True)
                os._exit(0)
            os.wait()
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_public_name_is_found_and_an_unknown_one_is_not() -> None:
    scoresde = importlib.import_module("scoresde")
    for name in (*scoresde.__all__, "noise", "metrics", "data"):
        assert getattr(scoresde, name) is getattr(scoresde, name)
    with pytest.raises(AttributeError, match="module 'scoresde' has no attribute 'smaple'"):
        _ = scoresde.smaple
