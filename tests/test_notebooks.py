"""Every notebook runs from top to bottom and is committed without outputs or traces of a machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbmake.nb_run import NotebookRun

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.name for path in NOTEBOOKS]
CELL_SECONDS = 600  # the longest cell takes 20 s on an idle core; CI's cores are shared
ABSOLUTE_PATH = re.compile(r"(?<![\w/.:<])/[A-Za-z][\w.-]*/[\w.-]+|\b[A-Za-z]:\\|(?<!\w)~/|file://")


def leftovers(notebook: nbformat.NotebookNode) -> list[str]:
    """List every output, counter, path and piece of metadata that a run or a machine has left in ``notebook``."""
    found = [f"metadata: {key}" for key in sorted(notebook.metadata.keys() - {"kernelspec", "language_info"})]
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not named python3")
    if notebook.metadata.get("language_info", {}).keys() - {"name"}:
        found.append("metadata: the version of the language")
    for number, cell in enumerate(notebook.cells):
        found += [f"cell {number}: {key}" for key in ("outputs", "execution_count", "metadata", "attachments") if cell.get(key)]
        found += [f"cell {number}: absolute path {path}" for path in ABSOLUTE_PATH.findall(cell.source)]
    return found


@pytest.fixture(autouse=True)
def bare_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no start-up files or kernels of the user, and draw figures inline."""
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("MPLBACKEND", raising=False)


def test_notebooks_are_committed_stripped() -> None:
    assert "overlap_loss.ipynb" in NAMES
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert leftovers(notebook) == [], path.name


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    result = NotebookRun(Path(shutil.copy(path, work)), default_timeout=CELL_SECONDS).execute()
    assert result.error is None, result.error.trace
    code = [cell for cell in result.nb.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    figures = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert figures == sum(cell.source.count("plt.subplots(") for cell in code)
    assert [left.name for left in work.iterdir()] == [path.name]


def test_a_failing_cell_is_an_error(tmp_path: Path) -> None:
    """Without this, the test above could never fail."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    result = NotebookRun(tmp_path / "wrong.ipynb", default_timeout=CELL_SECONDS).execute()
    assert result.error is not None
    assert "AssertionError" in result.error.trace


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (nbformat.v4.new_code_cell("1 / 2  # h / 2, a/b/c, ../data/x, https://x.org/y/z"), []),
        (nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="1")]), ["cell 0: outputs"]),
        (nbformat.v4.new_code_cell("1", execution_count=3), ["cell 0: execution_count"]),
        (nbformat.v4.new_code_cell("1", metadata={"execution": {"shell.execute_reply": "now"}}), ["cell 0: metadata"]),
        (nbformat.v4.new_markdown_cell("see `/home/me/data`"), ["cell 0: absolute path /home/me"]),
        (nbformat.v4.new_code_cell("open('~/data')"), ["cell 0: absolute path ~/"]),
        (nbformat.v4.new_code_cell("open(r'C:\\data')"), ["cell 0: absolute path C:\\"]),
    ],
)
def test_leftovers_are_found(cell: nbformat.NotebookNode, expected: list[str]) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    assert leftovers(notebook) == expected


def test_foreign_metadata_is_found() -> None:
    metadata = {
        "kernelspec": {"name": "my-env", "display_name": "mine"},
        "language_info": {"name": "python", "version": "3.12.1"},
        "colab": {},
    }
    found = leftovers(nbformat.v4.new_notebook(metadata=metadata))
    assert found == ["metadata: colab", "the kernel is not named python3", "metadata: the version of the language"]
