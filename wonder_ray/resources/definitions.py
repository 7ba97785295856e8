"""Definitions and code bundles in the registry: immutable, named by the hash of their content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import bindparam, delete, exists, func, insert, select

from wonder_ray.errors import ConflictError, DefinitionError, NotFoundError, StorageError
from wonder_ray.ids import check_name
from wonder_ray.resources.paging import PAGE_MAX, cut, position
from wonder_ray.resources.records import (
    LATEST,
    BundleContent,
    BundleRecord,
    DefinitionPage,
    DefinitionRecord,
    DefinitionSummary,
)
from wonder_ray.resources.tables import BUNDLES, DEFINITIONS, RUNS
from wonder_ray.resources.workspaces import need_workspace
from wonder_ray.values import canonical, decode

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

# Built once: composing a statement costs more than executing it. `b_` parameters are bound at each execution.
_OF_WORKFLOW: Final = (DEFINITIONS.c.workspace_id == bindparam("b_workspace")) & (DEFINITIONS.c.name == bindparam("b_name"))
_OF_VERSION: Final = DEFINITIONS.c.version == bindparam("b_version")
_VERSION: Final = select(DEFINITIONS.c.version).where(_OF_WORKFLOW, _OF_VERSION)
_LATEST_VERSION: Final = select(DEFINITIONS.c.version).where(_OF_WORKFLOW).order_by(DEFINITIONS.c.ordinal.desc()).limit(1)
_DEFINITION: Final = select(DEFINITIONS).where(_OF_WORKFLOW, _OF_VERSION)
_SUMMARY: Final = select(
    *(column for column in DEFINITIONS.c if column.name != "definition"),
    func.length(DEFINITIONS.c.definition).label("size_bytes"),
)
_content: Final = msgspec.json.Decoder(BundleContent)


def definition_row(definition: bytes, workspace_id: str, now_us: int) -> dict[str, Any]:
    """The row of a definition (its file form, as JSON); a `DefinitionError` when it has no usable name."""
    value = decode(definition)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise DefinitionError("a definition is a JSON object with a name")
    # Canonical bytes: the version is then their plain sha256, and equal versions are equal byte for byte.
    content = canonical(value)
    row: dict[str, Any] = {"workspace_id": workspace_id, "name": check_name(value["name"], "workflow"), "created_us": now_us}
    return row | {"version": hashlib.sha256(content).hexdigest(), "definition": content, "bundle": value.get("bundle")}


def put_definition(connection: Connection, row: dict[str, Any]) -> bool:
    """Store a version; whether it is new."""
    need_workspace(connection, row["workspace_id"])
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


def find_version(connection: Connection, workspace_id: str, name: str, version: str | None) -> str:
    """The version itself if it is registered, by default the latest one; a `DefinitionError` when there is none."""
    pinned = None if version == LATEST else version
    query = _VERSION if pinned else _LATEST_VERSION
    wanted = {"b_version": pinned} if pinned else {}
    found = connection.execute(query, {"b_workspace": workspace_id, "b_name": name} | wanted).scalar()
    if found is None:
        what = f"version {pinned[:12]} of workflow {name!r}" if pinned else f"workflow {name!r}"
        raise DefinitionError(f"{what} is not registered in workspace {workspace_id!r}: put its definition first")
    return str(found)


def find_definition(connection: Connection, workspace_id: str, name: str, version: str | None) -> DefinitionRecord:
    """A version of a workflow, by default the latest."""
    known = find_version(connection, workspace_id, name, version)
    row = connection.execute(_DEFINITION, {"b_workspace": workspace_id, "b_name": name, "b_version": known}).one()
    found = DefinitionRecord(**_without_ordinal(row))
    if hashlib.sha256(found.definition).hexdigest() != found.version:
        msg = f"the stored definition of workflow {found.name!r} is damaged: its content is not that of version {found.version}"
        raise StorageError(msg)
    return found


def page_of_definitions(
    connection: Connection, workspace_id: str, name: str | None, limit: int, cursor: str | None
) -> DefinitionPage:
    """Versions, newest first."""
    query = _SUMMARY.where(DEFINITIONS.c.workspace_id == workspace_id).order_by(DEFINITIONS.c.ordinal.desc())
    if name is not None:
        query = query.where(DEFINITIONS.c.name == name)
    if cursor is not None:
        query = query.where(DEFINITIONS.c.ordinal < position(cursor))
    size = max(1, min(limit, PAGE_MAX))
    rows, following = cut(connection.execute(query.limit(size + 1)).all(), size)
    return DefinitionPage([DefinitionSummary(**_without_ordinal(row)) for row in rows], following)


def delete_definition(connection: Connection, workspace_id: str, name: str, version: str | None) -> list[str]:
    """Remove a version of a workflow, or all of them, with the bundles that no other names; which versions they were.

    Raises:
        DefinitionError: There is no such version.
        ConflictError: A run has one of them: runs keep their definitions.
    """
    wanted = (DEFINITIONS.c.workspace_id == workspace_id) & (DEFINITIONS.c.name == name)
    mine = (RUNS.c.workspace_id == workspace_id) & (RUNS.c.workflow_name == name)
    if version is not None:
        found_version = find_version(connection, workspace_id, name, version)
        wanted &= DEFINITIONS.c.version == found_version
        mine &= RUNS.c.workflow_version == found_version
    found = connection.execute(select(DEFINITIONS.c.version, DEFINITIONS.c.bundle).where(wanted)).all()
    if not found:
        find_version(connection, workspace_id, name, version)
    if runs := connection.execute(select(func.count()).select_from(RUNS).where(mine)).scalar_one():
        which = f"workflow {name!r}" if version is None else f"version {version[:12]} of workflow {name!r}"
        raise ConflictError(f"{which} has {runs} runs, which keep it: name a version without runs, or leave it")
    connection.execute(delete(DEFINITIONS).where(wanted))
    for bundle in {row.bundle for row in found} - {None}:
        named = (DEFINITIONS.c.workspace_id == workspace_id) & (DEFINITIONS.c.bundle == bundle)
        unused = ~exists().where(named)
        connection.execute(delete(BUNDLES).where(BUNDLES.c.workspace_id == workspace_id, BUNDLES.c.sha256 == bundle, unused))
    return [row.version for row in found]


def knows_bundle(connection: Connection, workspace_id: str, sha256: str) -> bool:
    """Whether a bundle is registered."""
    return connection.execute(_bundle(workspace_id, sha256)).first() is not None


def put_bundle(connection: Connection, workspace_id: str, sha256: str, content: BundleContent, now_us: int) -> bool:
    """Register a bundle; whether it is new. What a bundle holds follows from its hash, and never changes."""
    need_workspace(connection, workspace_id)
    if knows_bundle(connection, workspace_id, sha256):
        return False
    row = {"workspace_id": workspace_id, "sha256": sha256, "content": msgspec.json.encode(content), "created_us": now_us}
    connection.execute(insert(BUNDLES), row)
    return True


def find_bundle(connection: Connection, workspace_id: str, sha256: str) -> BundleRecord:
    """A registered bundle; a `NotFoundError` when it is none."""
    row = connection.execute(_bundle(workspace_id, sha256)).first()
    if row is None:
        raise NotFoundError("bundle", f"code bundle {sha256[:12]} is not registered in workspace {workspace_id!r}: put it first")
    values = row._asdict()
    return BundleRecord(**values | {"content": _content.decode(values["content"])})


def _bundle(workspace_id: str, sha256: str) -> Any:
    return select(BUNDLES).where(BUNDLES.c.workspace_id == workspace_id, BUNDLES.c.sha256 == sha256)


def _without_ordinal(row: Row[Any]) -> dict[str, Any]:
    values = row._asdict()
    del values["ordinal"]
    return values
