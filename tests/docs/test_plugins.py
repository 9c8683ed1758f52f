"""docs/plugins.md, walked: a solver of the user's own from a file to samples, rows and a certificate."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from scoresde.commands.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_page_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passing_plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (plugin,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("mine.py").write_text(plugin, encoding="utf-8")
    (experiment,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("my_conf/experiment").mkdir(parents=True)
    Path("my_conf/experiment/quick.yaml").write_text(experiment, encoding="utf-8")
    walked = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    assert len(walked) == 9
    said = []
    for line in walked:
        command, _, refusal = line.partition("  # fails: ")
        status = main(shlex.split(command)[1:])
        said.append(capsys.readouterr())
        assert (status == 0) == (not refusal), (line, said[-1].err)
        assert refusal in said[-1].err, line
    explained = "solver.weight=0.5  of the difference of slopes, 0 to 1; ½ is Adams–Bashforth, 0 is Euler"
    assert explained in said[0].out
    assert "| mine(weight=0) |" in said[2].out and "| mine |" in said[2].out
    assert said[3].out.count("holds") == 9
    assert yaml.safe_load(Path("mine/config.yaml").read_text(encoding="utf-8"))["plugins"].keys() == {"mine.py"}
    assert "heun on the grid karras" in said[6].out and ": 5 NFE" in said[7].out
