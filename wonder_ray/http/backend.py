"""What the API stands in front of: the services, as a client of the cluster reaches them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.client import Run
from wonder_ray.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from wonder_ray.client import Client
    from wonder_ray.events.news import News
    from wonder_ray.resources.records import RunRecord, StartRequest

ACTIVATE_SECONDS: Final = 5.0
READY_SECONDS: Final = 5.0


class Backend:
    """A client, narrowed to one workspace at a time.

    Example:
        >>> Backend(client).record("latest", "default").status  # doctest: +SKIP
        'completed'
    """

    def __init__(self, client: Client) -> None:
        self.client = client

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

    def ready(self) -> None:
        """Return when the registry and the event service answer; else a `ServiceUnavailableError`."""
        for service in ("resources", "events"):
            self.call(service, "ping", within_s=READY_SECONDS)
