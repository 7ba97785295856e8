"""Rays that begin and end with their driver: what is sealed when they end, and what the next one goes on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from tests.integration.helpers import SECONDS

TOP = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys, time
from pathlib import Path

import wonder_ray as wonder


def double(n):
    return 2 * n


def wait_for(n, path):
    Path(path + ".running").touch()
    while not Path(path).exists():
        time.sleep(0.02)
    return n


def die():
    os._exit(1)


def dying():
    flow = wonder.Workflow("dying")
    flow.node("die", die, retry=wonder.Retry(max_attempts=1))
    return flow


def quick():
    flow = wonder.Workflow("quick", output={"n": "state.n"})
    flow.node("double", double, input={"n": "input.n"}, output={"state.n": "result"})
    return flow


def patient():
    flow = wonder.Workflow("patient", output={"n": "state.n"})
    flow.node("double", double, input={"n": "input.n"}, output={"state.n": "result"})
    flow.node("wait", wait_for, input={"n": "state.n", "path": "input.path"}, output={"state.n": "result"})
    flow.transition("double", "wait")
    return flow


def main(storage, path):
    told = {}
    with wonder.connect(storage=storage, ray_options={"num_cpus": 2}) as client:
        run = client.start(quick(), {"n": 21})
        told["quick"] = [run.id, run.result(90)]
        told["died"] = str(client.start(dying(), {}).wait(90).status)
        interrupted = client.start(patient(), {"n": 4, "path": path})
        while not Path(path + ".running").exists():
            time.sleep(0.02)
        told["interrupted"] = interrupted.id
    Path(path).touch()
    with wonder.connect(storage=storage, ray_options={"num_cpus": 2}) as client:
        told["before"] = str(client.run(told["interrupted"]).record().status)
        run = client.run(told["interrupted"])
        run.resume()
        told["resumed"] = run.result(90)
        told["again"] = client.run(told["quick"][0]).result(90)
        told["events"] = [[row.epoch, row.event_type] for row in run.events()]
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """What a driver with two local Rays, one after the other, has to tell; its storage; what Ray printed."""
    folder = tmp_path_factory.mktemp("local")
    script = folder / "local_flow.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "storage"), str(folder / "gate")],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder / "storage", done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_a_closed_client_leaves_everything_sealed(told: tuple[dict[str, Any], Path, str]) -> None:
    found, storage, _ = told
    run_id, result = found["quick"]
    assert result == found["again"] == {"n": 42}
    for name in (run_id, found["interrupted"]):
        table = ds.dataset(storage / "events", partitioning="hive").to_table(filter=ds.field("workflow_run_id") == name)
        numbers = sorted(table["sequence_number"].to_pylist())
        assert numbers == list(range(1, len(numbers) + 1))
        assert "workflow.completed" in table["event_type"].to_pylist()


def test_an_interrupted_run_goes_on_in_the_next_ray(told: tuple[dict[str, Any], Path, str]) -> None:
    found, _, _ = told
    assert found["before"] == "running"
    assert found["resumed"] == {"n": 8}
    types = [event_type for _, event_type in found["events"]]
    assert types.count("run.resumed") == 1
    assert {epoch for epoch, _ in found["events"]} == {1, 2}
    assert types.count("node_completed") == 2


def test_ray_says_nothing_of_its_own(told: tuple[dict[str, Any], Path, str]) -> None:
    found, _, printed = told
    assert found["died"] == "failed", "a worker that dies is the sort of thing that Ray reports"
    assert printed.count("\n") == 1
