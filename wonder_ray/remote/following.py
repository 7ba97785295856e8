"""A stream of events that is opened again wherever it breaks: each event once, in sequence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.remote.connection import PATIENCE_SECONDS, PAUSE_MAX, PAUSE_SECONDS
from wonder_ray.remote.records import event_row
from wonder_ray.remote.transport import LostError
from wonder_ray.values import decode
from wonder_ray.workflow_events import TERMINAL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.events.query import EventRow
    from wonder_ray.remote.connection import Connection

_DATA: Final = b"data: "


def followed(api: Connection, path: str, after: int) -> Iterator[EventRow]:
    """The events after a number, until the run has ended.

    Raises:
        ServiceUnavailableError: Nothing answered for a minute.
    """
    silent_since, pause = time.monotonic(), PAUSE_SECONDS
    while True:
        try:
            opened = api.stream(path, after)
            if opened is None:
                return
            for line in opened.lines:
                if not line.startswith(_DATA):
                    silent_since, pause = time.monotonic(), PAUSE_SECONDS
                    continue
                row = event_row(decode(line.removeprefix(_DATA)))
                if row.sequence_number <= after:
                    continue
                yield row
                silent_since, after = time.monotonic(), row.sequence_number
                if row.event_type in TERMINAL_EVENTS:
                    return
        except LostError as error:
            if time.monotonic() - silent_since > PATIENCE_SECONDS:
                raise ServiceUnavailableError(
                    f"the stream {path} broke after event {after}, and nobody answers: {error}"
                ) from None
        time.sleep(pause)
        pause = min(PAUSE_MAX, 2 * pause)
