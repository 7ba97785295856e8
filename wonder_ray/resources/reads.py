"""The registry's queries, shared by the store (which also writes) and the reader (which cannot)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import bindparam, select

from wonder_ray.errors import DefinitionError, RunNotFoundError, StorageError, WonderError
from wonder_ray.ids import RUN_ID_PATTERN
from wonder_ray.resources.records import DEFAULT_WORKSPACE, LATEST, DefinitionRecord, RunPage, RunRecord
from wonder_ray.resources.tables import DEFINITIONS, RUNS
from wonder_ray.state import TERMINAL_RUN, RunStatus
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Row, Select

T = TypeVar("T")
PAGE_MAX: Final = 1000
_AMBIGUOUS_MAX: Final = 10
# Built once: composing a statement costs more than executing it. `b_` parameters are bound at each execution.
_RUN_BY_ID: Final = select(RUNS).where(RUNS.c.run_id == bindparam("b_run_id"))
_RUN_BY_KEY: Final = select(RUNS).where(RUNS.c.workspace_id == bindparam("b_workspace"), RUNS.c.key == bindparam("b_key"))
_OF_WORKFLOW: Final = (DEFINITIONS.c.workspace_id == bindparam("b_workspace")) & (DEFINITIONS.c.name == bindparam("b_name"))
_OF_VERSION: Final = DEFINITIONS.c.version == bindparam("b_version")
_VERSION: Final = select(DEFINITIONS.c.version).where(_OF_WORKFLOW, _OF_VERSION)
_LATEST_VERSION: Final = select(DEFINITIONS.c.version).where(_OF_WORKFLOW).order_by(DEFINITIONS.c.ordinal.desc()).limit(1)
_DEFINITION: Final = select(DEFINITIONS).where(_OF_WORKFLOW, _OF_VERSION)
_LIVE: Final = tuple(sorted(str(status) for status in RunStatus if status not in TERMINAL_RUN))


class Reads(ABC):
    """Everything that can be asked of the registry."""

    @abstractmethod
    def _read(self, name: str, work: Callable[[Connection], T]) -> T:
        """The result of this query in a transaction of its own."""

    def get_definition(self, name: str, version: str | None = None, *, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default the one that was registered last; a `DefinitionError` when there is none."""
        return self._read("get_definition", lambda c: definition_in(c, workspace_id, name, version))

    def list_definitions(self, *, workspace_id: str = DEFAULT_WORKSPACE, name: str | None = None) -> list[DefinitionRecord]:
        """The versions of a workflow, or of all workflows of a workspace; newest first, at most 1000."""
        query = select(DEFINITIONS).where(DEFINITIONS.c.workspace_id == workspace_id)
        if name is not None:
            query = query.where(DEFINITIONS.c.name == name)
        query = query.order_by(DEFINITIONS.c.ordinal.desc()).limit(PAGE_MAX)
        return self._read("list_definitions", lambda c: [_definition(row) for row in c.execute(query)])

    def get_run(self, run_id: str) -> RunRecord:
        """The run with exactly this id; `RunNotFoundError` when there is none."""
        return self._read("get_run", lambda c: run_in(c, run_id))

    def find_run(self, key: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        return self._read("find_run", lambda c: keyed_run_in(c, workspace_id, key))

    def resolve_run(self, ref: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord:
        """The run that a user means: by its id, by the beginning of its id if that is unique, or `latest`.

        Raises:
            RunNotFoundError: Nothing matches, or several runs do (the message lists them).
        """
        if RUN_ID_PATTERN.fullmatch(ref):
            return self.get_run(ref)
        mine = select(RUNS).where(RUNS.c.workspace_id == workspace_id).order_by(RUNS.c.ordinal.desc())
        if ref != LATEST:
            # A range, not LIKE ('_' is a wildcard there); ids consist of 'run_', digits and a to f, and '~' sorts after them.
            mine = mine.where(RUNS.c.run_id >= ref, RUNS.c.run_id < ref + "~")
        limit = 1 if ref == LATEST else _AMBIGUOUS_MAX + 1
        found = self._runs("resolve_run", mine.limit(limit))
        if len(found) != 1 or not ref:
            raise RunNotFoundError(_no_single_match(ref, found if ref else []))
        return found[0]

    def list_runs(
        self,
        *,
        workspace_id: str = DEFAULT_WORKSPACE,
        status: str | None = None,
        workflow: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs of a workspace, newest first.

        Args:
            workspace_id: Whose runs.
            status: Only runs in this status.
            workflow: Only runs of the workflow of this name.
            limit: How many at most: 1 to 1000.
            cursor: The `cursor` of the page before. Runs that start meanwhile neither appear nor shift anything.
        """
        query = select(RUNS).where(RUNS.c.workspace_id == workspace_id)
        if status is not None:
            query = query.where(RUNS.c.status == _status(status))
        if workflow is not None:
            query = query.where(RUNS.c.workflow_name == workflow)
        if cursor is not None:
            query = query.where(RUNS.c.ordinal < _ordinal(cursor))
        size = max(1, min(limit, PAGE_MAX))
        # One more than asked for tells whether a next page exists.
        query = query.order_by(RUNS.c.ordinal.desc()).limit(size + 1)
        return self._read("list_runs", lambda c: _page(c.execute(query).all(), size))

    def unfinished(self) -> list[RunRecord]:
        """All runs, of all workspaces, that no coordinator has reported as ended; oldest first."""
        return self._runs("unfinished", select(RUNS).where(RUNS.c.status.in_(_LIVE)).order_by(RUNS.c.ordinal))

    def _runs(self, name: str, query: Select[Any]) -> list[RunRecord]:
        return self._read(name, lambda c: [record(row) for row in c.execute(query)])


def run_in(connection: Connection, run_id: str) -> RunRecord:
    """The run with this id, within a transaction."""
    found = find_run_in(connection, run_id)
    if found is None:
        raise RunNotFoundError(_no_single_match(run_id, []))
    return found


def find_run_in(connection: Connection, run_id: str) -> RunRecord | None:
    """The run with this id, if any, within a transaction."""
    row = connection.execute(_RUN_BY_ID, {"b_run_id": run_id}).one_or_none()
    return None if row is None else record(row)


def keyed_run_in(connection: Connection, workspace_id: str, key: str) -> RunRecord | None:
    """The run with this key, within a transaction."""
    row = connection.execute(_RUN_BY_KEY, {"b_workspace": workspace_id, "b_key": key}).one_or_none()
    return None if row is None else record(row)


def version_in(connection: Connection, workspace_id: str, name: str, version: str | None) -> str:
    """The version itself if it is registered, by default the latest one, within a transaction."""
    version = None if version == LATEST else version
    query = _VERSION if version else _LATEST_VERSION
    wanted = {"b_version": version} if version else {}
    found = connection.execute(query, {"b_workspace": workspace_id, "b_name": name} | wanted).scalar()
    if found is None:
        what = f"version {version[:12]} of workflow {name!r}" if version else f"workflow {name!r}"
        msg = f"{what} is not registered in workspace {workspace_id!r}: put its definition first"
        raise DefinitionError(msg)
    return str(found)


def definition_in(connection: Connection, workspace_id: str, name: str, version: str | None) -> DefinitionRecord:
    """A version of a workflow, by default the latest, within a transaction."""
    known = version_in(connection, workspace_id, name, version)
    row = connection.execute(_DEFINITION, {"b_workspace": workspace_id, "b_name": name, "b_version": known}).one()
    return _definition(row)


def record(row: Row[Any]) -> RunRecord:
    """A row of `runs` as a record."""
    values = row._asdict()
    del values["ordinal"], values["reported_epoch"]
    values["trace"] = bool(values["trace"])
    values["labels"] = decode(values["labels"])
    values["placement"] = None if values["placement"] is None else decode(values["placement"])
    values["status"] = RunStatus(values["status"])
    return RunRecord(**values)


def _definition(row: Row[Any]) -> DefinitionRecord:
    values = row._asdict()
    del values["ordinal"]
    found = DefinitionRecord(**values)
    if hashlib.sha256(found.definition).hexdigest() != found.version:
        msg = f"the stored definition of workflow {found.name!r} is damaged: its content is not that of version {found.version}"
        raise StorageError(msg)
    return found


def _page(rows: Any, size: int) -> RunPage:
    runs = [record(row) for row in rows[:size]]
    return RunPage(runs, str(rows[size - 1].ordinal) if len(rows) > size else None)


def _status(status: str) -> str:
    known = [str(each) for each in RunStatus]
    if status not in known:
        msg = f"no run is ever {status[:40]!r}: a status is one of {', '.join(known)}"
        raise WonderError(msg)
    return status


def _ordinal(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):  # noqa: PLR2004 - digits that surely fit 64 bits
        msg = f"{cursor[:40]!r} is not a cursor of `list_runs`: pass on the one that the page before returned"
        raise WonderError(msg)
    return int(cursor)


def _no_single_match(ref: str, found: list[RunRecord]) -> str:
    if not found:
        return f"no run {ref[:80]!r}: see `wonder runs` for those there are"
    lines = [f"  {run.run_id}  {run.workflow_name}  {run.status}" for run in found[:_AMBIGUOUS_MAX]]
    more = ["  ..."] if len(found) > _AMBIGUOUS_MAX else []
    return "\n".join([f"{ref!r} begins the ids of several runs; give more of the one you mean:", *lines, *more])
