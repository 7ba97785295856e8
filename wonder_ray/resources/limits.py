"""Rate limits: token buckets in the database, so that they hold however many processes serve requests.

A bucket fills at `rate_per_s` up to `burst` and pays for each request. Several that apply to one request pay together or not at
all. The time of a bucket only moves forward: of clocks that differ, the fastest fills it, and none fills it twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from wonder_ray.errors import RateLimitedError
from wonder_ray.resources.access_records import Rate
from wonder_ray.resources.tables import RATE_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

_BUCKET: Final = select(RATE_BUCKETS).where(RATE_BUCKETS.c.name == bindparam("b_name"))
_CREATE: Final = insert(RATE_BUCKETS)
_FILL: Final = (
    update(RATE_BUCKETS)
    .where(RATE_BUCKETS.c.name == bindparam("b_name"))
    .values(level=bindparam("b_level"), updated_us=bindparam("b_updated_us"))
)


class Limit(NamedTuple):
    """A bucket and how fast it fills."""

    name: str
    rate_per_s: float
    burst: float


class _Level(NamedTuple):
    limit: Limit
    level: float
    updated_us: int
    is_new: bool


def limit_of(name: str, rate_per_s: float | None, burst: float | None) -> list[Limit]:
    """The limit that a key or workspace has, if it has one. A burst is at least one request.

    >>> limit_of("key:1", 5.0, None)
    [Limit(name='key:1', rate_per_s=5.0, burst=5.0)]
    """
    if rate_per_s is None:
        return []
    return [Limit(name, rate_per_s, max(1.0, rate_per_s if burst is None else burst))]


def take(connection: Connection, limits: Sequence[Limit], cost: float, now_us: int) -> Rate:
    """Pay for a request from every bucket.

    Raises:
        RateLimitedError: One has too little; none has paid.
    """
    levels = [_level(connection, limit, now_us) for limit in limits]
    if poor := [found for found in levels if found.level < cost]:
        wait_s, slowest = max((_wait_s(found, cost), found.limit) for found in poor)
        what = slowest.name.partition(":")[0]
        raise RateLimitedError(
            f"too many requests: this {what} may make {slowest.rate_per_s:g} a second; try again in {wait_s:.3g} s",
            retry_after_s=wait_s,
            limit=slowest.rate_per_s,
        )
    for found in levels:
        _store(connection, found, found.level - cost)
    nearest = min(levels, key=lambda found: (found.level - cost) / found.limit.burst)
    return Rate(limit=nearest.limit.rate_per_s, remaining=nearest.level - cost)


def _level(connection: Connection, limit: Limit, now_us: int) -> _Level:
    row: Any = connection.execute(_BUCKET, {"b_name": limit.name}).first()
    if row is None:
        return _Level(limit, limit.burst, now_us, is_new=True)
    passed_s = max(0, now_us - row.updated_us) / 1e6
    return _Level(limit, min(limit.burst, row.level + passed_s * limit.rate_per_s), max(now_us, row.updated_us), is_new=False)


def _store(connection: Connection, found: _Level, level: float) -> None:
    if found.is_new:
        connection.execute(_CREATE, {"name": found.limit.name, "level": level, "updated_us": found.updated_us})
        return
    changes = {"b_name": found.limit.name, "b_level": level, "b_updated_us": found.updated_us}
    connection.execute(_FILL, changes)


def _wait_s(found: _Level, cost: float) -> float:
    if cost > found.limit.burst or found.limit.rate_per_s <= 0:
        return _NEVER_S
    return (cost - found.level) / found.limit.rate_per_s


_NEVER_S: Final = 24 * 3600.0
"""What is told where no waiting helps: a limit of 0, or a request that costs more than a burst."""
