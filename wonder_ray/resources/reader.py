"""Reads the registry's file where no cluster is alive: for `wonder runs` and `wonder show`. Never starts Ray, never writes.

Example:
    with ResourcesReader("/data/wonder") as reader:
        for run in reader.list_runs(status="failed").runs:
            print(run.run_id, run.error)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from wonder_ray.errors import StorageError
from wonder_ray.resources.engine import DATABASE_ERRORS, check_schema, open_engine, translate
from wonder_ray.resources.reads import Reads
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

T = TypeVar("T")


class ResourcesReader(Reads):
    """The registry of a storage folder, to be read; a live cluster may write to it at the same time.

    Raises:
        StorageError: There is no registry in this folder, or it cannot be read.
    """

    def __init__(self, storage: str | Path) -> None:
        path = Layout(storage).resources
        if not path.is_file():
            msg = f"there is no {path.name} in {path.parent}: nothing was ever started there; is it the right storage folder?"
            raise StorageError(msg)
        self.path = str(path)
        self._engine = open_engine(self.path, read_only=True)
        self._read("open", lambda connection: check_schema(connection, self.path))

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self, name: str, work: Callable[[Connection], T]) -> T:  # noqa: ARG002 - the store measures by name
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except DATABASE_ERRORS as error:
            raise translate(error, self.path) from error
