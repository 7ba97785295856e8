"""The registry's queries about runs and definitions, shared by the store (which also writes) and the reader (which cannot)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from wonder_ray.errors import RunNotFoundError
from wonder_ray.ids import RUN_ID_PATTERN
from wonder_ray.resources.definitions import find_definition, page_of_definitions
from wonder_ray.resources.records import DEFAULT_WORKSPACE, DefinitionPage, DefinitionRecord, RunFilter, RunPage, RunRecord
from wonder_ray.resources.runs import (
    BY_STATUS,
    UNFINISHED,
    find_keyed_run,
    need_run,
    no_single_match,
    page_of_runs,
    record,
    runs_like,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

T = TypeVar("T")


class Reads(ABC):
    """What can be asked about runs and definitions."""

    @abstractmethod
    def _read(self, name: str, work: Callable[[Connection], T]) -> T:
        """The result of this query in a transaction of its own."""

    def get_definition(self, name: str, version: str | None = None, *, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default the one that was registered last; a `DefinitionError` when there is none."""
        return self._read("get_definition", lambda c: find_definition(c, workspace_id, name, version))

    def list_definitions(
        self, *, workspace_id: str = DEFAULT_WORKSPACE, name: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> DefinitionPage:
        """The versions of a workflow, or of all workflows of a workspace, without their content; newest first."""
        return self._read("list_definitions", lambda c: page_of_definitions(c, workspace_id, name, limit, cursor))

    def get_run(self, run_id: str) -> RunRecord:
        """The run with exactly this id; `RunNotFoundError` when there is none."""
        return self._read("get_run", lambda c: need_run(c, run_id))

    def find_run(self, key: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        return self._read("find_run", lambda c: find_keyed_run(c, workspace_id, key))

    def resolve_run(self, ref: str, *, workspace_id: str | None = None) -> RunRecord:
        """The run that a user means: by its id, by the beginning of its id if that is unique, or `latest`.

        Args:
            ref: What the user says.
            workspace_id: Whose runs are meant; None is every workspace for a whole id, and `default` for all else.

        Raises:
            RunNotFoundError: Nothing matches, or several runs do (the message lists them).
        """
        if RUN_ID_PATTERN.fullmatch(ref):
            run = self.get_run(ref)
            if workspace_id in {None, run.workspace_id}:
                return run
            raise RunNotFoundError(no_single_match(ref, []))
        query = runs_like(workspace_id or DEFAULT_WORKSPACE, ref)
        found = [] if query is None else self._read("resolve_run", lambda c: [record(row) for row in c.execute(query)])
        if len(found) != 1:
            raise RunNotFoundError(no_single_match(ref, found))
        return found[0]

    def list_runs(self, wanted: RunFilter | None = None, *, limit: int = 50, cursor: str | None = None, **fields: Any) -> RunPage:
        """Runs of a workspace, newest first.

        Args:
            wanted: Which; by default all of the workspace `default`.
            limit: How many at most: 1 to 1000.
            cursor: The `cursor` of the page before. Runs that start meanwhile neither appear nor shift anything.
            fields: Fields of `RunFilter` instead of one; `status` is a single one.

        Example:
            >>> store.list_runs(status="failed", labels={"team": "x"}).runs  # doctest: +SKIP
        """
        meant = wanted or RunFilter.of(**fields)
        return self._read("list_runs", lambda c: page_of_runs(c, meant, limit, cursor))

    def unfinished(self) -> list[RunRecord]:
        """All runs, of all workspaces, that no coordinator has reported as ended; oldest first."""
        return self._read("unfinished", lambda c: [record(row) for row in c.execute(UNFINISHED)])

    def count_by_status(self) -> dict[str, int]:
        """Status -> how many runs, of all workspaces, are in it."""
        return self._read("count_by_status", lambda c: {str(status): int(count) for status, count in c.execute(BY_STATUS)})
