"""Runs in the registry, within a transaction: how they are found, listed, created and reported on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import bindparam, exists, func, insert, select, update

from wonder_ray.errors import KeyConflictError, RunNotFoundError, StaleEpochError, WonderError
from wonder_ray.ids import RUN_ID_PREFIX_PATTERN
from wonder_ray.resources.definitions import find_version
from wonder_ray.resources.paging import PAGE_MAX, cut, position
from wonder_ray.resources.records import LATEST, RunFilter, RunPage, RunProjection, RunRecord, StartRequest
from wonder_ray.resources.tables import DEFINITIONS, RUN_LABELS, RUNS
from wonder_ray.resources.workspaces import need_project
from wonder_ray.state import TERMINAL_RUN, RunStatus
from wonder_ray.values import canonical, decode, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row, Select

AMBIGUOUS_MAX: Final = 10
# Built once: composing a statement costs more than executing it. `b_` parameters are bound at each execution.
_RUN: Final = RUNS.c.run_id == bindparam("b_run_id")
_RUN_BY_ID: Final = select(RUNS).where(_RUN)
_RUN_BY_KEY: Final = select(RUNS).where(RUNS.c.workspace_id == bindparam("b_workspace"), RUNS.c.key == bindparam("b_key"))
_SEEN_EPOCH: Final = RUNS.c.epoch == bindparam("b_seen")
_TAKE_EPOCH: Final = update(RUNS).where(_RUN, _SEEN_EPOCH).values(epoch=bindparam("b_epoch"), placement=bindparam("b_placement"))
_REPORTED_EPOCH: Final = select(RUNS.c.reported_epoch).where(_RUN)
_CREATE_RUN: Final = insert(RUNS)
_LABEL_RUN: Final = insert(RUN_LABELS)
_LIVE: Final = tuple(sorted(str(status) for status in RunStatus if status not in TERMINAL_RUN))
BY_STATUS: Final = select(RUNS.c.status, func.count()).group_by(RUNS.c.status)
UNFINISHED: Final = select(RUNS).where(RUNS.c.status.in_(_LIVE)).order_by(RUNS.c.ordinal)


def find_run(connection: Connection, run_id: str) -> RunRecord | None:
    """The run with exactly this id, if any."""
    row = connection.execute(_RUN_BY_ID, {"b_run_id": run_id}).one_or_none()
    return None if row is None else record(row)


def need_run(connection: Connection, run_id: str) -> RunRecord:
    """The run with exactly this id; `RunNotFoundError` when there is none."""
    found = find_run(connection, run_id)
    if found is None:
        raise RunNotFoundError(no_single_match(run_id, []))
    return found


def find_keyed_run(connection: Connection, workspace_id: str, key: str) -> RunRecord | None:
    """The run that was started with this key, if any."""
    row = connection.execute(_RUN_BY_KEY, {"b_workspace": workspace_id, "b_key": key}).one_or_none()
    return None if row is None else record(row)


def runs_like(workspace_id: str, ref: str) -> Select[Any] | None:
    """The query for `latest`, or for runs whose ids begin so, newest first; None when no run's id can."""
    mine = select(RUNS).where(RUNS.c.workspace_id == workspace_id).order_by(RUNS.c.ordinal.desc())
    if ref == LATEST:
        return mine.limit(1)
    if not RUN_ID_PREFIX_PATTERN.fullmatch(ref):
        return None
    # A range, not LIKE ('_' is a wildcard there); ids consist of 'run_', digits and a to f, and '~' sorts after them.
    return mine.where(RUNS.c.run_id >= ref, RUNS.c.run_id < ref + "~").limit(AMBIGUOUS_MAX + 1)


def page_of_runs(connection: Connection, wanted: RunFilter, limit: int, cursor: str | None) -> RunPage:
    """Runs, newest first."""
    size = max(1, min(limit, PAGE_MAX))
    # One more than asked for tells whether a next page exists.
    rows, following = cut(connection.execute(_listing(wanted, cursor).limit(size + 1)).all(), size)
    return RunPage([record(row) for row in rows], following)


