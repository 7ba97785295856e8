"""What the store asks of a database, whichever it is."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

DATABASE_ERRORS: Final = (SQLAlchemyError, sqlite3.Error)
"""While a connection is being set up, the driver's own errors come through."""


class Database(ABC):
    """A database that holds a registry, or is about to.

    Attributes:
        name: What messages call it; without its password.
        engine: Its connections; `connect` begins a transaction that reads.
        alone: Held around every use of a connection, where there is only one.
    """

    name: str
    engine: Engine
    alone: AbstractContextManager[Any] = nullcontext()

    def make_ready(self) -> None:  # noqa: B027 - not every database needs it
        """Called once, before anything is written."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that is alone in writing from its beginning on, and commits when its block ends."""

    @abstractmethod
    def version(self, connection: Connection) -> int | None:
        """The schema that is here; None when nothing is.

        Raises:
            StorageError: What is here belongs to something else.
        """

    @abstractmethod
    def note_version(self, connection: Connection, version: int) -> None:
        """Note, beside what Alembic notes, which schema is here now."""

    @abstractmethod
    def check_health(self, connection: Connection) -> None:
        """Raise a `StorageError` when what is here is damaged."""

    @abstractmethod
    def translate(self, error: Exception) -> WonderError:
        """A database error as one of ours: a `ServiceUnavailableError` when the same call may succeed later."""

    @abstractmethod
    def is_unsure(self, error: Exception) -> bool:
        """Whether only a restart can tell what the disk holds."""

    @abstractmethod
    def is_lost(self, connection: Connection, error: Exception) -> bool:
        """Whether the whole transaction is gone by this error of one of its statements."""

    def close(self) -> None:
        """Close all connections; whoever uses the engine later opens new ones."""
        self.engine.dispose()
