"""The section "Service Responsibilities": one case per line of each service.

What a service must not do (decide, emit events) is read from its source: it cannot, since it does not know the classes.
"""

from __future__ import annotations

import ast
import re
import sqlite3
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from tests.core import CoreRun
from tests.spec.docs import calls, decision_classes, event_classes_used, package
from tests.spec.flows import PAGES, boom, crawl, one_node
from wonder_ray import decisions
from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.host import CoordinatorHost
from wonder_ray.decisions import Decision
from wonder_ray.errors import ActionNotFoundError, InputError, RunNotFoundError, StorageError
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.planning.dispatching import TaskManager
from wonder_ray.planning.facts import StartRun
from wonder_ray.planning.router import Router
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.workflow_events import EVENT_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.spec.conftest import NewWorld

LIFE = ["coordinator_started", "coordinator_opened", "run_start_received", "coordinator_finished"]
DECISION_NAMES = {kind.__name__ for kind in decision_classes()}
LAYER = (
    "wonder_ray.decisions",
    "wonder_ray.workflow_events",
    "wonder_ray.planning",
    "wonder_ray.events.wire",
    "wonder_ray.events.service",
)


# --- Coordinator ---------------------------------------------------------------------------------------------------


def test_coordinator_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Decision[]` from `Router.decide()` and `TaskManager.prepare()`, and made nowhere but in planning."""
    core = CoreRun(crawl())
    start = StartRun(input=PAGES, workflow_name="crawl", workflow_version="v")
    decided = Router(core.graph).decide(core.state, start, now_us=0)
    monkeypatch.setattr(core.machine, "_dispatch", lambda _room: None)
    monkeypatch.setattr(core, "_checked", False)  # the turn stops with its token ready
    core.start(PAGES)
    prepared = TaskManager(core.graph).prepare(core.state, room=lambda _node: 1, now_us=0)
    for found in (decided, prepared):
        assert isinstance(found, list)
        assert found
        assert all(isinstance(decision, Decision) for decision in found)
    makers = {
        m.below.partition("/")[0]
        for m in package()
        for call in calls(m.tree)
        if isinstance(call.func, ast.Name) and call.func.id in DECISION_NAMES and not m.below.startswith("decisions/")
    }
    assert makers == {"planning"}


def test_coordinator_emits_all_workflow_events() -> None:
    makers: dict[str, set[str]] = {}
    for m in package():
        for call in calls(m.tree):
            for name in event_classes_used(call.func):
                makers.setdefault(name, set()).add(m.below.partition("/")[0])
    of_handlers = {name for m in package() if m.below.startswith("coordinator/apply") for name in event_classes_used(m.tree)}
    assert {name for name, who in makers.items() if who - {"coordinator"}} == set()
    assert set(EVENT_TYPES) == set(makers) | of_handlers


def run_on_host(new_world: NewWorld, eager: bool = True, **actions: Any) -> Any:
    """A run on the real host thread."""
    world = new_world({"work": lambda value: value, **actions}, clock=SystemClock(), eager=eager)
    world.queue(one_node(), 1)
    ended: Future[BaseException | None] = Future()
    host = CoordinatorHost(world.run_id, world.layout, lambda _host: world.ports, {"pid": 1}, ended.set_result)
    host.start()
    return world, ended.result(30)


def test_coordinator_logs_its_life(new_world: NewWorld) -> None:
    world, error = run_on_host(new_world)
    assert error is None
    assert world.logged("coordinator") == LIFE
    assert {line.trace_id for line in world.lines if line.service == "coordinator"} == {world.run_id}
    unowned = [line.event_type for line in world.lines if line.service == "coordinator" and line.workspace_id != "default"]
    assert unowned == ["coordinator_started"]  # it does not know yet whose run it is
    opened = world.line("coordinator_opened")
    assert '"epoch":1' in (opened.metadata or "")


def test_coordinator_logs_rpc_errors(new_world: NewWorld) -> None:
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        world.lose(ErrorInfo("WorkerCrashedError", "the worker died", retryable=True, kind="lost"))
        world.handle(coordinator)
    line = world.line("executor_rpc_failed")
    assert (line.level, line.service) == ("error", "coordinator")


def test_coordinator_logs_storage_failures(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        world.work()
        sent = world.events()

        def commit(_record: object) -> None:
            raise StorageError("the file cannot be written")

        monkeypatch.setattr(coordinator._store, "commit", commit)
        with pytest.raises(StorageError):
            world.handle(coordinator)
        assert world.events() == sent, "nothing leaves before its commit"
    line = world.line("storage_failed")
    assert (line.level, line.trace_id) == ("error", world.run_id)


def test_coordinator_logs_alarm_handling(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    world.queue(one_node(timeout_s=5), 1)
    with world.opened() as coordinator:
        world.handle(coordinator)

        def overdue(*_args: object) -> list[Any]:
            raise RuntimeError("a bug in the alarm")

        monkeypatch.setattr(coordinator._machine._router, "overdue", overdue)
        world.pass_time(6)
        with pytest.raises(RuntimeError):
            world.handle(coordinator)
    line = world.line("alarm_failed")
    assert (line.level, line.trace_id) == ("error", world.run_id)
    assert "a bug in the alarm" in line.message
    assert world.logged("coordinator", "error") == ["alarm_failed"]


def test_coordinator_is_an_actor_with_durable_state(new_world: NewWorld) -> None:
    world, _ = run_on_host(new_world)
    assert world.layout.run_file(world.run_id).is_file()


# --- Executor, Resources, HTTP: what they must not do ----------------------------------------------------------------


@pytest.mark.parametrize("service", ["executor", "resources", "http"])
def test_other_services_decide_nothing_and_emit_no_events(service: str) -> None:
    modules = [m for m in package() if m.below.startswith(f"{service}/")]
    assert modules
    known = {i.target for m in modules for i in m.imports}
    assert not {name for name in known if name.startswith(LAYER)}
    assert not {name for m in modules for name in event_classes_used(m.tree)}
    for m in modules:
        assert not {node.id for node in ast.walk(m.tree) if isinstance(node, ast.Name)} & DECISION_NAMES


def test_the_list_of_decisions_is_whole() -> None:
    declared = {name for name, kind in vars(decisions).items() if isinstance(kind, type) and issubclass(kind, Decision)}
    assert declared - {"Decision"} == DECISION_NAMES


@pytest.mark.parametrize("service", ["coordinator", "executor", "resources", "events"])
def test_all_services_emit_logs(service: str) -> None:
    """Each has its client; the log service speaks for itself (`log_lines_dropped`), and http is looked at below."""
    clients = {
        call.args[1].value
        for m in package()
        for call in calls(m.tree)
        if ast.unparse(call.func) == "LogClient" and len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
    }
    assert service in clients


# --- Executor --------------------------------------------------------------------------------------------------------


def execute(new_world: NewWorld, action: Any, *, interrupted: bool = False) -> Any:
    world = new_world({"work": action})
    world.queue(one_node(), 1)
    with world.opened():
        (task,) = world.tasks
        world.interrupted = interrupted
        try:
            return world, world.execute(task.spec, task.calls)
        except KeyboardInterrupt:
            return world, None


def test_executor_logs_task_receipt(new_world: NewWorld) -> None:
    world, _ = execute(new_world, lambda value: value)
    assert world.logged("executor") == ["task_received"]


def test_executor_logs_execution_errors(new_world: NewWorld) -> None:
    world, (outcome,) = execute(new_world, boom)
    assert world.logged("executor") == ["task_received", "action_failed"]
    assert world.logged("executor", "error") == ["action_failed"]
    assert outcome.error.type == "RuntimeError"


def test_executor_logs_timeout_handling(new_world: NewWorld) -> None:
    def stopped(**_given: object) -> None:
        raise KeyboardInterrupt  # as Ray's cancel does

    world, outcomes = execute(new_world, stopped, interrupted=True)
    assert outcomes is None, "a task that was stopped has nothing to say"
    assert world.logged("executor") == ["task_received", "task_interrupted"]
    line = world.line("task_interrupted")
    assert (line.level, line.trace_id, line.node_id, line.attempt) == ("warning", world.run_id, "work", 1)


def test_executor_is_stateless(new_world: NewWorld, storage: Path) -> None:
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened():
        (task,) = world.tasks
        before = sorted((path, path.stat().st_mtime_ns) for path in storage.rglob("*"))
        first, second = (world.execute(task.spec, task.calls)[0] for _ in range(2))
        assert sorted((path, path.stat().st_mtime_ns) for path in storage.rglob("*")) == before
    assert (first.result, first.error, first.token_id) == (second.result, second.error, second.token_id)


# --- Resources -------------------------------------------------------------------------------------------------------


def test_resources_logs_crud_operations(new_world: NewWorld) -> None:
    world = new_world()
    world.queue(one_node(), 1)
    assert world.logged("resources") == ["definition_created", "run_created"]
    world.resources.create_workspace("team")
    world.resources.delete_workspace("team")
    assert world.logged("resources")[2:] == ["workspace_created", "workspace_deleted"]


def test_resources_logs_validation_failures(new_world: NewWorld) -> None:
    world = new_world()
    with pytest.raises(RunNotFoundError):
        world.resources.get_run("latest")
    with pytest.raises(ActionNotFoundError):
        world.resources.put_definition(b'{"name":"crawl","nodes":[{"id":"a","action":"fetch"}]}')
    with pytest.raises(InputError):
        world.queue(one_node().model_copy(update={"input": {"type": "string"}}), 1)
    assert world.logged("resources", "warning") == ["run_not_found", "action_not_found", "input_rejected"]


def test_resources_logs_database_errors(new_world: NewWorld, tmp_path: Path) -> None:
    world = new_world()
    broken = tmp_path / "broken.sqlite"
    service = ResourcesService(broken, log=world.client("resources"))
    with sqlite3.connect(broken) as other:
        other.execute("DROP TABLE definitions")
    with pytest.raises(StorageError):
        service.start_run(StartRequest(workflow_name="crawl"))
    line = world.line("db_error")
    assert (line.service, line.level) == ("resources", "error")


def test_resources_is_shared_state(new_world: NewWorld) -> None:
    world = new_world()
    record = world.queue(one_node(), 1)
    other = ResourcesService(world.layout.resources)
    assert other.get_run(record.run_id) == record
    other.close()


# --- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["request_", "auth", "rate_|limit"], ids=["request routing", "auth failures", "rate limiting"])
def test_http_logs(what: str) -> None:
    """Read from its source: the lines it can write; that it does is for the tests of the API itself."""
    modules = [m for m in package() if m.below.startswith("http/")]
    texts = {node.value for m in modules for node in ast.walk(m.tree) if isinstance(node, ast.Constant)}
    assert [text for text in texts if isinstance(text, str) and re.fullmatch(rf"[a-z_]*(?:{what})[a-z_]*", text)]
