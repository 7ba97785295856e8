from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import ray
from ray import exceptions

from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.executor.protocol import ActionRef, Call, Outcome, TaskSpec, decode_outcomes
from wonder_ray.executor.registry import action
from wonder_ray.executor.remote import TaskOptions, explain_loss, submit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import RayCluster, WaitUntil

SOURCE = """
import asyncio, os, pathlib, sys, time
from wonder_ray.executor.context import current
from wonder_ray.executor.registry import action

VERSION = "{version}"
together = []

@action
def work(n):
    return {{"n": n * n, "version": VERSION, "pid": os.getpid()}}

@action
async def meet(size):
    together.append(current().token_id)
    while len(together) < size:
        await asyncio.sleep(0.001)
    return len(together)

@action
def die(n):
    os._exit(3)

@action
def hang(marker):
    pathlib.Path(marker).touch()
    while True:
        time.sleep(0.01)

@action
async def hang_async(marker):
    pathlib.Path(marker).touch()
    await asyncio.sleep(3600)

@action
def heavy():
    return sorted({{"sqlmodel", "sqlalchemy", "cel_expr_python"}} & set(sys.modules))

if __name__ == "__main__":
    from wonder_ray.bundles.pack import pack
    from wonder_ray.bundles.store import BundleStore
    print(BundleStore(sys.argv[1]).put(pack([work]).data))
"""


class Flow:
    """A user's file, packed by a driver that is gone, and a way to run its actions."""

    def __init__(self, tmp_path: Path, storage: Path) -> None:
        self.folder = tmp_path
        self.storage = storage

    def pack(self, version: str = "1") -> str:
        folder = self.folder / f"project-{version}"
        folder.mkdir()
        (folder / "remote_flow.py").write_text(SOURCE.format(version=version))
        command = [sys.executable, str(folder / "remote_flow.py"), str(self.storage)]
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def submit(self, bundle: str, name: str, inputs: Sequence[dict[str, Any]], **options: Any) -> ray.ObjectRef:
        return self.submit_ref(bundle, ActionRef(name, f"remote_flow:{name}"), inputs, **options)

    def submit_ref(self, bundle: str, ref: ActionRef, inputs: Sequence[dict[str, Any]], **options: Any) -> ray.ObjectRef:
        spec = TaskSpec(
            run_id="run_1", workflow_name="flow", node_id=ref.name, epoch=1, action=ref, bundle=bundle, storage=str(self.storage)
        )
        calls = [Call(f"t_{n}", 1, f"run_1/t_{n}", json.dumps(value).encode()) for n, value in enumerate(inputs)]
        return submit(spec, calls, {"num_cpus": 1, **options})


@pytest.fixture
def flow(tmp_path: Path, storage: Path) -> Flow:
    return Flow(tmp_path, storage)


def outcomes_of(ref: ray.ObjectRef) -> list[Outcome]:
    return decode_outcomes(ray.get(ref, timeout=60))


def values_of(ref: ray.ObjectRef) -> list[Any]:
    return [outcome.error or json.loads(outcome.result or b"") for outcome in outcomes_of(ref)]


def test_options_that_are_not_set_are_left_to_ray() -> None:
    assert TaskOptions().as_ray() == {}
    asked = TaskOptions(num_cpus=0, memory=10, label_selector={"disk": "ssd"}, resources={}).as_ray()
    assert asked == {"num_cpus": 0, "memory": 10, "label_selector": {"disk": "ssd"}}


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (exceptions.WorkerCrashedError(), "lost", True),
        (exceptions.OutOfMemoryError("over the limit"), "oom", True),
        (exceptions.NodeDiedError("gone"), "node", True),
        (exceptions.TaskCancelledError(), "cancelled", False),
        (exceptions.RuntimeEnvSetupError("pip failed"), "code", False),
        (exceptions.OwnerDiedError("00" * 28, None, ""), "lost", True),
        (exceptions.TaskUnschedulableError("no such label"), "node", True),
        (exceptions.RaySystemError(ValueError("odd")), "lost", True),
        (exceptions.RayTaskError("f", "the traceback", ValueError("bad")), "code", False),
        (exceptions.RayTaskError("f", "the traceback", exceptions.TaskCancelledError()), "cancelled", False),
        (OSError("connection"), "lost", True),
    ],
)
def test_losses_are_told_apart(error: BaseException, kind: str, retryable: bool) -> None:
    info = explain_loss(error)
    assert (info.kind, info.retryable) == (kind, retryable)
    assert info.message


