"""Opening a run: lock, epoch, fence, load, first turn. The order is the protocol; nothing is read before it is fenced.

1. lock the run's file (one coordinator per host and run);
2. take an epoch in the registry, above all that it and the file know;
3. `open` at the EventService, which fences older coordinators and tells its high-water mark;
4. load the file's last committed turn, and go on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from wonder_ray.coordinator.coordinator import Coordinator
from wonder_ray.coordinator.dispatcher import Dispatcher, Work
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.machine import Machine
from wonder_ray.coordinator.shipper import Shipper
from wonder_ray.coordinator.traces import Tracer
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import ActionNode, StepsNode, Undo, WorkflowDefinition
from wonder_ray.errors import HistoryConflictError, StorageError
from wonder_ray.events.wire import RunInfo
from wonder_ray.executor.protocol import ActionRef, StepSpec, TaskSpec
from wonder_ray.fold import as_us, fold, new_state
from wonder_ray.planning.facts import Fact, Fork, Reopened, StartRun
from wonder_ray.planning.retrying import runs_once
from wonder_ray.state import Lineage
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wonder_ray.clock import Clock
    from wonder_ray.coordinator.messages import Message
    from wonder_ray.coordinator.ports import Children, EventSink, ExecutorGateway, Log, Registry
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.definitions.models import Step
    from wonder_ray.events.wire import OpenReply
    from wonder_ray.resources.records import DefinitionRecord, RunRecord
    from wonder_ray.storage.records import StoredRun
    from wonder_ray.storage.store import RunStore

    Post = Callable[[Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the registry grants to a coordinator that opens a run."""

    epoch: int
    run: RunRecord
    definition: DefinitionRecord


class Services(Protocol):
    """The calls of an opening that are waited for."""

    def claim(self, known: int) -> Claim:
        """Take the next epoch above `known` for the run."""
        ...

    def history(self, run_id: str) -> Iterable[dict[str, Any]]:
        """The event rows of another run, in sequence: what a run that was forked from it begins with."""
        ...

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        """Fence older coordinators at the EventService; its marks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The outside of one coordinator."""

    services: Services
    gateway: ExecutorGateway
    sink: EventSink
    registry: Registry
    children: Children
    log: Log
    clock: Clock


def open_coordinator(store: RunStore, ports: Ports, storage: str, post: Post) -> tuple[Coordinator, list[Fact]]:
    """The coordinator of the run in `store`, and the facts of its first turn.

    Raises:
        StaleEpochError: A newer coordinator owns the run.
        StorageError: The run's file is not here, though its events say that it has begun.
    """
    claim = ports.services.claim(store.epoch_max())
    info = _run_info(claim.run)
    opened = ports.services.open_events(info, claim.epoch)
    store.take_epoch(claim.epoch)
    stored = store.load()
    if stored is None and opened.mark:
        msg = (
            f"run {info.workflow_run_id} has {opened.mark} events, but its file in {storage!r} is empty: it was lost with its "
            "disk, or lies on another machine; resume it where the file is"
        )
        raise StorageError(msg)
    coordinator = _coordinator(store, ports, storage, post, claim, stored, opened)
    _log_opening(ports, claim, stored)
    return coordinator, [_first_fact(claim, stored, ports.services)] if stored is None or not coordinator.ended else []


def _log_opening(ports: Ports, claim: Claim, stored: StoredRun | None) -> None:
    run = claim.run
    where = {"trace_id": run.run_id, "workspace_id": run.workspace_id, "project_id": run.project_id}
    events = 0 if stored is None else stored.last_sequence
    ports.log.info("coordinator_opened", f"epoch {claim.epoch}, after {events} events", epoch=claim.epoch, events=events, **where)
    if stored is None:
        version = run.workflow_version
        ports.log.info("run_start_received", f"workflow {run.workflow_name!r} version {version[:12]}", version=version, **where)


def _run_info(run: RunRecord) -> RunInfo:
    return RunInfo(
        workflow_run_id=run.run_id,
        workspace_id=run.workspace_id,
        project_id=run.project_id,
        root_run_id=run.root_run_id,
        parent_run_id=run.parent_run_id,
        workflow_name=run.workflow_name,
        workflow_version=run.workflow_version,
    )


def _first_fact(claim: Claim, stored: StoredRun | None, services: Services) -> Fact:
    if stored is not None:
        return Reopened(previous_epoch=stored.epoch_max if stored.epoch_max < claim.epoch else claim.epoch - 1)
    run = claim.run
    return StartRun(
        input=decode(run.input),
        workflow_name=run.workflow_name,
        workflow_version=run.workflow_version,
        key=run.key,
        labels=run.labels or None,
        depth=run.depth,
        fork=None if run.fork is None else _fork(run.fork, services),
    )


