"""The registry itself: which definitions and runs exist, who may act for a run, and where it lives.

Every write is one short transaction that takes SQLite's write lock at its start, so that two stores on one file (two
local clusters on one storage folder) see each other's runs, keys and epochs at once.

>>> from wonder_ray.resources.records import StartRequest
>>> store = ResourcesStore(":memory:")
>>> version, new = store.put_definition(b'{"name":"hello","nodes":[]}')
>>> run, created = store.create_run(StartRequest(workflow_name="hello", key="monday"))
>>> run.status, created
(<RunStatus.QUEUED: 'queued'>, True)
>>> store.create_run(StartRequest(workflow_name="hello", key="monday"))[1]
False
>>> store.take_epoch(run.run_id, known=0, placement=None)
1
>>> store.close()
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from sqlalchemy import bindparam, insert, select, update

from wonder_ray.clock import Clock, SystemClock
from wonder_ray.errors import DefinitionError, KeyConflictError, StaleEpochError
from wonder_ray.ids import check_name, check_run_id, new_run_id
from wonder_ray.resources.engine import DATABASE_ERRORS, MEMORY, open_engine, prepare_schema, sqlite_path, translate, writing
from wonder_ray.resources.group_commit import GroupCommit
from wonder_ray.resources.reads import Reads, find_run_in, keyed_run_in, run_in, version_in
from wonder_ray.resources.records import DEFAULT_WORKSPACE, LATEST, RunProjection, RunRecord, StartRequest
from wonder_ray.resources.tables import DEFINITIONS, RUNS, SERVICE_EPOCHS
from wonder_ray.state import TERMINAL_RUN, RunStatus
from wonder_ray.storage.filesystem import refuse_network
from wonder_ray.values import canonical, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

T = TypeVar("T")
FILE_NAME: Final = "resources.sqlite"
_CREATE_RUN: Final = insert(RUNS)
_RUN: Final = RUNS.c.run_id == bindparam("b_run_id")
_TAKE_EPOCH: Final = update(RUNS).where(_RUN).values(epoch=bindparam("b_epoch"), placement=bindparam("b_placement"))
_REPORTED_EPOCH: Final = select(RUNS.c.reported_epoch).where(_RUN)


class ResourcesStore(Reads):
    """The registry on one SQLite file; may be used by many threads, and beside other processes on the same file.

    Args:
        url_or_path: A file, `sqlite:///file`, or `:memory:`. Its folder is created.
        clock: Where `created_us` comes from.
        observe: Told the name and the milliseconds of every query and write transaction.
        on_io_error: Called when the disk failed a write. What the disk holds is then known only after a restart: the actor
            crashes here, and recovers.

    Raises:
        StorageError: The file is no registry, is damaged, or cannot be opened.
        ServiceUnavailableError: Another process held its lock for too long; from any method.
    """

    def __init__(
        self,
        url_or_path: str | Path,
        *,
        clock: Clock | None = None,
        observe: Callable[[str, float], None] | None = None,
        on_io_error: Callable[[], None] | None = None,
    ) -> None:
        self._on_io_error = on_io_error or (lambda: None)
        self.path = sqlite_path(url_or_path)
        self._clock = clock or SystemClock()
        self._observe = observe or (lambda _name, _milliseconds: None)
        if self.path != MEMORY:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            refuse_network(Path(self.path).parent)
        self._engine = open_engine(self.path)
        # A database in memory is one connection, which two threads must not use at once.
        self._alone = threading.RLock() if self.path == MEMORY else nullcontext()
        self._writes = GroupCommit(writing(self._engine).begin, self._observe)
        try:
            prepare_schema(self._engine, self.path)
        except DATABASE_ERRORS as error:
            self._engine.dispose()
            raise translate(error, self.path) from error

    def close(self) -> None:
        """Close the file; a method that is called later opens it again."""
        self._engine.dispose()

    def put_definition(self, definition: bytes, *, workspace_id: str = DEFAULT_WORKSPACE) -> tuple[str, bool]:
        """Register a definition (its file form, as JSON).

        Returns:
            Its version, and whether it is new; nothing happens if it was there already.
        """
        value = decode(definition)
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            msg = "a definition is a JSON object with a name"
            raise DefinitionError(msg)
        name = check_name(value["name"], "workflow")
        # Canonical bytes: the version is then their plain sha256, and equal versions are equal byte for byte.
        content = canonical(value)
        version = hashlib.sha256(content).hexdigest()
        row: dict[str, Any] = {"workspace_id": workspace_id, "name": name, "version": version, "definition": content}
        row |= {"bundle": value.get("bundle"), "created_us": self._clock.now_us()}
        return version, self._write("put_definition", lambda c: _put_definition(c, row))

    def create_run(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before; once it returns, the run will happen.

        Returns:
            The run, and whether it is new.

        Raises:
            KeyConflictError: The key (or run id) belongs to a run of another definition or input.
            DefinitionError: The workflow, or this version of it, is not registered.
        """
        now_us = self._clock.now_us()
        run_id = check_run_id(request.run_id) if request.run_id else new_run_id(now_us)
        return self._write("create_run", lambda c: _create_run(c, request, run_id, now_us))

    def started_before(self, request: StartRequest) -> RunRecord | None:
        """The run that this request has created already, if it has; a `KeyConflictError` as from `create_run`."""
        return self._read("started_before", lambda c: _started_before(c, request))

    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None) -> int:
        """A new epoch for a run's coordinator: above the stored one and above `known` (by the event service and the run's file).

        It also records where that coordinator lives. A run that has ended has epochs too: a coordinator reopens it to repeat
        its release.
        """
        place = None if placement is None else encode(placement).decode()

        def work(connection: Connection) -> int:
            epoch = 1 + max(run_in(connection, run_id).epoch, known)
            connection.execute(_TAKE_EPOCH, {"b_run_id": run_id, "b_epoch": epoch, "b_placement": place})
            return epoch

        return self._write("take_epoch", work)

    def report(self, run_id: str, epoch: int, projection: RunProjection) -> bool:
        """Note what a run's coordinator reports.

        Returns:
            Whether it was noted. Nothing leaves a terminal status, and a report that was overtaken by a later one of the
            same epoch (more events) is dropped.

        Raises:
            StaleEpochError: The reporter was fenced off by a newer epoch: it must stop.
        """
        return self._write("report", lambda c: _report(c, run_id, epoch, projection))

    def release_placement(self, run_id: str, epoch: int) -> bool:
        """Note that a run's coordinator is gone; whether it was the one of this epoch (else nothing happens)."""
        mine = (RUNS.c.run_id == run_id) & (RUNS.c.epoch == epoch)

        def work(connection: Connection) -> bool:
            run_in(connection, run_id)
            return connection.execute(update(RUNS).where(mine).values(placement=None)).rowcount == 1

        return self._write("release_placement", work)

    def take_service_epoch(self, name: str) -> int:
        """The next instance number of a service: 1, 2, 3, ...; never the same twice."""
        check_name(name, "service")
        mine = SERVICE_EPOCHS.c.name == name

        def work(connection: Connection) -> int:
            found = connection.execute(select(SERVICE_EPOCHS.c.epoch).where(mine)).scalar()
            if found is None:
                connection.execute(insert(SERVICE_EPOCHS).values(name=name, epoch=1))
                return 1
            connection.execute(update(SERVICE_EPOCHS).where(mine).values(epoch=found + 1))
            return int(found) + 1

        return self._write("take_service_epoch", work)

    def _read(self, name: str, work: Callable[[Connection], T]) -> T:
        began = time.perf_counter()
        try:
            with self._alone, self._engine.connect() as connection:
                return work(connection)
        except DATABASE_ERRORS as error:
            raise translate(error, self.path) from error
        finally:
            self._observe(name, (time.perf_counter() - began) * 1000)

    def _write(self, name: str, work: Callable[[Connection], T]) -> T:
        try:
            with self._alone:
                return self._writes.run(name, work)
        except DATABASE_ERRORS as error:
            if "disk I/O error" in str(error):
                self._on_io_error()
            raise translate(error, self.path) from error


