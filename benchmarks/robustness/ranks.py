"""One run of ``scoresde sample`` by one, two and three processes: the same files, metrics among them.

python benchmarks/robustness/ranks.py --out benchmarks/results/processes.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import torch

from scoresde.files import digest, replacing
from scoresde.runs.hardware import cpu

ARGUMENTS = "sample n=10000 nfe=5 batch_size=64 dtype=bfloat16 threads=1 label=data metrics=true"


def run(count: int, folder: Path) -> tuple[str, float]:
    """SHA-256 of the list of all files with their SHA-256, and FID."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    subprocess.run([sys.executable, *launcher, "-m", "scoresde", *ARGUMENTS.split(), f"out={folder}"], check=True)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    text = "".join(f"{digest(path)}  {path.relative_to(folder)}\n" for path in files)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return sha256(text.encode()).hexdigest(), metrics["metrics"]["fid"]["value"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = {count: run(count, Path(home) / str(count)) for count in (1, 2, 3)}
    rows = [f"| {count} | `{files}` | {value!r} |" for count, (files, value) in found.items()]
    text = "\n".join(
        [
            "`python benchmarks/robustness/ranks.py`",
            "",
            f"`scoresde {ARGUMENTS}`, by torchrun and gloo for more than one process; {cpu()}, torch "
            f"{torch.__version__}.",
            "",
            "| processes | SHA-256 of the list of all files' | FID |",
            "|---:|---|---:|",
            *rows,
            "",
        ]
    )
    print(text)
    if arguments.out:
        with replacing(arguments.out) as path:
            path.write_text(text, encoding="utf-8")
    if len(set(found.values())) > 1:
        raise SystemExit("the runs differ")


if __name__ == "__main__":
    main()
