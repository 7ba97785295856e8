"""Workspaces, projects, bundles, API keys, rate limits and secrets; runs found by label, parent and root.

Every workspace and project that a definition or run names becomes one.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from wonder_ray.resources.migrations.columns import BYTES, INT, REAL, TEXT, may, need

revision: Final = "0003"
down_revision: Final = "0002"
_BATCH: Final = 1000


def upgrade() -> None:
    """Make the tables, and fill those that say once more what is known."""
    _workspaces()
    _access()
    op.create_index("runs_by_project", "runs", ["workspace_id", "project_id", "ordinal"])
    op.create_index("runs_by_workspace_status", "runs", ["workspace_id", "status", "ordinal"])
    op.create_index("runs_by_parent", "runs", ["workspace_id", "parent_run_id", "ordinal"])
    op.create_index("runs_by_root", "runs", ["workspace_id", "root_run_id", "ordinal"])
    labels = op.create_table(
        "run_labels",
        *(need(name, TEXT) for name in ("workspace_id", "name", "value")),
        need("ordinal", INT, autoincrement=False),
        sa.PrimaryKeyConstraint("workspace_id", "name", "value", "ordinal"),
        sa.ForeignKeyConstraint(["ordinal"], ["runs.ordinal"]),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    _copy_labels(op.get_bind(), labels)


def _of_workspace() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.workspace_id"])


def _workspaces() -> None:
    op.create_table(
        "workspaces",
        *(need(name, TEXT) for name in ("workspace_id", "description")),
        *(may(name, REAL) for name in ("rate_per_s", "burst")),
        need("created_us", INT),
        sa.PrimaryKeyConstraint("workspace_id"),
        sqlite_strict=True,
    )
    op.create_table(
        "projects",
        *(need(name, TEXT) for name in ("workspace_id", "project_id", "description")),
        need("created_us", INT),
        sa.PrimaryKeyConstraint("workspace_id", "project_id"),
        _of_workspace(),
        sqlite_strict=True,
    )
    op.create_table(
        "bundles",
        *(need(name, TEXT) for name in ("workspace_id", "sha256")),
        need("content", BYTES),
        need("created_us", INT),
        sa.PrimaryKeyConstraint("workspace_id", "sha256"),
        _of_workspace(),
        sqlite_strict=True,
    )
    op.execute(
        "INSERT INTO workspaces (workspace_id, description, created_us) SELECT workspace_id, '', min(created_us) FROM ("
        "SELECT workspace_id, created_us FROM definitions UNION ALL SELECT workspace_id, created_us FROM runs "
        "UNION ALL SELECT 'default', (SELECT coalesce(min(created_us), 0) FROM definitions)) AS named GROUP BY workspace_id"
    )
    op.execute(
        "INSERT INTO projects (workspace_id, project_id, description, created_us) "
        "SELECT workspace_id, project_id, '', min(created_us) FROM ("
        "SELECT workspace_id, project_id, created_us FROM runs "
        "UNION ALL SELECT workspace_id, 'default', created_us FROM workspaces) AS named GROUP BY workspace_id, project_id"
    )


def _access() -> None:
    op.create_table(
        "api_keys",
        need("key_id", TEXT),
        may("workspace_id", TEXT),
        *(need(name, TEXT) for name in ("name", "scopes", "pepper_id")),
        need("hash", BYTES),
        may("previous_pepper_id", TEXT),
        may("previous_hash", BYTES),
        may("previous_until_us", INT),
        *(may(name, REAL) for name in ("rate_per_s", "burst")),
        need("created_us", INT),
        *(may(name, INT) for name in ("rotated_us", "expires_us", "revoked_us", "used_us")),
        sa.PrimaryKeyConstraint("key_id"),
        _of_workspace(),
        sqlite_strict=True,
    )
    op.create_index("api_keys_by_workspace", "api_keys", ["workspace_id", "key_id"])
    op.create_table(
        "rate_buckets",
        need("name", TEXT),
        need("level", REAL),
        need("updated_us", INT),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "secrets",
        *(need(name, TEXT) for name in ("workspace_id", "name", "provider")),
        may("location", TEXT),
        may("sealed", BYTES),
        may("master_key_id", TEXT),
        need("version", INT),
        need("description", TEXT),
        *(need(name, INT) for name in ("created_us", "updated_us")),
        sa.PrimaryKeyConstraint("workspace_id", "name"),
        _of_workspace(),
        sqlite_strict=True,
    )


def _copy_labels(connection: sa.Connection, labels: Any) -> None:
    runs = sa.table("runs", sa.column("ordinal"), sa.column("workspace_id"), sa.column("labels"))
    last = 0
    while found := connection.execute(sa.select(runs).where(runs.c.ordinal > last).order_by(runs.c.ordinal).limit(_BATCH)).all():
        last = found[-1].ordinal
        rows = [
            {"workspace_id": run.workspace_id, "name": name, "value": value, "ordinal": run.ordinal}
            for run in found
            for name, value in json.loads(run.labels).items()
        ]
        if rows:
            connection.execute(sa.insert(labels), rows)
