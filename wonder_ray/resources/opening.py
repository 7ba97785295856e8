"""The registry of a storage folder, opened in this process: its place, its master key, its service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.resources.master_key import load_master_keys
from wonder_ray.resources.place import note_place, resources_place
from wonder_ray.resources.service import ResourcesService

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.resources.request_log import Log
    from wonder_ray.storage.layout import Layout


def open_service(
    layout: Layout, place: str | None = None, *, log: Log | None = None, on_io_error: Callable[[], None] | None = None
) -> ResourcesService:
    """The service on the registry of this folder; others may have it open, too.

    Args:
        layout: The storage folder.
        place: Where its registry lives: see `resources_place`.
        log: See `ResourcesService`.
        on_io_error: See `ResourcesStore`.

    Raises:
        StorageError: The folder's registry lives elsewhere, or cannot be used.
        ServiceUnavailableError: The database did not answer.
    """
    where = resources_place(layout, place)
    service = ResourcesService(where, log=log, on_io_error=on_io_error, master_keys=load_master_keys(layout.master_key))
    note_place(layout, where)
    return service
