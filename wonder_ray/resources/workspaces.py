"""Workspaces and projects in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, update

from wonder_ray.errors import ConflictError, NotFoundError
from wonder_ray.resources.records import DEFAULT_PROJECT, DEFAULT_WORKSPACE, ProjectRecord, WorkspaceRecord
from wonder_ray.resources.tables import API_KEYS, BUNDLES, DEFINITIONS, PROJECTS, RATE_BUCKETS, RUNS, SECRETS, WORKSPACES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from wonder_ray.clock import Clock
    from wonder_ray.resources.transactions import Transactions

_HELD: Final[tuple[tuple[Table, str], ...]] = (
    (RUNS, "runs"),
    (DEFINITIONS, "definitions"),
    (BUNDLES, "bundles"),
    (API_KEYS, "API keys"),
    (SECRETS, "secrets"),
)

# Built once: composing a statement costs more than executing it.
_WORKSPACE: Final = select(WORKSPACES).where(WORKSPACES.c.workspace_id == bindparam("b_workspace"))
_PROJECT: Final = select(PROJECTS).where(
    PROJECTS.c.workspace_id == bindparam("b_workspace"), PROJECTS.c.project_id == bindparam("b_project")
)

_ENDED: Final = API_KEYS.c.revoked_us.is_not(None) | (API_KEYS.c.expires_us <= bindparam("b_now"))


class Workspaces:
    """Creates, changes, lists and removes them."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def create(self, workspace_id: str, description: str) -> WorkspaceRecord:
        """A new workspace with its project `default`; a `ConflictError` when it exists."""
        made = WorkspaceRecord(workspace_id=workspace_id, description=description, created_us=self._clock.now_us())

        def work(connection: Connection) -> WorkspaceRecord:
            if _find(connection, workspace_id):
                raise ConflictError(f"workspace {workspace_id!r} exists already: use it, or choose another name")
            connection.execute(insert(WORKSPACES), _values(made))
            first = ProjectRecord(workspace_id=workspace_id, project_id=DEFAULT_PROJECT, created_us=made.created_us)
            connection.execute(insert(PROJECTS), _values(first))
            return made

        return self._transactions.write("create_workspace", work)

    def update(self, workspace_id: str, changes: dict[str, Any]) -> WorkspaceRecord:
        """Change some fields."""

        def work(connection: Connection) -> WorkspaceRecord:
            need_workspace(connection, workspace_id)
            if changes:
                connection.execute(update(WORKSPACES).where(WORKSPACES.c.workspace_id == workspace_id).values(**changes))
            return need_workspace(connection, workspace_id)

        return self._transactions.write("update_workspace", work)

    def delete(self, workspace_id: str) -> None:
        """Remove an empty workspace, with API keys that have ended; a `ConflictError` that says what it holds when it is not."""

        def work(connection: Connection) -> None:
            need_workspace(connection, workspace_id)
            if workspace_id == DEFAULT_WORKSPACE:
                raise ConflictError(f"workspace {workspace_id!r} is where everything goes by default: it stays")
            dead = (API_KEYS.c.workspace_id == workspace_id) & _ENDED
            connection.execute(delete(API_KEYS).where(dead), {"b_now": self._clock.now_us()})
            if held := [f"{n} {what}" for table, what in _HELD if (n := _count(connection, table, workspace_id))]:
                raise ConflictError(f"workspace {workspace_id!r} is not empty: it has {', '.join(held)}")
            connection.execute(delete(PROJECTS).where(PROJECTS.c.workspace_id == workspace_id))
            connection.execute(delete(RATE_BUCKETS).where(RATE_BUCKETS.c.name == bucket_name(workspace_id)))
            connection.execute(delete(WORKSPACES).where(WORKSPACES.c.workspace_id == workspace_id))

        self._transactions.write("delete_workspace", work)

    def get(self, workspace_id: str) -> WorkspaceRecord:
        """A workspace; a `NotFoundError` when there is none of this name."""
        return self._transactions.read("get_workspace", lambda c: need_workspace(c, workspace_id))

    def all(self) -> list[WorkspaceRecord]:
        """All workspaces, by name."""
        query = select(WORKSPACES).order_by(WORKSPACES.c.workspace_id)
        return self._transactions.read(
            "list_workspaces", lambda c: [WorkspaceRecord(**row._asdict()) for row in c.execute(query)]
        )

    def create_project(self, workspace_id: str, project_id: str, description: str) -> ProjectRecord:
        """A new project; a `ConflictError` when it exists."""
        made = ProjectRecord(
            workspace_id=workspace_id, project_id=project_id, description=description, created_us=self._clock.now_us()
        )

        def work(connection: Connection) -> ProjectRecord:
            need_workspace(connection, workspace_id)
            if _find_project(connection, workspace_id, project_id):
                raise ConflictError(f"project {project_id!r} exists already in workspace {workspace_id!r}")
            connection.execute(insert(PROJECTS), _values(made))
            return made

        return self._transactions.write("create_project", work)

    def update_project(self, workspace_id: str, project_id: str, description: str) -> ProjectRecord:
        """Change its description."""

        def work(connection: Connection) -> ProjectRecord:
            need_project(connection, workspace_id, project_id)
            connection.execute(update(PROJECTS).where(*_is(workspace_id, project_id)).values(description=description))
            return need_project(connection, workspace_id, project_id)

        return self._transactions.write("update_project", work)

    def delete_project(self, workspace_id: str, project_id: str) -> None:
        """Remove a project without runs."""

        def work(connection: Connection) -> None:
            need_project(connection, workspace_id, project_id)
            if project_id == DEFAULT_PROJECT:
                raise ConflictError(f"project {project_id!r} is where runs go by default: it stays")
            mine = (RUNS.c.workspace_id == workspace_id) & (RUNS.c.project_id == project_id)
            if runs := connection.execute(select(func.count()).select_from(RUNS).where(mine)).scalar_one():
                raise ConflictError(f"project {project_id!r} is not empty: it has {runs} runs")
            connection.execute(delete(PROJECTS).where(*_is(workspace_id, project_id)))

        self._transactions.write("delete_project", work)

    def get_project(self, workspace_id: str, project_id: str) -> ProjectRecord:
        """A project; a `NotFoundError` when there is none of this name."""
        return self._transactions.read("get_project", lambda c: need_project(c, workspace_id, project_id))

    def list_projects(self, workspace_id: str) -> list[ProjectRecord]:
        """The projects of a workspace, by name."""
        query = select(PROJECTS).where(PROJECTS.c.workspace_id == workspace_id).order_by(PROJECTS.c.project_id)

        def work(connection: Connection) -> list[ProjectRecord]:
            need_workspace(connection, workspace_id)
            return [ProjectRecord(**row._asdict()) for row in connection.execute(query)]

        return self._transactions.read("list_projects", work)


