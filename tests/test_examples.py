"""The notebooks under examples/ run from the first cell to the last, in a kernel of their own."""

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parent.parent


def outputs(notebook, mime):
    """What the cells show in this form."""
    shown = (output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    return [data[mime] for data in shown if mime in data]


def test_the_notebook_runs_and_shows_table_figure_and_thought(tmp_path, monkeypatch):
    # The kernel finds mull where this process does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "examples" / "choose.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    pages = outputs(notebook, "text/html")
    assert any("<table" in page and "Token #N" in page and "<svg" in page for page in pages), "the run"
    assert any("at most" in page and "choice − this λ" in page for page in pages), "the choice"
    assert any("<summary>thought</summary>" in page for page in pages), "the reply"
    assert any("responses in" in text for text in outputs(notebook, "text/plain")), "the end of the bar"
    assert not any(output.output_type == "stream" for cell in notebook.cells for output in cell.get("outputs", ()))
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_the_notebook_as_it_is_stored_holds_its_results():
    notebook = nbformat.read(ROOT / "examples" / "choose.ipynb", as_version=4)
    pages = outputs(notebook, "text/html")
    assert any("<table" in page and "Token #N" in page for page in pages)
    assert not any(str(Path.home()) in str(cell.get("outputs")) for cell in notebook.cells)