def _listing(wanted: RunFilter, cursor: str | None) -> Select[Any]:
    query = select(RUNS).where(RUNS.c.workspace_id == wanted.workspace_id)
    ordinal: Any = RUNS.c.ordinal
    for number, (name, text) in enumerate(sorted(wanted.labels.items())):
        label = RUN_LABELS.alias(f"label_{number}")
        has = (label.c.workspace_id == wanted.workspace_id) & (label.c.name == name) & (label.c.value == text)
        if number == 0:  # the order of its key is the order of the list, so that neither a rare nor a common label is slow
            query, ordinal = query.join(label, has & (label.c.ordinal == RUNS.c.ordinal)), label.c.ordinal
        else:
            query = query.where(exists().where(has, label.c.ordinal == RUNS.c.ordinal))
    for column, value in (
        (RUNS.c.project_id, wanted.project_id),
        (RUNS.c.workflow_name, wanted.workflow),
        (RUNS.c.workflow_version, wanted.version),
        (RUNS.c.parent_run_id, wanted.parent_run_id),
        (RUNS.c.root_run_id, wanted.root_run_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.statuses:
        query = query.where(RUNS.c.status.in_([_status(status) for status in wanted.statuses]))
    if wanted.created_after_us is not None:
        query = query.where(RUNS.c.created_us > wanted.created_after_us)
    if wanted.created_before_us is not None:
        query = query.where(RUNS.c.created_us < wanted.created_before_us)
    if cursor is not None:
        query = query.where(ordinal < position(cursor))
    return query.order_by(ordinal.desc())


def started_before(connection: Connection, request: StartRequest) -> RunRecord | None:
    """The run that this request has created already, if it has; a `KeyConflictError` when another has."""
    if request.key is not None and (found := find_keyed_run(connection, request.workspace_id, request.key)):
        return _same_run(found, _as_first_started(connection, found, request))
    if request.run_id and (found := find_run(connection, request.run_id)):
        return _same_run(found, request)
    return None


def create_run(
    connection: Connection, request: StartRequest, run_id: str, now_us: int, version: str | None = None
) -> tuple[RunRecord, bool]:
    """Create a queued run of this version, or find the one that the request created before; and whether it is new."""
    if found := started_before(connection, request):
        return found, False
    need_project(connection, request.workspace_id, request.project_id)
    pinned = version or request.workflow_version
    version = find_version(connection, request.workspace_id, request.workflow_name, pinned)
    run = RunRecord(
        run_id=run_id,
        workspace_id=request.workspace_id,
        project_id=request.project_id,
        key=request.key,
        workflow_name=request.workflow_name,
        workflow_version=version,
        root_run_id=request.root_run_id or run_id,
        parent_run_id=request.parent_run_id,
        parent_token_id=request.parent_token_id,
        depth=request.depth,
        fork=request.fork,
        input=request.input,
        trace=request.trace,
        labels=request.labels,
        created_us=now_us,
        epoch=0,
        placement=None,
        status=RunStatus.QUEUED,
    )
    created: Any = connection.execute(_CREATE_RUN, _row(run)).inserted_primary_key
    if run.labels:
        where = {"workspace_id": run.workspace_id, "ordinal": created.ordinal}
        connection.execute(_LABEL_RUN, [where | {"name": name, "value": value} for name, value in run.labels.items()])
    return run, True


def take_epoch(connection: Connection, run_id: str, known: int, placement: dict[str, Any] | None, expected: int | None) -> int:
    """The next epoch of a run, for a coordinator that lives at `placement`: compare-and-set."""
    seen = need_run(connection, run_id).epoch
    epoch = 1 + max(seen, known)
    place = None if placement is None else encode(placement).decode()
    changes = {"b_run_id": run_id, "b_seen": seen, "b_epoch": epoch, "b_placement": place}
    if expected not in {None, seen} or connection.execute(_TAKE_EPOCH, changes).rowcount != 1:
        raise StaleEpochError(f"run {run_id}: another coordinator took it over meanwhile (epoch {seen}): leave it to that one")
    return epoch


def report(connection: Connection, run_id: str, epoch: int, projection: RunProjection) -> bool:
    """Note what a coordinator reports; whether it was news."""
    run = need_run(connection, run_id)
    if epoch < run.epoch:
        msg = f"run {run_id}: a report under epoch {epoch} was refused, epoch {run.epoch} has taken over: stop this coordinator"
        raise StaleEpochError(msg)
    reported_epoch = connection.execute(_REPORTED_EPOCH, {"b_run_id": run_id}).scalar_one()
    if _is_overtaken(run, projection, same_epoch=epoch == reported_epoch):
        return False
    values = {name: value for name in projection.__struct_fields__ if (value := getattr(projection, name)) is not None}
    started, ended = (values.get(name, getattr(run, name)) for name in ("started_us", "ended_us"))
    if started is not None and ended is not None:
        values.setdefault("duration_ms", (ended - started) / 1000)
    # The reporter's epoch may be the newer one where this database was restored from a backup.
    connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(epoch=epoch, reported_epoch=epoch, **values))
    return True


def release_placement(connection: Connection, run_id: str, epoch: int) -> bool:
    """Note that a coordinator is gone; whether it was the one of this epoch."""
    need_run(connection, run_id)
    mine = (RUNS.c.run_id == run_id) & (RUNS.c.epoch == epoch)
    return connection.execute(update(RUNS).where(mine).values(placement=None)).rowcount == 1


def record(row: Row[Any]) -> RunRecord:
    """A row of `runs` as a record."""
    values = row._asdict()
    del values["ordinal"], values["reported_epoch"]
    values["trace"] = bool(values["trace"])
    values["labels"] = decode(values["labels"])
    values["placement"] = None if values["placement"] is None else decode(values["placement"])
    values["status"] = RunStatus(values["status"])
    return RunRecord(**values)


def no_single_match(ref: str, found: Sequence[RunRecord]) -> str:
    """What to say of a reference that means no run, or several."""
    if not found:
        return f"no run {ref[:80]!r}: see `wonder runs` for those there are"
    lines = [f"  {run.run_id}  {run.workflow_name}  {run.status}" for run in found[:AMBIGUOUS_MAX]]
    more = ["  ..."] if len(found) > AMBIGUOUS_MAX else []
    return "\n".join([f"{ref!r} begins the ids of several runs; give more of the one you mean:", *lines, *more])


def _as_first_started(connection: Connection, found: RunRecord, request: StartRequest) -> StartRequest:
    """The request, in the version that the run has, when the two differ by their code alone.

    A bundle holds what lies beside a workflow's file, too: a key must go on finding its run when a neighbour has changed.
    """
    versions = (found.workflow_version, request.workflow_version)
    if None in versions or LATEST in versions or versions[0] == versions[1] or found.workflow_name != request.workflow_name:
        return request
    same = (DEFINITIONS.c.workspace_id == request.workspace_id) & (DEFINITIONS.c.name == request.workflow_name)
    query = select(DEFINITIONS.c.definition).where(same & DEFINITIONS.c.version.in_(versions))
    definitions = [decode(row) for row in connection.execute(query).scalars()]
    without_code = {canonical({**definition, "bundle": None}) for definition in definitions}
    if len(definitions) == len(versions) and len(without_code) == 1:
        return msgspec.structs.replace(request, workflow_version=found.workflow_version)
    return request


def _same_run(found: RunRecord, request: StartRequest) -> RunRecord:
    """The run that a repeated start finds; a `KeyConflictError` unless the request is the one that created it."""
    if found.workspace_id != request.workspace_id:  # whose nothing may be told
        raise KeyConflictError(f"run id {request.run_id} is taken: use a new one")
    differs = [
        what
        for what, differ in (
            ("key", found.key != request.key),
            ("workflow", found.workflow_name != request.workflow_name),
            ("version", request.workflow_version not in {None, LATEST, found.workflow_version}),
            ("parent", found.parent_run_id != request.parent_run_id),
            ("fork", _canonical(found.fork) != _canonical(request.fork)),
            ("input", _canonical(found.input) != _canonical(request.input)),
        )
        if differ
    ]
    if not differs:
        return found
    by = f"key {request.key!r}" if request.key is not None and "key" not in differs else f"run id {request.run_id}"
    error = KeyConflictError(
        f"{by} belongs to run {found.run_id} of workflow {found.workflow_name!r}, which was started with another "
        f"{' and another '.join(differs)}: use a new key, or repeat the start as it was"
    )
    error.run_id = found.run_id
    raise error


def _canonical(data: bytes | None) -> bytes | None:
    return None if data is None else canonical(decode(data))


def _is_overtaken(run: RunRecord, projection: RunProjection, *, same_epoch: bool) -> bool:
    if run.status in TERMINAL_RUN and projection.status != run.status:
        return True
    if run.events is None or projection.events is None:
        return False
    return same_epoch and projection.events < run.events


def _status(status: str) -> str:
    known = [str(each) for each in RunStatus]
    if status not in known:
        raise WonderError(f"no run is ever {status[:40]!r}: a status is one of {', '.join(known)}")
    return status


def _row(run: RunRecord) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in run.__struct_fields__}
    values |= {"trace": int(run.trace), "status": str(run.status), "labels": encode(run.labels).decode()}
    return values | {"placement": None if run.placement is None else encode(run.placement).decode()}