def need_workspace(connection: Connection, workspace_id: str) -> WorkspaceRecord:
    """A workspace, within a transaction; a `NotFoundError` when there is none of this name."""
    found = _find(connection, workspace_id)
    if found is None:
        raise NotFoundError("workspace", f"there is no workspace {workspace_id[:80]!r}: create it, or name another")
    return found


def need_project(connection: Connection, workspace_id: str, project_id: str) -> ProjectRecord:
    """A project, within a transaction; a `NotFoundError` when there is none of this name."""
    found = _find_project(connection, workspace_id, project_id)
    if found is None:
        need_workspace(connection, workspace_id)
        msg = f"there is no project {project_id[:80]!r} in workspace {workspace_id!r}: create it, or name another"
        raise NotFoundError("project", msg)
    return found


def bucket_name(workspace_id: str) -> str:
    """The rate bucket of a workspace."""
    return f"workspace:{workspace_id}"


def _find(connection: Connection, workspace_id: str) -> WorkspaceRecord | None:
    row = connection.execute(_WORKSPACE, {"b_workspace": workspace_id}).first()
    return None if row is None else WorkspaceRecord(**row._asdict())


def _find_project(connection: Connection, workspace_id: str, project_id: str) -> ProjectRecord | None:
    row = connection.execute(_PROJECT, {"b_workspace": workspace_id, "b_project": project_id}).first()
    return None if row is None else ProjectRecord(**row._asdict())


def _is(workspace_id: str, project_id: str) -> tuple[Any, Any]:
    return PROJECTS.c.workspace_id == workspace_id, PROJECTS.c.project_id == project_id


def _count(connection: Connection, table: Table, workspace_id: str) -> int:
    query = select(func.count()).select_from(table).where(table.c.workspace_id == workspace_id)
    return int(connection.execute(query).scalar_one())


def _values(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
