"""What Alembic runs: the revisions, on the connection (and in the transaction) that `migrating` hands over."""

from __future__ import annotations

from alembic import context

from wonder_ray.resources.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
