"""Definitions, runs and service epochs."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from wonder_ray.resources.migrations.columns import BYTES, INT, REAL, TEXT, may, need, ordinal

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "definitions",
        ordinal(),
        *(need(name, TEXT) for name in ("workspace_id", "name", "version")),
        need("definition", BYTES),
        may("bundle", TEXT),
        need("created_us", INT),
        sa.UniqueConstraint("workspace_id", "name", "version"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "runs",
        ordinal(),
        *(need(name, TEXT) for name in ("run_id", "workspace_id", "project_id")),
        may("key", TEXT),
        *(need(name, TEXT) for name in ("workflow_name", "workflow_version", "root_run_id")),
        may("parent_run_id", TEXT),
        need("input", BYTES),
        need("trace", INT),
        need("labels", TEXT),
        need("created_us", INT),
        need("epoch", INT),
        may("placement", TEXT),
        may("reported_epoch", INT),
        need("status", TEXT),
        may("started_us", INT),
        may("ended_us", INT),
        may("output", BYTES),
        may("error", BYTES),
        may("tokens", INT),
        may("events", INT),
        may("duration_ms", REAL),
        sa.UniqueConstraint("run_id"),
        sa.UniqueConstraint("workspace_id", "key"),
        sa.ForeignKeyConstraint(
            ["workspace_id", "workflow_name", "workflow_version"],
            ["definitions.workspace_id", "definitions.name", "definitions.version"],
        ),
        sa.CheckConstraint("epoch >= 0"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_index("runs_by_workspace", "runs", ["workspace_id", "ordinal"])
    op.create_index("runs_by_workflow", "runs", ["workspace_id", "workflow_name", "ordinal"])
    op.create_index("runs_by_status", "runs", ["status", "ordinal"])
    op.create_table("service_epochs", sa.Column("name", TEXT, primary_key=True), need("epoch", INT), sqlite_strict=True)
