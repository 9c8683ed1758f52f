"""``scoresde report``: the report of a benchmark's folder once more, or of several as one."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from scoresde import report
from scoresde.bench import join, read
from scoresde.bench.store import ROWS
from scoresde.commands import values
from scoresde.files.text import say


def run(config: DictConfig, out: Path) -> None:
    """Write the report that ``conf/report.yaml`` asks for.

    Raises:
        ValueError: a folder that holds no benchmark, or several that cannot stand in one table.
    """
    settings = values.resolved(config)
    named = settings["folders"] if isinstance(settings["folders"], list) else [settings["folders"]]
    folders = list(dict.fromkeys(Path(str(name)).expanduser() for name in named))
    found = {str(folder): read(folder) for folder in folders}
    first = next(iter(found.values()), None)
    outcome = join(found) if first is None or len(found) > 1 else first
    if folders != [out] and (out / ROWS).exists():
        raise ValueError(f"{str(out)!r} holds a benchmark of its own: choose another folder with out=…")
    out.mkdir(parents=True, exist_ok=True)
    written = report.write(outcome, out, str(settings["title"] or ""))
    joined = f" of {len(found)} folders" if len(found) > 1 else ""
    say(f"{report.tables.markdown(outcome)}\n\n{len(outcome.rows)} rows{joined}\n{out}: {', '.join(written)}")
    say(f"open {out / 'report.html'} in a browser")
