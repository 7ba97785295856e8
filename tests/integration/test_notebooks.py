"""Every notebook runs from its first cell to its last on what real runs have just written, and is stored without output."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from tests.integration.helpers import SECONDS
from wonder_ray.examples.digest import flow

if TYPE_CHECKING:
    from wonder_ray.client import Client

FOLDER: Final = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
PLOTS: Final = {"first-look": 2, "fan-outs": 4, "incident": 1}
PNG: Final = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def written(client: Client) -> Path:
    """The storage of this session's Ray, with three runs that the notebooks look at, one of which fails."""
    inputs: list[dict[str, Any]] = [{"documents": 12}, {"documents": 24}, {"documents": 12, "damaged": 5}]
    runs = [client.start(flow, given, trace=True) for given in inputs]
    records = [run.wait(SECONDS) for run in runs]
    assert [record and record.status for record in records] == ["completed", "completed", "failed"]
    client.flush()
    return client.storage.root


def test_the_notebooks_are_these() -> None:
    assert set(NOTEBOOKS) == set(PLOTS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_without_output(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"  # as Jupyter writes it: no changes without a change


def execute(name: str, storage: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of a notebook's cells, from the first to the last."""
    monkeypatch.setenv("WONDER_STORAGE", str(storage))
    notebook: Any = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call] # theirs
    with tempfile.TemporaryDirectory() as sockets:  # no ports; a socket's path must be short
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        NotebookClient(notebook, config=config, timeout=60, resources={"metadata": {"path": str(FOLDER)}}).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_on_what_real_runs_have_written(name: str, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = execute(name, written, monkeypatch)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    plots = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) == PLOTS[name]
    assert all(base64.b64decode(plot).startswith(PNG) for plot in plots)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_where_nothing_has_run_a_notebook_says_so_and_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CellExecutionError, match=rf"in {tmp_path} yet: make one with the command above"):
        execute(name, tmp_path, monkeypatch)
