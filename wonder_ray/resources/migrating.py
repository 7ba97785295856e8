"""Brings the tables of an earlier release up to date, with Alembic: forward only, all or nothing.

Within the transaction of the caller, who holds the database's write lock: of two processes that open an old registry at once,
the second finds it done.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from wonder_ray.resources.tables import SCHEMA

if TYPE_CHECKING:
    from sqlalchemy import Connection

FOLDER: Final = Path(__file__).parent / "migrations"
_one_at_a_time = threading.Lock()  # Alembic keeps what it is working on in its modules


def run_migrations(connection: Connection, found: int, to: str = "head") -> None:
    """Run what leads from schema `found` (0: no table yet) to `to`."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        if not inspect(connection).has_table(SCHEMA.name):
            SCHEMA.create(connection)
            if found:  # files of the first releases carry their version in `user_version` alone
                connection.execute(SCHEMA.insert(), {"version_num": f"{found:04}"})
        command.upgrade(config, to)
