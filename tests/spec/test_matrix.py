"""The table "Decision Matrix": one case per row, named after it; each says what is there and what (❌) is not.

Logs stand in the table's last column, beside trace events. "❌ (external)", "❌ (already done)" and the like in the column of
decisions mean that no decision commands the row's event: `commanded_by` asks the handlers.
"""

from __future__ import annotations

from concurrent.futures import Future
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.core import RUN_ID, CoreRun
from tests.spec.docs import events_of_docstring, tag_of
from tests.spec.flows import PAGES, compute_only, crawl, one_node
from tests.spec.watching import WatchedRun, name_of
from wonder_ray.coordinator import coordinator as coordinator_module
from wonder_ray.coordinator.actor import _Outside
from wonder_ray.coordinator.host import CoordinatorHost
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.machine import Machine
from wonder_ray.decisions import CreateToken, Decision, SetContext
from wonder_ray.errors import HistoryConflictError, ServiceUnavailableError
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.fold import fold
from wonder_ray.planning.facts import StartRun
from wonder_ray.planning.router import Router
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from tests.spec.conftest import NewWorld
    from wonder_ray.fold import Folding

ACTIONS = {"list": lambda value: value, "fetch": lambda value: value.upper(), "report": lambda value: value}
START = StartRun(input=PAGES, workflow_name="crawl", workflow_version="v")


@pytest.fixture
def run() -> WatchedRun:
    run = WatchedRun(crawl(), ACTIONS)
    run.run(PAGES)
    return run


def commanded_by(event_type: str) -> set[str]:
    """The decisions that yield an event, by their docstrings (which `test_naming` holds to the handlers)."""
    return {tag_of(kind) for kind, events in events_of_docstring().items() if event_type in events}


def decided(run: CoreRun, state: Folding, *, settle: bool = False) -> list[Decision]:
    """What the router says to a state; raises unless saying it leaves everything as it was."""
    router = Router(run.graph)
    state.index.follow_inline(run.graph.inline)
    before, written = state.durable(), len(run.rows)
    decisions = router.settle(state) if settle else router.decide(state, START, now_us=run.clock.now_us())
    assert state.durable() == before
    assert len(run.rows) == written
    assert run.tracer is None or run.tracer.take() == []
    return decisions


def test_router_decides_to_spawn_token() -> None:
    run = CoreRun(crawl(), trace=True)
    decisions = decided(run, run.state)
    assert [name_of(decision) for decision in decisions] == ["CREATE_TOKEN"]
    assert (run.rows, run.traces, run.store.load()) == ([], [], None)


def test_token_actually_created(run: WatchedRun) -> None:
    created = [step.decision for step in run.of_kind("CREATE_TOKEN")]
    ids = [decision.token_id for decision in created if isinstance(decision, CreateToken)]
    assert [row["token_id"] for row in run.events("token.created")] == ids
    traced = [row["token_id"] for row in run.traces if row["event_type"] == "operation.tokens.created"]
    assert set(ids) < set(traced)
    assert len(traced) == len(set(traced)) == len(run.state.tokens)
    again = Router(run.graph).settle(run.state)
    assert again == [], "what is done is not decided again"


class Doubling(Router):
    """A planner with a bug: a result makes it create a token that exists, after something that could be done."""

    def decide(self, state: Any, fact: Any, *, now_us: int) -> list[Decision]:
        token = next(iter(state.tokens.values()))
        good = CreateToken(token_id="t_new", node_id=token.node_id, path_id=token.path_id)
        return [good, CreateToken(token_id=token.id, node_id=token.node_id, path_id=token.path_id)]