def _fork(wanted: bytes, services: Services) -> Fork:
    """The state of another run at the end of the turn that holds an event of it."""
    request = decode(wanted)
    run_id, sequence = request["run_id"], request["sequence"]
    moments: dict[int, Any] = {}

    def noted() -> Iterator[dict[str, Any]]:
        for row in services.history(run_id):
            moments[row["turn"]] = row["turn_now"]
            yield row

    state = fold(run_id, noted(), at=sequence)
    if state.run.sequence < sequence:
        msg = f"run {run_id} has {state.run.sequence} events, and a run was to begin from its state after event {sequence}"
        raise HistoryConflictError(msg)
    return Fork(
        source=Lineage(run_id=run_id, sequence=state.run.sequence),
        state=state,
        at_us=as_us(moments[state.run.turn]),
        changes=request.get("changes") or {},
    )


def _coordinator(
    store: RunStore, ports: Ports, storage: str, post: Post, claim: Claim, stored: StoredRun | None, opened: OpenReply
) -> Coordinator:
    definition = WorkflowDefinition.model_validate_json(claim.definition.definition)
    graph = compile_graph(definition)
    info = _run_info(claim.run)
    state = new_state(info.workflow_run_id) if stored is None else state_of(stored)
    tracer = Tracer(0 if stored is None else stored.last_trace_sequence) if claim.run.trace else None
    work = work_of(definition, graph, info, storage)
    lanes = {node_id: node_work.lane for node_id, node_work in work.items()}
    machine = Machine(graph, state, epoch=claim.epoch, tracer=tracer, lanes=lanes)
    dispatcher = Dispatcher(work, ports.gateway, post, epoch=claim.epoch)
    shippers = [Shipper("events", info, claim.epoch, store, ports.sink, post, opened)]
    shippers[0].committed(state.run.sequence)
    if tracer is not None:
        shippers.append(Shipper("trace", info, claim.epoch, store, ports.sink, post, opened))
        shippers[1].committed(0 if stored is None else stored.last_trace_sequence)
    return Coordinator(
        machine=machine,
        store=store,
        dispatcher=dispatcher,
        shippers=shippers,
        sink=ports.sink,
        registry=ports.registry,
        children=ports.children,
        log=ports.log,
        clock=ports.clock,
        keys={} if stored is None else dict(stored.keys),
        tracer=tracer,
    )


def work_of(definition: WorkflowDefinition, graph: Graph, info: RunInfo, storage: str) -> dict[str, Work]:
    """Node -> what its tasks look like; nodes that run the same action with the same resources share a lane."""
    work: dict[str, Work] = {}
    for node in definition.nodes:
        if isinstance(node, (ActionNode, StepsNode)):
            batch = node.batch and node.timeout_s is None and not runs_once(graph.nodes[node.id])
            work[node.id] = _work(node, _spec(node.id, node, definition, info, storage), batch=batch)
        undo, undo_id = getattr(node, "undo", None), graph.nodes[node.id].undo_id
        if undo is not None and undo_id is not None:
            work[undo_id] = _work(undo, _spec(undo_id, undo, definition, info, storage), batch=False)
    return work


def _work(node: ActionNode | StepsNode | Undo, spec: TaskSpec, *, batch: bool) -> Work:
    resources = node.resources.model_dump(exclude_none=True, exclude_defaults=False)
    timed = node.timeout_s is not None
    what = msgspec.json.encode([spec.action, spec.steps, resources, batch, timed], order="sorted").decode()
    return Work(lane=what, spec=spec, resources=_ray_options(resources), batch=batch, timed=timed)


def _ray_options(resources: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resources.items() if value or name == "num_cpus"}


def _spec(
    node_id: str, node: ActionNode | StepsNode | Undo, definition: WorkflowDefinition, info: RunInfo, storage: str
) -> TaskSpec:
    return TaskSpec(
        run_id=info.workflow_run_id,
        workflow_name=info.workflow_name,
        node_id=node_id,
        epoch=0,
        action=None if isinstance(node, StepsNode) else ActionRef.parse(node.action),
        steps=[_step(step) for step in node.steps] if isinstance(node, StepsNode) else None,
        bundle=definition.bundle,
        storage=storage,
        workspace_id=info.workspace_id,
        project_id=info.project_id,
    )


def _step(step: Step) -> StepSpec:
    return StepSpec(
        name=step.name,
        action=ActionRef.parse(step.action),
        input=step.input,
        output=step.output,
        when=step.when,
        on_failure=step.on_failure,
        max_attempts=step.max_attempts,
    )
