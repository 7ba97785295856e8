"""How a registry lives in PostgreSQL, and what that server's errors mean to a caller.

One writer at a time, as in SQLite: every writing transaction begins with the same advisory lock, and the lock is held until the
commit is visible. What the store does in a transaction is then right in both, whatever it reads before it writes, and group
commits make up for the waiting. A session that falls silent within a transaction (its process was stopped, its network cut) is
ended by the server, and its lock with it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.resources.databases.base import Database
from wonder_ray.resources.place import without_password
from wonder_ray.resources.tables import METADATA, SCHEMA, VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import URL, Connection

SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
LOCK_TIMEOUT_S: Final = 30
SILENCE_TIMEOUT_S: Final = 60
"""How long a session may hold the lock and say nothing."""
_WRITE_LOCK: Final = 0x776F6E72
_OPTIONS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "wonder-ray resources",
}
_SESSION: Final = (
    f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'",
    f"SET idle_in_transaction_session_timeout = '{SILENCE_TIMEOUT_S}s'",
    "SET timezone = 'UTC'",
    # A commit is on disk when it is acknowledged; whoever has chosen more (a standby's disk, too) keeps it.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)
_PASSING: Final = ("08", "40", "53", "55P03", "57")
"""SQLSTATEs (or classes) after which the same call may succeed: the connection, a rollback, resources, a lock, an operator."""


class PostgresDatabase(Database):
    """One schema of a PostgreSQL database.

    Args:
        url: `postgresql://user@host/database`; a password is better kept in `~/.pgpass`. With
            `?options=-csearch_path%3Dname` the tables lie in the schema of that name, which must exist.
        read_only: Refuse to write.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        parsed = _parsed(url)
        self.name = without_password(url)
        given = {key: value for key, value in _OPTIONS.items() if key not in parsed.query}
        self.engine = create_engine(parsed, connect_args=given, pool_pre_ping=True, pool_size=16, max_overflow=32)
        session = (*_SESSION, "SET default_transaction_read_only = on") if read_only else _SESSION

        def configure(connection: Any, _record: object) -> None:
            connection.autocommit = True
            for statement in session:
                connection.execute(statement)
            connection.autocommit = False

        event.listen(self.engine, "connect", configure)

    def writing(self) -> AbstractContextManager[Connection]:
        """See `Database`."""
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK}, hashtext(current_schema()))"))
            yield connection

    def version(self, connection: Connection) -> int | None:
        """See `Database`."""
        if connection.execute(text("SELECT current_schema()")).scalar() is None:
            raise StorageError(f"{self.name}: the schema of its search_path does not exist: create it, or leave the option out")
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE in tables:
            return int(connection.execute(SCHEMA.select()).scalar_one())
        if taken := sorted(tables & set(METADATA.tables)):
            raise StorageError(
                f"{self.name} holds tables of something else ({', '.join(taken)}): give the registry a database or a schema "
                "of its own (`?options=-csearch_path%3Dwonder`)"
            )
        return None

    def note_version(self, connection: Connection, version: int) -> None:
        """See `Database`: what Alembic notes is enough."""

    def check_health(self, connection: Connection) -> None:
        """See `Database`: the server checks its own pages."""

    def translate(self, error: Exception) -> WonderError:
        """See `Database`."""
        state = _state(error)
        cause = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        if self._is_passing(error, state):
            return ServiceUnavailableError(f"{self.name} did not answer: {cause}; the call may be repeated")
        return StorageError(f"{self.name}: {cause} ({state or type(error).__name__}); see the server's log, then `wonder doctor`")

    def is_unsure(self, error: Exception) -> bool:  # noqa: ARG002 - whichever it is
        """See `Database`: never, the server recovers by itself."""
        return False

    def is_lost(self, connection: Connection, error: Exception) -> bool:  # noqa: ARG002 - the error tells
        """See `Database`: the connection is gone, and with it the transaction."""
        return isinstance(error, DBAPIError) and error.connection_invalidated

    @staticmethod
    def _is_passing(error: Exception, state: str | None) -> bool:
        if isinstance(error, (PendingRollbackError, PoolTimeoutError)):
            return True
        if state is not None:
            return state.startswith(_PASSING)
        # Without a state the server has never answered: it is starting, away, or the network is.
        return isinstance(error, DBAPIError) and type(error.orig).__name__ in {"OperationalError", "ConnectionTimeout"}


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError("the URL of the registry cannot be read: write postgresql://user@host/database") from None
    return parsed.set(drivername="postgresql+psycopg")


def _state(error: Exception) -> str | None:
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state if isinstance(error, SQLAlchemyError) and isinstance(state, str) else None