def test_token_creation_fails(new_world: NewWorld) -> None:
    """No event, nothing half applied, a log line; `dispatch.error` is in the file and is sent by the next coordinator.

    A turn that raises ends the coordinator's process: its memory is ahead of the file. Of such a turn only these two are left.
    (Where the very first turn of a run fails there is no run in the file yet to hold a trace: then the log line is all.)
    """
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        world.work()
        store: Any = coordinator._store
        before, rows = state_of(store.load()).durable(), store.outbox("events")
        coordinator._machine._router = Doubling(coordinator._machine.graph)
        with pytest.raises(HistoryConflictError, match="created twice"):
            world.handle(coordinator)
        assert store.outbox("events") == rows
        assert state_of(store.load()).durable() == before
        *_, (_, _, line) = store.outbox("trace")
    failed = msgspec.json.decode(line)
    assert failed["event_type"] == "dispatch.error"
    assert msgspec.json.decode(failed["payload"])["decision"]["type"] == "CREATE_TOKEN"
    said = world.line("turn_failed")
    assert (said.level, said.trace_id) == ("error", world.run_id)
    assert "created twice" in (said.error_stack or "")

    with world.opened() as coordinator:  # a coordinator without the bug goes on from what is committed
        world.finish(coordinator)
    assert world.events().count("token.created") == 1
    assert world.events()[-1] == "workflow.completed"
    assert world.traces().count("dispatch.error") == 1
    assert world.traces().count("operation.tokens.created") == 1, "what was undone is not traced"
    assert [row["sequence_number"] for row in world.rows("trace")] == list(range(1, len(world.rows("trace")) + 1))


def test_router_decides_context_update() -> None:
    run = CoreRun(compute_only(), trace=True).run()
    (written,) = run.positions("context.updated", "set")
    decisions = decided(run, fold(RUN_ID, run.rows[: written - 1]), settle=True)
    assert [name_of(decision) for decision in decisions] == ["SET_CONTEXT", "UPDATE_TOKEN_STATUS"]
    (decision, _) = decisions
    assert isinstance(decision, SetContext)
    assert (decision.write.target, decision.write.value) == ("state.name", "Alice")


def test_context_updated_in_db(run: WatchedRun) -> None:
    (step,) = run.of_kind("SET_CONTEXT")
    assert (step.events, step.traces) == (("context.updated",), ("operation.context.field_set",))
    assert commanded_by("context.updated") == {"SET_CONTEXT"}
    stored = run.store.load()
    assert stored is not None
    assert ("state.n", b"3") in [(delta.target, delta.value) for delta in stored.deltas]


def test_task_completed(run: WatchedRun) -> None:
    steps = run.of_kind("TaskSucceeded")
    assert len(steps) == len(run.started)
    assert {(step.events, step.traces) for step in steps} == {(("task.completed",), ())}
    assert commanded_by("task.completed") == set()


def test_node_execution_completed(run: WatchedRun) -> None:
    assert run.completed == {"list": 1, "count": 1, "fetch": len(PAGES), "report": 1}
    assert len(run.events("node_completed")) == len(run.events("token.completed"))
    for row in run.events("task.completed"):
        assert row["node_id"] in run.completed
    assert commanded_by("node_completed") == set(), "it is observed with the end of the token, not decided"
    assert not [row for row in run.traces if "node" in row["event_type"]]


