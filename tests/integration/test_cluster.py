"""`wonder up`, `status` and `down` on the session's Ray."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pytest
import ray

from tests.cli.conftest import invoke
from tests.clusters import TOP
from tests.integration.helpers import NAMESPACE, SECONDS, SERVICES, kill_services
from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.cli.flows import import_user_file
from wonder_ray.cli.openness import check_auth, check_dashboard
from wonder_ray.cli.ray_processes import DASHBOARD, GCS, ray_processes
from wonder_ray.client import connect
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import StorageError
from wonder_ray.executor.protocol import ActionRef, Call, TaskSpec, decode_outcomes
from wonder_ray.executor.remote import submit
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.conftest import RayCluster, WaitUntil


@pytest.fixture
def folder(ray_cluster: RayCluster, storage: Path) -> Iterator[Path]:
    """A storage whose services these tests make and end."""
    kill_services()
    yield storage
    kill_services()


def service_names() -> set[str]:
    return {each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if each["namespace"] == NAMESPACE}


def test_the_doctor_sees_the_ray_that_runs_here(ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # whose token others can read is not what this is about
    session = ray._private.worker._global_node.get_session_dir_path()
    running = [each for each in ray_processes() if each.options.get("session-dir") == session]
    assert [each.kind for each in running] == [GCS, DASHBOARD]
    assert {each.auth_mode for each in running} == {"token"}
    assert (check_auth(running).state, check_dashboard(running).state) == ("ok", "ok")


def test_services_are_made_looked_at_and_ended(folder: Path) -> None:
    nothing = invoke("status", "--json")
    assert nothing.code == 1
    assert {each["health"] for each in nothing.json["services"]} == {"down"}
    assert not service_names() & set(SERVICES)

    made = invoke("up", "--json", "--storage", folder)
    assert made.code == 0, made.err
    assert (made.json["up"], made.json["storage"], made.json["live_runs"]) == (True, str(folder), [])
    for each in made.json["services"]:
        assert (each["health"], each["epoch"], each["node"]) == ("ok", 1, ray.get_runtime_context().get_node_id())
        os.kill(each["pid"], 0)
    again = invoke("up", "--json", "--storage", folder)
    assert again.json["services"] == made.json["services"]

    ended = invoke("down", "--json")
    assert ended.json["ended"] == ["directory", "events", "logs", "resources"]
    assert not service_names() & set(SERVICES)
    assert invoke("down").out == "no service was up\n"
    second = invoke("up", "--json", "--storage", folder)
    assert {each["epoch"] for each in second.json["services"]} == {2}
    told = invoke("status")
    assert told.code == 0
    assert f"storage {folder}" in told.out
    assert "resources  ok  pid" in told.out


def test_a_killed_service_shows_in_its_epoch(folder: Path, wait_until: WaitUntil) -> None:
    made = invoke("up", "--json", "--storage", folder).json
    pids = {each["service"]: each["pid"] for each in made["services"]}
    os.kill(pids["events"], signal.SIGKILL)

    def restarted() -> bool:
        events = {each["service"]: each for each in invoke("status", "--json").json["services"]}["events"]
        return bool(events["health"] == "ok" and events["epoch"] == 2 and events["pid"] != pids["events"])

    wait_until(restarted, SECONDS, what="the event service to be restarted")


@pytest.mark.slow
def test_services_do_not_end_under_a_live_run(
    folder: Path, actions: Any, ledger: Any, tmp_path: Path, wait_until: WaitUntil
) -> None:
    gate = tmp_path / "gate"
    flow = Workflow("patient", output={"squares": "state.square"})
    flow.node("first", actions.noted_square, input={"n": "2", "ledger": "input.ledger", "seconds": "0.0"})
    flow.node("wait", actions.wait_for, input={"path": "input.path"})
    flow.node(
        "last",
        actions.noted_square,
        input={"n": "3", "ledger": "input.ledger", "seconds": "0.0"},
        output={"state.square": "result"},
    )
    flow.transition("first", "wait")
    flow.transition("wait", "last")
    with connect(storage=folder) as client:
        run = client.start(flow, {"ledger": str(ledger), "path": str(gate)})
        wait_until(lambda: len(ledger.executions()) == 1, SECONDS, what="the first node")
        refused = invoke("down", "--json")
        assert (refused.code, refused.out) == (2, "")
        assert f"1 runs are live: {run.id}" in refused.err
        assert [each["coordinator"] for each in invoke("status", "--json").json["live_runs"]] == [True]
        ended = invoke("down", "--force", "--json")
        assert ended.json["interrupted"] == [run.id]
        gate.touch()
    invoke("up", "--storage", folder)
    with connect(storage=folder) as client:
        assert client.run(run.id).result(SECONDS) == {"squares": 9}
        client.flush()
        table = ds.dataset(folder / "events", partitioning="hive").to_table(columns=["sequence_number"])
        assert sorted(table["sequence_number"].to_pylist()) == list(range(1, len(table) + 1))


def test_services_of_another_storage_are_not_taken_for_ours(folder: Path, tmp_path: Path) -> None:
    invoke("up", "--storage", folder)
    refused = invoke("up", "--storage", tmp_path / "other")
    assert refused.code == 2
    assert f"keep their data in {str(folder)!r}" in refused.err


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_a_cluster_that_is_not_there_is_no_cluster(command: str, tmp_path: Path) -> None:
    """In a process of its own: this one has a Ray, which would be taken."""
    asked = subprocess.run(
        [sys.executable, "-m", "wonder_ray.cli", command, "--address", "127.0.0.1:1"],
        env={**os.environ, "WONDER_STORAGE": str(tmp_path), "PYTHONPATH": str(TOP)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr.startswith("wonder: no Ray answers at 127.0.0.1:1 (Connection refused)")


def test_executors_without_the_storage_folder_get_their_code_from_the_node_that_has_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / f"distant_{secrets.token_hex(4)}.py"  # not one that this machine's cache of bundles has already
    file.write_text("def square(n):\n    return n * n\n")
    sha256 = BundleStore(folder).put(pack([import_user_file(file)]).data)
    spec = TaskSpec(
        run_id="run_1", workflow_name="flow", node_id="square", epoch=1, bundle=sha256, storage="/nowhere/on/this/node",
        action=ActionRef("square", f"{file.stem}:square"),
    )  # fmt: skip
    call = [Call("t_1", 1, "run_1/t_1", b'{"n": 4}')]
    [alone] = decode_outcomes(ray.get(submit(spec, call, {"num_cpus": 1}), timeout=SECONDS))
    assert alone.error is not None
    assert "is not on this node, and could not be fetched" in alone.error.message
    assert invoke("up", "--storage", folder).code == 0
    [served] = decode_outcomes(ray.get(submit(spec, call, {"num_cpus": 1}), timeout=SECONDS))
    assert (served.error, served.result) == (None, b"16")


def test_a_driver_on_a_node_without_the_folder_hands_its_code_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own folder of that name is another: code that lay only there would be lost with its node."""
    assert invoke("up", "--storage", folder).code == 0
    file = tmp_path / f"distant_{secrets.token_hex(4)}.py"
    file.write_text("def square(n):\n    return n * n\n")
    flow = Workflow("distant", output={"squares": "state.square"})
    flow.node("square", import_user_file(file).square, input={"n": "4"}, output={"state.square": "result"})
    monkeypatch.setattr("wonder_ray.client.clients.mark_of", lambda _folder: "on another host")
    with connect(storage=folder) as client:
        client.storage = Layout(tmp_path / "elsewhere").prepare()
        version = client.register(flow)
        sha256 = client._services.call("resources", "get_definition", "distant", version).bundle
        assert BundleStore(folder).read(sha256) == BundleStore(tmp_path / "elsewhere").read(sha256)
        BundleStore(tmp_path / "elsewhere").path(sha256).unlink()
        assert client.start("distant").result(SECONDS) == {"squares": 16}
        with pytest.raises(StorageError, match="and this is another node"):
            client.events.sql("SELECT 1")
        with pytest.raises(StorageError, match="and this is another node"):
            client.logs()