def _put_definition(connection: Connection, row: dict[str, Any]) -> bool:
    same = (DEFINITIONS.c.workspace_id == row["workspace_id"]) & (DEFINITIONS.c.name == row["name"])
    same &= DEFINITIONS.c.version == row["version"]
    found = connection.execute(select(DEFINITIONS.c.definition).where(same)).scalar()
    if found is None:
        connection.execute(insert(DEFINITIONS), row)
        return True
    if found != row["definition"]:
        msg = f"workflow {row['name']!r}: another content is stored as version {row['version']}; versions are immutable"
        raise DefinitionError(msg)
    return False


def _create_run(connection: Connection, request: StartRequest, run_id: str, now_us: int) -> tuple[RunRecord, bool]:
    if found := _started_before(connection, request):
        return found, False
    version = version_in(connection, request.workspace_id, request.workflow_name, request.workflow_version)
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
    connection.execute(_CREATE_RUN, _row(run))
    return run, True


def _started_before(connection: Connection, request: StartRequest) -> RunRecord | None:
    if request.key is not None and (found := keyed_run_in(connection, request.workspace_id, request.key)):
        return _same_run(found, _as_first_started(connection, found, request))
    if request.run_id and (found := find_run_in(connection, request.run_id)):
        return _same_run(found, request)
    return None


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
    differs = [
        what
        for what, differ in (
            ("workspace", found.workspace_id != request.workspace_id),
            ("key", found.key != request.key),
            ("workflow", found.workflow_name != request.workflow_name),
            ("version", request.workflow_version not in {None, LATEST, found.workflow_version}),
            ("parent", found.parent_run_id != request.parent_run_id),
            ("fork", _canonical(found.fork) != _canonical(request.fork)),
            ("input", canonical(decode(found.input)) != canonical(decode(request.input))),
        )
        if differ
    ]
    if not differs:
        return found
    by = f"key {request.key!r}" if request.key is not None and "key" not in differs else f"run id {request.run_id}"
    msg = (
        f"{by} belongs to run {found.run_id} of workflow {found.workflow_name!r}, which was started with another "
        f"{' and another '.join(differs)}: use a new key, or repeat the start as it was"
    )
    error = KeyConflictError(msg)
    error.run_id = found.run_id
    raise error


