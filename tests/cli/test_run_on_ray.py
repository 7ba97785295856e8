"""`wonder run`, `resume` and `cancel` on a real Ray: in this process where one Ray will do, as processes where it will not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec
import pyarrow.dataset as ds
import pytest

from tests.cli.conftest import Called, invoke
from wonder_ray.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RayCluster, WaitUntil

TOP = Path(__file__).parents[2]
SERVICES = ("events", "logs", "resources", "directory")
RESULT_KEYS = {"run_id", "status", "output", "error", "tokens", "events", "duration_ms", "storage"}
FLOW = """
import time
from pathlib import Path

from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append


def spread(n: int) -> list[int]:
    print("spreading", n)
    return list(range(n))


def square(n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return n * n


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.05)
    return path


print("imported")
squares = Workflow("squares", input={"type": "object", "required": ["n"]}, output={"squares": "state.squares"})
squares.node("spread", spread, input={"n": "input.n"}, output={"state.numbers": "result"})
squares.node("square", square, input={"n": "item"})
squares.compute("done")
squares.transition("spread", "square", foreach="state.numbers", group="all")
squares.transition("square", "done", join=All("all", merge=Append("state.squares")))

patient = Workflow("patient", output={"path": "state.path"})
patient.node("first", spread, input={"n": "1"})
patient.node("wait", wait_for, input={"path": "input"}, output={"state.path": "result"})
patient.transition("first", "wait")
"""


@pytest.fixture(scope="session")  # a module is imported once in a process, from one file
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("flows") / "flow_on_ray.py"
    file.write_text(FLOW, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def folder(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage for the runs of this module: the services of one Ray keep to one folder."""
    _kill_services(ray_cluster)
    yield tmp_path_factory.mktemp("on_ray")
    _kill_services(ray_cluster)


def _kill_services(cluster: RayCluster) -> None:
    import ray

    for found in ray.util.list_named_actors(all_namespaces=True):
        if found["namespace"] == cluster.namespace and found["name"] in SERVICES:
            ray.kill(ray.get_actor(found["name"], namespace=cluster.namespace))


def rows_in_parquet(storage: str, run_id: str) -> int:
    return int(ds.dataset(f"{storage}/events", format="parquet").count_rows(filter=ds.field("workflow_run_id") == run_id))


def test_a_run_completes_and_its_events_are_in_parquet(folder: Path, flow: Path) -> None:
    found = invoke("run", flow, "--name", "squares", "--input", '{"n": 5}', "--json", "--label", "team=data", "--storage", folder)
    assert found.code == 0, found.err
    told = found.json
    assert set(told) == RESULT_KEYS
    assert (told["status"], told["output"], told["error"]) == ("completed", {"squares": [0, 1, 4, 9, 16]}, None)
    assert told["storage"] == str(folder)
    assert rows_in_parquet(told["storage"], told["run_id"]) == told["events"]
    assert found.out.count("\n") == 1
    assert invoke("show", told["run_id"], "--json", "--storage", folder).json["labels"] == {"team": "data"}


def test_a_run_that_fails_ends_with_1_and_says_why(folder: Path, flow: Path) -> None:
    found = invoke("run", flow, "--name", "squares", "--input", '{"n": 20}', "--storage", folder)
    assert found.code == 1
    assert "error    ValueError: unlucky (node square)" in found.out
    assert f"--storage {folder}" in found.out
    run_id = found.out.split()[1]
    logged = invoke("logs", run_id, "--level", "error", "--json", "--storage", folder)
    assert any("unlucky" in line["message"] for line in logged.lines)


def test_a_second_start_with_the_same_key_finds_the_first_run(folder: Path, flow: Path) -> None:
    args = ["run", flow, "--name", "squares", "--input", '{"n": 2}', "--key", "once", "--json", "--trace", "--storage", folder]
    first, second = invoke(*args), invoke(*args)
    assert (first.code, second.code) == (0, 0)
    assert first.json == second.json
    assert invoke("trace", first.json["run_id"], "--json", "--storage", folder).lines
    other = invoke(*[arg if arg != '{"n": 2}' else '{"n": 3}' for arg in args])
    assert (other.code, other.out) == (2, "")
    assert "another input" in other.err