def test_a_batch_runs_in_one_other_process_without_its_driver(ray_cluster: RayCluster, flow: Flow) -> None:
    outcomes = outcomes_of(flow.submit(flow.pack(), "work", [{"n": n} for n in range(50)]))
    assert [json.loads(outcome.result or b"")["n"] for outcome in outcomes] == [n * n for n in range(50)]
    assert len({outcome.pid for outcome in outcomes}) == 1
    assert outcomes[0].pid != os.getpid()


def test_two_versions_run_beside_each_other(ray_cluster: RayCluster, flow: Flow) -> None:
    bundles = [flow.pack("1"), flow.pack("2")]
    for _ in range(3):  # the same few workers get both in turn
        found = [values_of(flow.submit(bundle, "work", [{"n": 1}]))[0]["version"] for bundle in bundles]
        assert found == ["1", "2"]


def test_async_calls_of_a_batch_run_at_the_same_time(ray_cluster: RayCluster, flow: Flow) -> None:
    assert values_of(flow.submit(flow.pack(), "meet", [{"size": 10}] * 10)) == [10] * 10


def test_a_process_that_dies_is_a_loss(ray_cluster: RayCluster, flow: Flow) -> None:
    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        ray.get(flow.submit(flow.pack(), "die", [{"n": 1}]), timeout=60)
    assert explain_loss(caught.value).kind == "lost"


@pytest.mark.parametrize(("name", "force"), [("hang", False), ("hang_async", False), ("hang", True)])
def test_a_running_task_can_be_cancelled(
    ray_cluster: RayCluster, flow: Flow, tmp_path: Path, wait_until: WaitUntil, name: str, force: bool
) -> None:
    marker = tmp_path / "running"
    ref = flow.submit(flow.pack(), name, [{"marker": str(marker)}])
    wait_until(marker.exists, what="the action to run")
    ray.cancel(ref, force=force)
    with pytest.raises(exceptions.RayError) as caught:
        ray.get(ref, timeout=60)
    assert explain_loss(caught.value).kind in ({"cancelled"} if not force else {"cancelled", "lost"})


def test_a_function_of_a_notebook_runs_by_value(ray_cluster: RayCluster, flow: Flow) -> None:
    offset = 100
    shifted = action(name="shifted")(lambda n: n + offset)
    bundle = BundleStore(flow.storage).put(pack([shifted]).data)
    assert values_of(flow.submit_ref(bundle, shifted.ref, [{"n": 1}, {"n": 2}])) == [101, 102]


def test_a_missing_bundle_is_an_error_of_its_calls(ray_cluster: RayCluster, flow: Flow) -> None:
    (outcome,) = outcomes_of(flow.submit("0" * 64, "work", [{"n": 1}]))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.type) == ("code", "CodeBundleError")


def test_an_environment_that_cannot_be_made_is_an_error_of_the_code(ray_cluster: RayCluster, flow: Flow) -> None:
    ref = flow.submit(flow.pack(), "work", [{"n": 1}], runtime_env={"working_dir": "file:///no/such/folder.zip"})
    with pytest.raises(exceptions.RayError) as caught:
        ray.get(ref, timeout=60)
    assert explain_loss(caught.value).kind == "code"


def test_an_executor_imports_no_libraries_of_ours(ray_cluster: RayCluster, flow: Flow) -> None:
    assert values_of(flow.submit(flow.pack(), "heavy", [{}])) == [[]]
