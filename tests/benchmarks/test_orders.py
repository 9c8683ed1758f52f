"""The certificate's command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.orders.convergence import main


def test_a_filter_that_matches_nothing_is_an_error_and_not_an_empty_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--only", "heun", "huen", "--out", str(tmp_path / "table.md")])
    assert stop.value.code == 2 and "no case is called 'huen'; did you mean 'heun'?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
