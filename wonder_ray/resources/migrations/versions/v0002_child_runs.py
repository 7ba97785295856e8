"""What child runs and forks need."""

from __future__ import annotations

from typing import Final

from alembic import op

from wonder_ray.resources.migrations.columns import BYTES, INT, TEXT, may, need

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", may("parent_token_id", TEXT))
    op.add_column("runs", need("depth", INT, server_default="0"))
    op.add_column("runs", may("fork", BYTES))
