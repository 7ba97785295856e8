"""Transactions on the registry's database: measured, shared by writers that wait at the same time, their errors translated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from wonder_ray.resources.databases.base import DATABASE_ERRORS
from wonder_ray.resources.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from wonder_ray.resources.databases.base import Database

T = TypeVar("T")


class Transactions:
    """Runs pieces of work on a database; may be used by many threads.

    Args:
        database: Where.
        observe: Told the name and the milliseconds of every query and write transaction.
        on_io_error: See `ResourcesStore`.
    """

    def __init__(self, database: Database, observe: Callable[[str, float], None], on_io_error: Callable[[], None]) -> None:
        self.database = database
        self._observe = observe
        self._on_io_error = on_io_error
        self._writes = GroupCommit(database.writing, database.is_lost, observe)

    def read(self, name: str, work: Callable[[Connection], T]) -> T:
        """The result of a query, in a transaction of its own."""
        began = time.perf_counter()
        try:
            with self.database.alone, self.database.engine.connect() as connection:
                return work(connection)
        except DATABASE_ERRORS as error:
            raise self.database.translate(error) from error
        finally:
            self._observe(name, (time.perf_counter() - began) * 1000)

    def write(self, name: str, work: Callable[[Connection], T]) -> T:
        """The result of a write, once it is committed. No other write of any process happens meanwhile."""
        try:
            with self.database.alone:
                return self._writes.run(name, work)
        except DATABASE_ERRORS as error:
            if self.database.is_unsure(error):
                self._on_io_error()
            raise self.database.translate(error) from error
