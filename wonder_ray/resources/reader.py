"""Reads the registry where no cluster is alive: for `wonder runs` and `wonder show`. Never starts Ray, never writes.

Example:
    with ResourcesReader("/data/wonder") as reader:
        for run in reader.list_runs(status="failed").runs:
            print(run.run_id, run.error)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from wonder_ray.errors import StorageError
from wonder_ray.resources.access_records import Credentials
from wonder_ray.resources.databases.base import DATABASE_ERRORS, Database
from wonder_ray.resources.databases.opening import check_version, open_database, upgrade
from wonder_ray.resources.databases.sqlite import SqliteDatabase
from wonder_ray.resources.keys import stored_keys
from wonder_ray.resources.place import resources_place
from wonder_ray.resources.reads import Reads
from wonder_ray.resources.secrets import stored_secrets
from wonder_ray.resources.tables import SCHEMA_VERSION
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

T = TypeVar("T")


class ResourcesReader(Reads):
    """The registry of a storage folder, to be read; a live cluster may write to it at the same time.

    A file of an earlier release is read as it is now: a copy of it in memory is brought up to date.

    Args:
        storage: The storage folder.
        place: Where its registry lives: see `resources_place`.

    Raises:
        StorageError: There is no registry in this folder, or it cannot be read.
    """

    def __init__(self, storage: str | Path, place: str | None = None) -> None:
        where = resources_place(Layout(storage), place)
        if isinstance(where, Path) and not where.is_file():
            msg = f"there is no {where.name} in {where.parent}: nothing was ever started there; is it the right storage folder?"
            raise StorageError(msg)
        self._database = open_database(where, read_only=True)
        try:
            self._database = self._current()
        except BaseException:
            self._database.close()
            raise
        self.name = self._database.name

    def credentials(self) -> Credentials:
        """What `wonder doctor` looks at: the API keys and secrets of all workspaces, without what makes them such."""
        return self._read("credentials", lambda c: Credentials(keys=stored_keys(c), secrets=stored_secrets(c)))

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _current(self) -> Database:
        found = self._read("open", self._database.version)
        if not (isinstance(self._database, SqliteDatabase) and found is not None and found < SCHEMA_VERSION):
            check_version(self._database, found)
            return self._database
        copy = self._database.copy_in_memory()
        self._database.close()
        with copy.writing() as connection:
            upgrade(copy, connection, found)
        return copy

    def _read(self, name: str, work: Callable[[Connection], T]) -> T:  # noqa: ARG002 - the store measures by name
        try:
            with self._database.alone, self._database.engine.connect() as connection:
                return work(connection)
        except DATABASE_ERRORS as error:
            raise self._database.translate(error) from error
