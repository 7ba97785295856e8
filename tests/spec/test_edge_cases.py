"""The section "Edge Cases: Understanding the Decision -> Event Flow": one case per heading, each of its steps in order.

On whole runs without Ray: real registry, coordinator, file and executor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.core import CoreRun
from tests.spec.flows import PAGES, boom, compute_only, crawl, one_node
from wonder_ray.coordinator.apply import events_of
from wonder_ray.decisions import CreateToken, SetContext
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import InputError, StorageError
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.planning.facts import StartRun
from wonder_ray.planning.router import Router
from wonder_ray.storage.memory import MemoryDisk, MemoryRunStore

if TYPE_CHECKING:
    from tests.spec.conftest import NewWorld
    from tests.spec.world import World

SCHEMA = {"type": "object", "required": ["site"], "properties": {"site": {"type": "string"}}}


def full(disk: MemoryDisk) -> MemoryRunStore:
    """A file that takes no turn."""

    def fault(moment: str) -> None:
        if moment == "before commit" and disk.epoch:
            raise OSError(28, "No space left on device")

    return MemoryRunStore(disk, fault=fault)


def check_failed_write(world: World) -> None:
    """The only log line of the two edge cases: their write did not succeed."""
    disk = MemoryDisk()
    with pytest.raises(StorageError), world.opened(full(disk)):
        pytest.fail("the first turn cannot be stored")
    assert (disk.run, disk.outboxes["events"], disk.deltas) == (None, {}, [])
    assert world.batches == []
    assert world.logged("coordinator", "error") == ["storage_failed"]
    assert "No space left" in world.line("storage_failed").message


def test_router_decides_to_create_token(new_world: NewWorld) -> None:
    # 1. Decision: pure data
    core = CoreRun(one_node())
    start = StartRun(input=1, workflow_name="single", workflow_version="v")
    (decision,) = Router(core.graph).decide(core.state, start, now_us=0)
    assert isinstance(decision, CreateToken)
    assert msgspec.to_builtins(decision)["type"] == "CREATE_TOKEN"
    assert core.state.tokens == {}
    # 2. Execution changes the state; 3. workflow event; 4. trace event; 5. no log
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        assert list(coordinator._machine.state.tokens) == [decision.token_id]
        world.finish(coordinator)
    assert [row["token_id"] for row in world.rows() if row["event_type"] == "token.created"] == [decision.token_id]
    assert [row["token_id"] for row in world.rows("trace") if row["event_type"] == "operation.tokens.created"] == [
        decision.token_id
    ]
    assert not [name for name in world.logged("coordinator") if "token" in name]
    assert world.logged("coordinator", "error") == world.logged("coordinator", "warning") == []


def test_router_decides_to_create_token_and_the_write_fails(new_world: NewWorld) -> None:
    world = new_world()
    world.queue(one_node(), 1)
    check_failed_write(world)


def test_context_update_lifecycle(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    # 1. Decision: pure data
    core = CoreRun(compute_only())
    monkeypatch.setattr(core.machine, "_settle", lambda: False)
    monkeypatch.setattr(core, "_checked", False)  # the turn stops before its compute node
    core.start()
    decision, _ = Router(core.graph).settle(core.state)
    assert isinstance(decision, SetContext)
    assert core.state.view("")["state"] == {}
    assert [type(event).__name__ for event in events_of(core.state, decision)] == ["ContextUpdated"]
    # 2. Execution: written; 3. workflow event; 4. trace event; 5. no log
    world = new_world()
    world.queue(compute_only())
    with world.opened() as coordinator:
        stored = coordinator._store.load()
        world.finish(coordinator)
    assert stored is not None
    assert [(delta.target, delta.value) for delta in stored.deltas] == [("state.name", b'"Alice"')]
    assert world.events().count("context.updated") == 1
    assert world.traces().count("operation.context.field_set") == 1
    assert world.logged("coordinator", "error") == world.logged("coordinator", "warning") == []


def test_context_update_lifecycle_and_the_write_fails(new_world: NewWorld) -> None:
    world = new_world()
    world.queue(compute_only())
    check_failed_write(world)


def test_workflow_run_started(new_world: NewWorld) -> None:
    world = new_world({"list": lambda value: value, "fetch": boom, "report": boom})
    world.queue(crawl(), PAGES)
    assert world.events() == []
    with world.opened() as coordinator:
        world.handle(coordinator)
    assert world.events()[0] == "workflow.started"
    assert world.traces()[0] == "decision.routing.start", "no decision comes before the event"
    assert world.logged("coordinator") == ["coordinator_opened", "run_start_received"]
    with world.opened() as coordinator:  # it is started once, however often it is opened
        world.handle(coordinator)
    assert world.events().count("workflow.started") == 1
    assert world.logged("coordinator").count("run_start_received") == 1


def test_task_execution_failed(new_world: NewWorld) -> None:
    world = new_world({"work": boom})
    world.run(one_node(), 1)
    assert world.events() == [
        "workflow.started",
        "token.created",
        "task.dispatched",
        "task.failed",
        "node_failed",
        "token.failed",
        "workflow.failed",
    ]
    line = world.line("action_failed")
    assert (line.service, line.level, line.trace_id, line.node_id) == ("executor", "error", world.run_id, "work")
    assert "out of disk" in line.message
    assert "in boom" in (line.error_stack or ""), "why it happened"
    assert not [row for row in world.rows() if "Traceback" in str(row)], "what happened, without the why"


def test_task_execution_failed_because_its_worker_was_lost(new_world: NewWorld) -> None:
    world = new_world()
    world.queue(one_node(retry=(Retry(max_attempts=1),)), 1)
    with world.opened() as coordinator:
        world.lose(ErrorInfo("OutOfMemoryError", "killed for its memory", retryable=False, kind="oom"))
        world.finish(coordinator)
    assert world.events()[3:5] == ["task.failed", "node_failed"]
    line = world.line("executor_rpc_failed")
    assert (line.service, line.level, line.trace_id) == ("coordinator", "error", world.run_id)
    assert "killed for its memory" in line.message


def test_task_execution_failed_because_its_time_was_up(new_world: NewWorld) -> None:
    world = new_world()
    world.queue(one_node(timeout_s=5), 1)
    with world.opened() as coordinator:
        world.handle(coordinator)
        world.pass_time(6)
        world.handle(coordinator)
        assert len(world.cancelled) == 1
        world.tasks.clear()
        world.finish(coordinator)
    assert world.events()[3:6] == ["task.failed", "node_failed", "token.timed_out"]
    line = world.line("executor_rpc_timeout")
    assert (line.level, line.trace_id, line.node_id, line.attempt) == ("error", world.run_id, "work", 1)


def test_task_execution_failed_and_is_tried_again(new_world: NewWorld) -> None:
    """The legacy event reports the node, which has not failed while an attempt is left."""
    fails = iter([True, True, False])
    world = new_world({"work": lambda value: boom() if next(fails) else value})
    world.run(one_node(retry=(Retry(max_attempts=3),)), 1)
    assert [world.events().count(name) for name in ("task.failed", "node_failed", "node_completed")] == [2, 0, 1]
    assert world.logged("executor").count("action_failed") == 2


@pytest.mark.parametrize("value", [{"site": 5}, {}, None])
def test_validation_error_in_workflow_input(new_world: NewWorld, value: object) -> None:
    world = new_world()
    with pytest.raises(InputError):
        world.queue(crawl(input=SCHEMA), value)
    line = world.line("input_rejected")
    assert (line.service, line.level, line.trace_id) == ("resources", "warning", None)
    assert world.resources.list_runs().runs == [], "no run"
    assert world.resources.unfinished() == []
    assert world.batches == []
    assert world.layout.run_ids() == []
    assert world.logged("coordinator") == [], "no coordinator, so no decision"
