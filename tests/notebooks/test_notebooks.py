from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebooks_folder_holds_notebooks():
    assert NOTEBOOKS


def test_notebook_in_git_holds_no_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_notebook_imports_the_public_api_only(path: Path):
    source = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    assert "from tfrec." not in source
    assert "import tfrec." not in source


SMALL = """
SCALE = 0.02
EPOCHS = 1
NUM_VECTORS = 3000
SETTINGS = [
    "encoder.pretraining.steps=10",
    "retrieval.epochs=2",
    "ranking.epochs=1",
    "evaluation.bootstrap=20",
    "index.kind=portable",  # one export, not two
    "export.replay_rows=2",
    "run.health_alarm=warn",
]
"""
"""Takes the place of the cell tagged `parameters`: the same, on a small shop and in less detail."""


def shrink(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = SMALL


@pytest.mark.slow
def test_notebook_runs_and_draws(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # What Jupyter, IPython, matplotlib and the notebook write goes where pytest clears up.
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    before = sorted(FOLDER.rglob("*"))
    notebook = nbformat.read(path, as_version=4)
    shrink(notebook)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert sorted(FOLDER.rglob("*")) == before
