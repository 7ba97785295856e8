"""Lines of the log over HTTP: page after page, newest first, until there are enough."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    from wonder_ray.remote.connection import Connection

PAGE: Final = 1_000


class Found(NamedTuple):
    """What was found."""

    lines: list[LogLine]
    """Oldest first."""
    skipped: int
    """Files that the server could not read."""


def found_lines(api: Connection, limit: int, **filters: Any) -> Found:
    """The newest lines that fit every filter, `limit` of them at most.

    Pages meet within a microsecond: lines of it that an earlier page had are taken out of the next.
    """
    found: list[LogLine] = []
    skipped = 0
    while len(found) < limit:
        size = min(PAGE, limit - len(found) + _at_the_end(found))
        told = api.get("/v1/logs", limit=size, **filters)
        page = [msgspec.convert(line, LogLine) for line in told["lines"]][::-1]
        skipped = max(skipped, told["skipped"])
        known = Counter(line for line in found if line.timestamp == found[-1].timestamp)
        new = []
        for line in page:
            if known[line]:
                known[line] -= 1
            else:
                new.append(line)
        found += new
        if len(page) < size or not new:
            break
        filters["until_us"] = found[-1].timestamp + 1
    return Found(found[:limit][::-1], skipped)


def _at_the_end(found: list[LogLine]) -> int:
    """How many lines the next page is known to repeat."""
    return sum(line.timestamp == found[-1].timestamp for line in found)