def test_coordinator_created(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Created, and kept from going on: a log line, and not one event."""
    world = new_world()
    world.queue(one_node(), 1)
    ended: Future[BaseException | None] = Future()

    def away(known: int) -> Any:
        raise ServiceUnavailableError("no registry")

    monkeypatch.setattr(world, "claim", away)
    CoordinatorHost(world.run_id, world.layout, lambda _host: world.ports, {"pid": 1}, ended.set_result).start()
    assert isinstance(ended.result(10), ServiceUnavailableError)
    assert world.logged("coordinator") == ["coordinator_started"]
    assert world.line("coordinator_started").trace_id == world.run_id
    assert world.batches == []
    with SqliteRunStore(world.layout.run_file(world.run_id)) as store:
        assert (store.load(), store.outbox("events"), store.outbox("trace")) == (None, [], [])


def test_workflow_run_started(new_world: NewWorld) -> None:
    world = new_world()
    record = world.queue(crawl(), PAGES)
    with world.opened() as coordinator:
        world.handle(coordinator)  # what is committed is sent
    line = world.line("run_start_received")
    assert (line.service, line.trace_id, line.workspace_id) == ("coordinator", record.run_id, "default")
    assert world.events()[0] == "workflow.started"
    assert "operation.tokens.created" in world.traces()
    assert commanded_by("workflow.started") == set()


def test_executor_task_received(new_world: NewWorld) -> None:
    world = new_world({"work": lambda value: value})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        world.handle(coordinator)
        before = world.events(), world.traces()
        (task,) = world.tasks
        (outcome,) = world.execute(task.spec, task.calls)
        assert (world.events(), world.traces()) == before
    assert outcome.result == b"1"
    line = world.line("task_received")
    assert (line.service, line.trace_id, line.node_id) == ("executor", world.run_id, "work")


class Service:
    """A service that does not answer in time, as a coordinator's outside sees it."""

    def call(self, _method: str, *_args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_exception(TimeoutError("no answer within 60 s"))
        return answer


def test_rpc_timeout(new_world: NewWorld) -> None:
    world = new_world()
    outside = _Outside(RUN_ID, {}, world.client("coordinator"), "wonder")
    outside._events = Service()  # type: ignore[assignment] # stands for it
    run = RunInfo(RUN_ID, "default", "default", RUN_ID, None, "crawl", "v")
    heard: list[Exception] = []
    outside.append(EventBatch(run, "events", 1, 1, 1, b"{}"), lambda _ack: pytest.fail("no answer is no yes"), heard.append)
    assert [type(error) for error in heard] == [TimeoutError]
    line = world.line("events_rpc_timeout")
    assert (line.service, line.level, line.trace_id) == ("coordinator", "error", RUN_ID)
    assert world.batches == []


@pytest.mark.parametrize("slow", [True, False])
def test_database_query_slow(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    ticks = count(step=1.5 if slow else 0.001)
    monkeypatch.setattr(coordinator_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    world = new_world({"work": lambda value: value})
    world.run(one_node(), 1)
    queries = [row for row in world.rows("trace") if row["event_type"] == "sql.query"]
    assert [row["duration_ms"] for row in queries] == [pytest.approx(1500 if slow else 1)]
    lines = [line for line in world.lines if line.event_type == "db_query_slow"]
    assert len(lines) == (2 if slow else 0), "the turns of the start and of the end"
    for line in lines:
        assert msgspec.json.decode(line.metadata or "")["duration_ms"] == pytest.approx(1500)
    assert not [name for name in world.events() if "sql" in name or "query" in name]


def test_fan_out_spawns_multiple_tokens(run: WatchedRun) -> None:
    (step,) = run.of_kind("BATCH_CREATE_TOKENS")
    assert step.events == ("fan_out.started",)
    assert step.traces == ("operation.tokens.created",) * len(PAGES)
    (row,) = run.events("fan_out.started")
    assert row["count"] == len(PAGES)
    fetched = [token.id for token in run.state.tokens.values() if token.node_id == "fetch"]
    assert len(fetched) == len(PAGES)
    assert not {created["token_id"] for created in run.events("token.created")} & set(fetched)


def test_siblings_merge_at_fan_in(run: WatchedRun) -> None:
    (step,) = run.of_kind("ACTIVATE_FAN_IN")
    assert (step.events, step.traces) == (("fan_in.completed",), ())
    (merged,) = run.of_kind("MERGE_BRANCHES")
    assert (merged.events, merged.traces) == (("branches.merged",), ())


def test_a_machine_that_failed_is_not_stored_by_the_core() -> None:
    """The same on the pure core: the turn raises, its record never exists, and its trace is the failure alone."""
    run = CoreRun(one_node(), {"work": lambda value: value}, trace=True)
    run.start(1)
    before = run.store.load()
    run.machine._router = Doubling(run.graph)
    with pytest.raises(HistoryConflictError):
        run.step()
    assert run.store.load() == before
    assert isinstance(run.machine, Machine)
    assert run.tracer is not None
    assert [msgspec.json.decode(line)["event_type"] for _, line in run.tracer.take()] == ["dispatch.error"]
