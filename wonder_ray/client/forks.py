"""Starting a run from the state of another one."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wonder_ray.clock import SystemClock
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.errors import DefinitionError, HistoryConflictError, RunNotFoundError, ServiceUnavailableError
from wonder_ray.given import as_json
from wonder_ray.ids import new_run_id
from wonder_ray.planning.forking import History, check_fork
from wonder_ray.resources.records import StartRequest
from wonder_ray.values import decode, encode_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.client.runs import Run
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.resources.records import DefinitionRecord, RunRecord
    from wonder_ray.services import Services

    Point = Callable[[History], int]
    """Which event of a history is meant."""

SHIPPED_SECONDS: Final = 30.0
"""How long to wait for the event service to have what the run has committed."""
PAUSE_SECONDS: Final = 0.05


class Wish(NamedTuple):
    """What the new run is to be, beside where it begins."""

    changes: Mapping[str, object]
    flow: Workflow | WorkflowDefinition | None
    key: str | None
    labels: Mapping[str, str] | None
    moving: bool
    """Whether the point moves as the source goes on: a repetition then means the first one's."""
    run_id: str | None = None
    """The new run's, made by who may repeat the wish without a key."""
    version: str | None = None
    """A version of the workflow that is registered, instead of `flow`."""


def fork(source: Run, point: Point, wish: Wish) -> Run:
    """Start a run from the source's state at a point of its history; see `Run.fork`."""
    client, services = source._client, source._services  # noqa: SLF001 - one package
    record = source.record()
    changes = {target: as_json(value, target) for target, value in wish.changes.items()}
    sequence = _first_point(services, record, wish)
    if sequence is None:
        history = history_of(source)
        sequence = point(history)
        version = _version(source, record, wish)
        check_fork(history.state_at(sequence), graph_of(services, record, version), changes)
    else:
        version = _version(source, record, wish)
    request = StartRequest(
        workflow_name=record.workflow_name,
        workflow_version=version,
        input=record.input,
        key=wish.key,
        run_id=wish.run_id or new_run_id(SystemClock().now_us()),
        workspace_id=record.workspace_id,
        project_id=record.project_id,
        fork=encode_trusted({"run_id": record.run_id, "sequence": sequence, "changes": changes}),
        trace=record.trace,
        labels=dict(record.labels if wish.labels is None else wish.labels),
    )
    return client._begin(request)  # noqa: SLF001 - one package


def _first_point(services: Services, record: RunRecord, wish: Wish) -> int | None:
    """Where the run with this key (or id) began, if it did so from this source, and the point was not given."""
    if not wish.moving:
        return None
    found = _made_before(services, record.workspace_id, wish)
    if found is None or found.fork is None:
        return None
    first: dict[str, Any] = decode(found.fork)
    return int(first["sequence"]) if first["run_id"] == record.run_id else None


def _made_before(services: Services, workspace_id: str, wish: Wish) -> RunRecord | None:
    found: RunRecord | None = None
    if wish.key is not None:
        found = services.call("resources", "find_run", wish.key, workspace_id=workspace_id)
    elif wish.run_id is not None:
        with suppress(RunNotFoundError):
            found = services.call("resources", "get_run", wish.run_id, workspace_id=workspace_id)
    return found


def _version(source: Run, record: RunRecord, wish: Wish) -> str:
    if wish.flow is None:
        return wish.version or record.workflow_version
    if wish.flow.name != record.workflow_name:
        msg = (
            f"run {record.run_id} is one of workflow {record.workflow_name!r}: a fork of it cannot be one of {wish.flow.name!r}; "
            "give another version of the same workflow"
        )
        raise DefinitionError(msg)
    return source._client.register(wish.flow)  # noqa: SLF001 - one package


def graph_of(services: Services, record: RunRecord, version: str | None = None) -> Graph:
    """What a run's workflow, or another version of it, is compiled to."""
    found: DefinitionRecord = services.call(
        "resources", "get_definition", record.workflow_name, version or record.workflow_version, record.workspace_id
    )
    return compile_graph(WorkflowDefinition.model_validate_json(found.definition))


def history_of(run: Run) -> History:
    """The history of a run up to the end of a turn: of one that is live, up to what it has committed by now.

    Raises:
        HistoryConflictError: Retention has removed its beginning.
        ServiceUnavailableError: The event service has not got it all yet.
    """
    snapshot = run.status()
    record = run.record()  # asked after it: of a run that has ended meanwhile all is known
    last = record.events or 0 if record.ended else None if snapshot is None else snapshot.events
    rows = [row.as_dict() for row in run.events()]
    deadline = time.monotonic() + SHIPPED_SECONDS
    while last is not None and len(rows) < last:
        if rows and rows[0]["sequence_number"] != 1:
            break
        if time.monotonic() > deadline:
            msg = f"run {run.id}: the event service has {len(rows)} of its {last} events yet; fork it in a moment"
            raise ServiceUnavailableError(msg)
        time.sleep(PAUSE_SECONDS)
        rows += [row.as_dict() for row in run.events(after=len(rows))]
    if rows and rows[0]["sequence_number"] != 1:
        msg = f"run {run.id} has events from {rows[0]['sequence_number']} on: retention has removed its beginning"
        raise HistoryConflictError(msg)
    if last is None:  # nobody can say whether the last turn is whole
        return History(run.id, [row for row in rows if row["turn"] < rows[-1]["turn"]])
    return History(run.id, rows[:last])
