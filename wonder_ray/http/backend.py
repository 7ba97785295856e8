"""What the API stands in front of: the services, as a client of the cluster reaches them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.client import Run
from wonder_ray.confined import run_confined
from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.storage.lock import read_holder

if TYPE_CHECKING:
    from pathlib import Path

    from wonder_ray.client import Client
    from wonder_ray.confined import Bounds
    from wonder_ray.events.news import News
    from wonder_ray.resources.records import RunRecord, StartRequest

ACTIVATE_SECONDS: Final = 5.0
READY_SECONDS: Final = 5.0
CONFINED_MAX: Final = 2
"""How many questions about the whole history one replica answers at a time."""


class Backend:
    """A client, narrowed to one workspace at a time.

    Example:
        >>> Backend(client).record("latest", "default").status  # doctest: +SKIP
        'completed'
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._rooms = threading.BoundedSemaphore(CONFINED_MAX)

    @property
    def storage(self) -> Path:
        """The storage folder, on this node."""
        return self.client.storage.root

    def call(self, service: str, method: str, *args: Any, **named: Any) -> Any:
        """Call a method of a service; its errors arrive as themselves."""
        return self.client._services.call(service, method, *args, **named)  # noqa: SLF001 - the same package's way to them

    def record(self, ref: str, workspace_id: str | None) -> RunRecord:
        """A run of this workspace (None: of any); one of another is as unknown as one that does not exist."""
        found: RunRecord = self.call("resources", "get_run", ref, workspace_id=workspace_id)
        return found

    def is_coordinated(self, record: RunRecord) -> bool:
        """Whether a coordinator lives that carries a run out; it holds the lock of the run's file."""
        return not record.ended and read_holder(self.client.storage.lock_file(record.run_id)) is not None

    def run(self, record: RunRecord) -> Run:
        """The run, to be looked at and told things."""
        return Run(self.client, record)

    def start(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a run, or find the one with its key, and whether it is new; durable when this returns."""
        record, created = self.call("resources", "start_run", request)
        if not record.ended:
            with suppress(ServiceUnavailableError):  # the directory finds queued runs by itself, if not at once
                self.call("directory", "activate", record.run_id, within_s=ACTIVATE_SECONDS)
        return record, created

    async def news(self, wanted: list[tuple[str, int]]) -> list[News]:
        """What is new in many runs, after the event that is known of each; not in the threads that requests share."""
        found: list[News] = await asyncio.to_thread(self.call, "events", "news", wanted)
        return found

    def ask_history(self, entry: str, asked: bytes, bounds: Bounds) -> bytes:
        """What a question about the whole history comes to: all that has happened is put into files, and a process looks at them.

        Raises:
            ServiceUnavailableError: As many as may be are being answered here.
        """
        if not self._rooms.acquire(blocking=False):  # whoever waits would hold a thread that others need
            raise ServiceUnavailableError(f"{CONFINED_MAX} questions about the history are being answered here: ask again")
        try:
            self.call("events", "flush")
            return run_confined(entry, asked, bounds)
        finally:
            self._rooms.release()

    def ready(self) -> None:
        """Return when the registry and the event service answer; else a `ServiceUnavailableError`."""
        for service in ("resources", "events"):
            self.call(service, "ping", within_s=READY_SECONDS)
