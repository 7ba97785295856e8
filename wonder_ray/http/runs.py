"""Runs over HTTP: started, listed, looked at, and told things. A 202 is sent after the commit, never before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Response

from wonder_ray.client.forks import Wish
from wonder_ray.client.forks import fork as begin_again
from wonder_ray.clock import SystemClock
from wonder_ray.http import models
from wonder_ray.http.access import Caller, Key, ReadRuns, WriteRuns
from wonder_ray.http.standing import detailed, standing
from wonder_ray.ids import new_run_id
from wonder_ray.reading.standing import record_json
from wonder_ray.resources.records import RunRecord, StartRequest
from wonder_ray.values import encode

if TYPE_CHECKING:
    from wonder_ray.client.forks import Point

router = APIRouter(prefix="/v1/runs", tags=["runs"])
Ref = Annotated[
    str, Path(description="A run: its id, a unique beginning of it, or `latest`.", max_length=64, examples=[models.RUN_EXAMPLE])
]


@router.post("", status_code=202, summary="Start a run", response_model=models.RunView)
def start(caller: WriteRuns, body: models.StartBody, key: Key, response: Response) -> dict[str, Any]:
    """The run is durable when this answers; a repetition with the same `Idempotency-Key` finds it."""
    request = StartRequest(
        workflow_name=body.workflow,
        workflow_version=body.version,
        input=encode(body.input),
        key=key,
        run_id=body.run_id or new_run_id(SystemClock().now_us()),
        workspace_id=caller.workspace_id,
        project_id=body.project,
        trace=body.trace,
        labels=body.labels,
    )
    record, created = caller.backend.start(request)
    _point_to(response, record, repeated=not created)
    return record_json(record)


@router.get("", summary="List runs", response_model=models.RunList)
def list_runs(
    caller: ReadRuns,
    status: Annotated[list[str] | None, Query(max_length=16, examples=[["failed"]], description="One of these.")] = None,
    workflow: Annotated[str | None, Query(max_length=128)] = None,
    project: Annotated[str | None, Query(max_length=128)] = None,
    parent: Annotated[str | None, Query(max_length=64, description="The run whose child runs are meant.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """The runs of the workspace, newest first."""
    page = caller.backend.call(
        "resources",
        "list_runs",
        workspace_id=caller.workspace_id,
        project_id=project,
        statuses=tuple(status or ()),
        workflow=workflow,
        parent_run_id=parent,
        limit=limit,
        cursor=cursor,
    )
    told = [record_json(record) | {"coordinator_alive": caller.backend.is_coordinated(record)} for record in page.runs]
    return {"runs": told, "cursor": page.cursor}


@router.get("/{run}", summary="Show a run", response_model=models.RunDetail)
def show(
    caller: ReadRuns,
    run: Ref,
    details: Annotated[bool, Query(description="Also what its history tells, of a run that has ended, too.")] = False,  # noqa: FBT002 - a query
) -> dict[str, Any]:
    """How a run stands."""
    record = caller.backend.record(run, caller.workspace_id)
    return detailed(caller.backend, record) if details else standing(caller.backend, record)


@router.post("/{run}/cancel", status_code=202, summary="Cancel a run")
def cancel(caller: WriteRuns, run: Ref, body: models.CancelBody, key: Key) -> dict[str, Any]:
    """Stop it, its child runs included."""
    return {**caller.run(run).cancel(body.reason, compensate=body.compensate, key=key)}


@router.post("/{run}/pause", status_code=202, summary="Pause a run")
def pause(caller: WriteRuns, run: Ref, body: models.ReasonBody, key: Key) -> dict[str, Any]:
    """Start nothing new in it; what is under way comes to its end."""
    return {**caller.run(run).pause(body.reason, key=key)}


@router.post("/{run}/resume", status_code=202, summary="Resume a run")
def resume(caller: WriteRuns, run: Ref, key: Key) -> dict[str, Any]:
    """Make sure that its coordinator lives, and let it go on where it is paused."""
    found = caller.run(run)
    found.resume(key=key)
    return {"ok": True, "run_id": found.id}


@router.post("/{run}/signals", status_code=202, summary="Send a signal")
def signal(caller: WriteRuns, run: Ref, body: models.SignalBody, key: Key) -> dict[str, Any]:
    """Who has waited longest for it consumes it (`delivered`); else it is kept, where its nodes retain it, or lost."""
    return {**caller.run(run).signal(body.name, body.payload, key=key)}


@router.post("/{run}/answers", status_code=202, summary="Answer a gate")
def answer(caller: WriteRuns, run: Ref, body: models.AnswerBody, key: Key) -> dict[str, Any]:
    """An answer that the gate's schema refuses (`accepted` is false) leaves it open, and it asks again."""
    return {**caller.run(run).answer(body.gate, body.answer, by=body.by, key=key)}


@router.post("/{run}/updates", status_code=202, summary="Change the state")
def update(caller: WriteRuns, run: Ref, body: models.UpdateBody, key: Key) -> dict[str, Any]:
    """All of the changes, or (where they break the workflow's `state` schema) none."""
    return {**caller.run(run).update(body.changes, key=key)}


@router.post("/{run}/forks", status_code=202, summary="Fork a run", response_model=models.RunView)
def fork(caller: WriteRuns, run: Ref, body: models.ForkBody, key: Key, response: Response) -> dict[str, Any]:
    """Start a new run from this one's state at the end of the turn that holds event `at`."""
    return _begin_again(caller, run, lambda found: found.point(body.at), body, key, response)


@router.post("/{run}/restarts", status_code=202, summary="Restart from a node", response_model=models.RunView)
def restart(caller: WriteRuns, run: Ref, body: models.RestartBody, key: Key, response: Response) -> dict[str, Any]:
    """Start a new run from this one's state in the turn in which the node was last begun."""
    return _begin_again(caller, run, lambda found: found.start_of(body.node), body, key, response)


@router.get("/{run}/gates", summary="List open gates", response_model=models.Gates)
def gates(caller: ReadRuns, run: Ref) -> dict[str, Any]:
    """The gates that wait for an answer: node, token, assignee, what is shown, since when, until when."""
    return {"gates": msgspec.to_builtins(caller.run(run).gates())}


@router.get("/{run}/state", summary="Show the state")
def state(
    caller: ReadRuns, run: Ref, at: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="An event's number.")] = None
) -> dict[str, Any]:
    """The state now, or at the end of the turn that holds event `at`."""
    return {**caller.run(run).state(at=at)}


@router.post("/{run}/query", summary="Ask for a value", response_model=models.Value)
def query(caller: ReadRuns, run: Ref, body: models.QueryBody) -> dict[str, Any]:
    """The value of a CEL expression over the run's `input`, `state`, `output` and `run`; nothing is changed."""
    return {"value": caller.run(run).query(body.expression)}


def _begin_again(
    caller: Caller,
    ref: str,
    point: Point,
    body: models.BeginBody,
    key: str | None,
    response: Response,
) -> dict[str, Any]:
    moving = getattr(body, "at", None) is None
    wish = Wish(body.set, None, key, body.labels, moving=moving, run_id=body.run_id, version=body.version)
    made = begin_again(caller.run(ref), point, wish).record()
    _point_to(response, made, repeated=False)
    return record_json(made)


def _point_to(response: Response, record: RunRecord, *, repeated: bool) -> None:
    response.headers["Location"] = f"/v1/runs/{record.run_id}"
    if repeated:
        response.headers["Idempotent-Replayed"] = "true"
