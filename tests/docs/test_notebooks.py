"""The notebooks run from top to bottom, and hold what they said when they were written."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    before = [len(cell.get("outputs", [])) for cell in notebook.cells]
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    for cell, outputs in zip(notebook.cells, before, strict=True):
        assert not outputs or cell["outputs"], cell["source"]
        assert all(output["output_type"] != "error" for output in cell.get("outputs", []))


def test_there_are_notebooks_with_pictures_in_them() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_on_your_model", "first_steps", "your_own_solver"]
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        assert "image/png" in text and "/work/" not in text and "Traceback" not in text