def test_a_definition_in_yaml_runs_with_the_code_beside_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flow_beside.py").write_text("def double(n):\n    return 2 * n\n", encoding="utf-8")
    file = tmp_path / "doubling.yaml"
    file.write_text(
        "name: doubling\noutput: {n: state.n}\n"
        "nodes: {double: {action: 'flow_beside:double', input: {n: input}, output: {state.n: result}}}\n",
        encoding="utf-8",
    )
    found = invoke("run", file, "--input", "-", "--json", "--storage", folder, stdin="21")
    assert found.code == 0, found.err
    assert found.json["output"] == {"n": 42}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "{}"], "'n' is a required property"),
        (["--input", "{n: 1}"], "not a JSON text"),
        (["--label", "x"], "name=value"),
        (["--name", "nothing"], "no workflow 'nothing'"),
        (["--detach", "--input", '{"n": 1}'], "a local Ray ends with this command"),
    ],
)
def test_what_cannot_be_started_is_refused_before_ray_is_asked(flow: Path, storage: Path, args: list[str], message: str) -> None:
    named = args if "--name" in args else [*args, "--name", "squares"]
    found = invoke("run", flow, *named, "--storage", storage)
    assert (found.code, found.out) == (2, "")
    assert message in found.err
    assert "Ray ..." not in found.err


def test_a_detached_run_goes_on_and_can_be_waited_for(
    folder: Path, flow: Path, ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.gcs_address)  # a cluster that outlives the command
    gate = tmp_path / "gate"
    started = invoke("run", flow, "--name", "patient", "--input", f'"{gate}"', "--detach", "--json", "--storage", folder)
    assert started.code == 0, started.err
    run_id = started.json["run_id"]
    assert started.json["status"] in {"queued", "running"}

    def waiting() -> bool:
        return bool(Reader(folder).show(run_id)["nodes"].get("wait"))

    wait_until(waiting, timeout=60, what="the second node to be reached")
    shown = invoke("show", run_id, "--json", "--storage", folder).json
    assert shown["coordinator"]["placement"] == "dedicated"
    assert shown["coordinator"]["pid"] > 0
    gate.touch()
    ended = invoke("resume", run_id, "--json", "--storage", folder)
    assert (ended.code, ended.json["output"]) == (0, {"path": str(gate)})


def test_a_run_can_be_cancelled(
    folder: Path, flow: Path, ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.gcs_address)
    started = invoke(
        "run", flow, "--name", "patient", "--input", f'"{tmp_path}/never"', "--detach", "--json", "--storage", folder
    )
    run_id = started.json["run_id"]
    found = invoke("cancel", run_id, "--reason", "no longer needed", "--json", "--storage", folder)
    assert (found.code, found.json["status"]) == (0, "cancelled"), found.err
    requested = invoke("events", run_id, "--type", "workflow.cancel_requested", "--json", "--storage", folder).lines
    assert [event["metadata"]["reason"] for event in requested] == ["no longer needed"]
    assert invoke("cancel", run_id, "--storage", folder).code == 0
    assert invoke("resume", run_id, "--storage", folder).code == 1


# ------------------------------------------------------------------------------------------------- as processes of their own


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wonder_ray.cli", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TOP)


def finish(process: subprocess.Popen[str]) -> Called:
    out, err = process.communicate(timeout=110)
    return Called(process.returncode, out, err)


def read_until(stream: IO[str] | None, text: str) -> str:
    assert stream is not None
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"{text!r} never came: {seen}")


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resumes(flow: Path, storage: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with start("run", flow, "--name", "patient", "--input", f'"{gate}"', "--storage", storage, "--json") as process:
        read_until(process.stderr, "at wait")
        process.send_signal(signal.SIGINT)
        interrupted = finish(process)
    assert (interrupted.code, interrupted.out) == (130, "")
    run_id = Reader(storage).record("latest").run_id
    assert f"wonder resume {run_id} --storage {storage}" in interrupted.err
    assert Reader(storage).coordinator(run_id) is None
    gate.touch()
    with start("resume", "latest", "--json", "--storage", storage) as process:
        resumed = finish(process)
    assert resumed.code == 0, resumed.err
    assert (resumed.json["run_id"], resumed.json["output"]) == (run_id, {"path": str(gate)})
    events = [row.event_type for row in Reader(storage).events(run_id)]
    assert events.count("workflow.completed") == 1
    assert events.count("run.resumed") == 1
    assert rows_in_parquet(str(storage), run_id) == len(events)


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_run_can_be_cancelled_from_another_terminal(flow: Path, storage: Path, tmp_path: Path) -> None:
    with start("run", flow, "--name", "patient", "--input", f'"{tmp_path}/never"', "--storage", storage, "--json") as process:
        read_until(process.stderr, "at wait")
        with start("cancel", "latest", "--json", "--storage", storage) as other:
            cancelled = finish(other)
        run = finish(process)
    assert (cancelled.code, cancelled.json["status"]) == (0, "cancelled"), cancelled.err
    assert (run.code, run.json["status"]) == (1, "cancelled")
    assert msgspec.json.decode(run.out.splitlines()[-1])["run_id"] == cancelled.json["run_id"]
