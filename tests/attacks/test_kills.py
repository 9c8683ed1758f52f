"""Commands that are killed, or to whom the system gives nothing more, and that go on to the same bytes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from benchmarks.robustness import faults, inputs, kills
from benchmarks.robustness.children import forked


@pytest.mark.parametrize(("work", "count"), [("sample zip", 2), ("bench", 1), ("train", 1), ("convert", 3)])
def test_a_command_killed_at_any_event_goes_on_to_the_same_bytes(work: str, count: int, tmp_path: Path) -> None:
    wholes, found = kills.measure({work: count}, 1, tmp_path)
    assert len(found) >= count
    assert [kill for kill in found if kill.fault] == []
    assert set(kills.MINE) <= wholes[work].files.keys()


def test_a_killed_write_leaves_half_of_what_was_to_be_written(tmp_path: Path) -> None:
    """What the events are worth."""

    def action(at: int) -> None:
        kills.Events(lambda _: os.kill(os.getpid(), signal.SIGKILL), at)
        Path(f"{at}").write_bytes(b"12345678")
        os.replace(f"{at}", f"{at}.whole")

    ends = [forked(lambda at=at: action(at), tmp_path).status for at in range(1, 7)]
    assert ends == [*[-signal.SIGKILL] * 5, 0]
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    half, whole = {"1": b"", "2": b"1234"}, dict.fromkeys(("3", "4", "5.whole", "6.whole"), b"12345678")
    assert left == {**half, **whole}


@pytest.mark.slow
@pytest.mark.parametrize("work", kills.WORKS)
def test_many_kills_of_a_command_leave_the_same_bytes(work: str, tmp_path: Path) -> None:
    _, found = kills.measure({work: 60}, 2, tmp_path)
    assert [kill for kill in found if kill.fault] == []


@pytest.mark.slow
def test_the_installed_command_killed_at_random_moments_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    inputs.write(tmp_path / "inputs")
    found = kills.installed(6, 3, tmp_path)
    assert [kill for kill in found if kill.fault] == []


@pytest.mark.slow
@pytest.mark.parametrize("work", ["sample zip", "bench", "train", "convert"])
def test_what_the_system_refuses_is_one_line_and_the_same_bytes_afterwards(work: str, tmp_path: Path) -> None:
    """Full and read-only disks, no inodes, no descriptors: disks are mounted, for which one must be root."""
    found = faults.measure([work], tmp_path, 4)
    assert {outcome.kind: outcome.wrong for outcome in found} == {kind: [] for kind in faults.WORDS}
    assert all(outcome.refused for outcome in found)