def _canonical(data: bytes | None) -> bytes | None:
    return None if data is None else canonical(decode(data))


def _report(connection: Connection, run_id: str, epoch: int, projection: RunProjection) -> bool:
    run = run_in(connection, run_id)
    if epoch < run.epoch:
        msg = f"run {run_id}: a report under epoch {epoch} was refused, epoch {run.epoch} has taken over: stop this coordinator"
        raise StaleEpochError(msg)
    reported_epoch = connection.execute(_REPORTED_EPOCH, {"b_run_id": run_id}).scalar_one()
    if _overtaken(run, epoch == reported_epoch, projection):
        return False
    values = {name: value for name in projection.__struct_fields__ if (value := getattr(projection, name)) is not None}
    started, ended = (values.get(name, getattr(run, name)) for name in ("started_us", "ended_us"))
    if started is not None and ended is not None:
        values.setdefault("duration_ms", (ended - started) / 1000)
    # The reporter's epoch may be the newer one where this file was restored from a backup.
    connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(epoch=epoch, reported_epoch=epoch, **values))
    return True


def _overtaken(run: RunRecord, same_epoch: bool, projection: RunProjection) -> bool:  # noqa: FBT001 - private, one caller
    if run.status in TERMINAL_RUN and projection.status != run.status:
        return True
    if run.events is None or projection.events is None:
        return False
    return same_epoch and projection.events < run.events


def _row(run: RunRecord) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in run.__struct_fields__}
    values |= {"trace": int(run.trace), "status": str(run.status), "labels": encode(run.labels).decode()}
    return values | {"placement": None if run.placement is None else encode(run.placement).decode()}
