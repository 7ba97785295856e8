"""Several drivers on one cluster: they do not mix, and a run outlives the one that started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.integration.helpers import SECONDS, Ledger, check_history, kill_hard, kill_services, service_pid
from wonder_ray.client import connect
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from tests.conftest import RayCluster, WaitUntil
    from wonder_ray.client import Client

TOP = Path(__file__).parents[2]
DRIVER = """
import json, os, sys, time
from pathlib import Path

import ray
import wonder_ray as wonder


def label(n, name):
    return f"{name}-{n}"


def wait_for(path, ledger):
    with open(ledger, "a") as file:
        file.write("waiting\\n")
    while not Path(path).exists():
        time.sleep(0.02)
    return path


def labels(name, count):
    flow = wonder.Workflow("labels", output={"all": "state.all"})
    flow.compute("first", output={"state.numbers": "input.numbers"})
    flow.node("each", label, input={"n": "item", "name": "input.name"})
    flow.compute("done")
    flow.transition("first", "each", foreach="state.numbers", group="g")
    flow.transition("each", "done", join=wonder.All("g", merge=wonder.Append("state.all")))
    return flow, {"name": name, "numbers": list(range(count))}


def patient(path, ledger):
    flow = wonder.Workflow("patient", output={"path": "state.path"})
    flow.node("first", wait_for, input={"path": "input.path", "ledger": "input.ledger"}, output={"state.path": "result"})
    flow.node("second", label, input={"n": "1", "name": "state.path"}, output={"state.path": "result"})
    flow.transition("first", "second")
    return flow, {"path": path, "ledger": ledger}


if __name__ == "__main__":
    address, storage, what, *rest = sys.argv[1:]
    if what == "patient":
        # a driver with a namespace and an environment of its own, which takes nothing with it when it goes
        ray.init(address=address, namespace="mine", log_to_driver=False, runtime_env={"env_vars": {"DRIVERS_OWN": "1"}})
    client = wonder.connect(address, storage=storage)
    flow, value = labels(rest[0], int(rest[1])) if what == "labels" else patient(*rest)
    run = client.start(flow, value, labels={"driver": what})
    if what == "labels":
        print(json.dumps([run.id, run.result(90)]))
    else:
        print(json.dumps([run.id, None]), flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("drivers") / "driver_flow.py"
    file.write_text(DRIVER)
    return file


def drive(script: Path, cluster: RayCluster, storage: Path, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(script), cluster.gcs_address, str(storage), *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def told(driver: subprocess.Popen[str]) -> tuple[str, Any]:
    out, err = driver.communicate(timeout=SECONDS)
    assert out, err
    run_id, result = json.loads(out.splitlines()[-1])
    return run_id, result


def test_two_drivers_at_once_get_their_own_results(
    script: Path, ray_cluster: RayCluster, client: Client, wait_until: WaitUntil
) -> None:
    drivers = [drive(script, ray_cluster, client.storage.root, "labels", name, 60) for name in ("red", "blue")]
    for name, driver in zip(("red", "blue"), drivers, strict=True):
        run_id, result = told(driver)
        assert result == {"all": [f"{name}-{n}" for n in range(60)]}
        rows = check_history(client, client.run(run_id), wait_until)
        assert {row["workflow_run_id"] for row in rows} == {run_id}


def test_a_run_goes_on_without_its_driver_and_its_files(
    script: Path, ray_cluster: RayCluster, client: Client, ledger: Ledger, tmp_path: Path, wait_until: WaitUntil
) -> None:
    gate = tmp_path / "gate"
    copy = tmp_path / "code" / "gone_flow.py"
    copy.parent.mkdir()
    copy.write_text(script.read_text())
    driver = drive(copy, ray_cluster, client.storage.root, "patient", gate, ledger)
    run_id, _ = told(driver)
    assert driver.returncode == -9, "the driver was killed as soon as the run was started"
    copy.unlink()
    run = client.run(run_id)
    wait_until(ledger.path.exists, SECONDS, what="the first node, whose driver is gone")
    assert run.wait(0.2) is None
    gate.touch()
    assert run.result(SECONDS) == {"path": f"{gate}-1"}
    check_history(client, run, wait_until)
    assert ledger.path.read_text() == "waiting\n"


def test_the_driver_that_started_the_services_takes_nothing_with_it(
    script: Path, ray_cluster: RayCluster, client: Client, ledger: Ledger, tmp_path: Path, wait_until: WaitUntil
) -> None:
    """It alone had a runtime environment, and its job is over while the run is in the middle."""
    kill_services()
    gate, storage = tmp_path / "gate", tmp_path / "storage"
    driver = drive(script, ray_cluster, storage, "patient", gate, ledger)
    run_id, _ = told(driver)
    wait_until(ledger.path.exists, SECONDS, what="the first node")
    with connect(storage=storage) as other:
        run = other.run(run_id)
        assert run.wait(0.2) is None
        gate.touch()
        assert run.result(SECONDS) == {"path": f"{gate}-1"}
        assert {row["epoch"] for row in check_history(other, run, wait_until)} == {1}
    kill_services()
    assert client.runs(limit=1), "the client of the other storage finds its services anew"


def test_a_run_that_nobody_activated_is_found_queued(client: Client, actions: Any, wait_until: WaitUntil) -> None:
    """As when a driver dies between the registry's yes and its next step."""
    from wonder_ray.clock import SystemClock
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.ids import new_run_id
    from wonder_ray.resources.records import StartRequest

    flow = Workflow("orphan", output={"n": "state.n"})
    flow.node("only", actions.square, input={"n": "input"}, output={"state.n": "result"})
    version = client.register(flow)
    request = StartRequest(
        workflow_name="orphan", workflow_version=version, input=b"5", run_id=new_run_id(SystemClock().now_us())
    )
    record, created = client._services.call("resources", "start_run", request)
    assert created
    kill_hard(service_pid("directory"))  # its successor looks at once; this one would within half a minute
    wait_until(lambda: client.run(record.run_id).record().ended, SECONDS, what="the directory to find the run")
    assert client.run(record.run_id).result(SECONDS) == {"n": 25}


def test_everything_named_lives_in_one_namespace(client: Client, ray_cluster: RayCluster) -> None:
    named = {(found["namespace"], found["name"]) for found in ray.util.list_named_actors(all_namespaces=True)}
    assert {("wonder", name) for name in ("events", "logs", "resources", "directory")} <= named
    assert not [name for namespace, name in named if namespace != "wonder" and name.startswith("run:")]


def test_a_file_that_starts_a_run_when_it_is_imported_is_told_so(client: Client, tmp_path: Path, wait_until: WaitUntil) -> None:
    from wonder_ray.bundles.imports import import_space

    with import_space().importing(tmp_path):
        with pytest.raises(WonderError, match="__main__"):
            connect(storage=client.storage.root)
        with pytest.raises(WonderError, match="__main__"):
            client.start("whatever", {})
    import_space().deactivate()
