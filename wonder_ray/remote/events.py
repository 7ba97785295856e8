"""The events of all runs, over HTTP: the methods of `Events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray.errors import QueryError
from wonder_ray.remote.connection import ARROW, path_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from wonder_ray.analytics.result import Result
    from wonder_ray.remote.connection import Connection

SECONDS_MAX: Final = 60.0


class RemoteEvents:
    """As `client.events` on Ray: `sql` of all workspaces, for an API key for all of them, and `report` of one or of all.

    Example:
        >>> client.events.report("cost", workflow="crawl").df()  # doctest: +SKIP
    """

    def __init__(self, api: Connection) -> None:
        self._api = api

    def sql(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, seconds_max: float = SECONDS_MAX
    ) -> Result:
        """What a query gives; see `Events.sql`. Times among the `params` go as RFC 3339 texts."""
        from wonder_ray.analytics.statements import bound

        body = {"query": query, "params": bound(params), "seconds_max": seconds_max}
        return _result(self._api.fetch("/v1/sql", ARROW, body=body))

    def report(
        self,
        name: str,
        *,
        run: str | None = None,
        workflow: str | None = None,
        since: dt.datetime | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> Result:
        """A ready report; see `Events.report`."""
        from wonder_ray.analytics.reports import REPORTS
        from wonder_ray.analytics.statements import aware

        if name not in REPORTS:
            raise QueryError(f"there is no report {name!r}; there are {', '.join(REPORTS)}")
        since_us = None if since is None else round(aware(since).timestamp() * 1_000_000)
        path = path_of(
            f"/v1/reports/{name}", {"run": run, "workflow": workflow, "since_us": since_us, "seconds_max": seconds_max}
        )
        return _result(self._api.fetch(path, ARROW))

    def close(self) -> None:
        """Nothing: the server frees what it took by itself."""


def _result(content: bytes) -> Result:
    from wonder_ray.analytics.result import Result

    return Result.of_ipc(content)
