"""Looking at runs over HTTP, with the methods of a `Reader` of a storage folder."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.errors import WonderError
from wonder_ray.remote.lines import found_lines
from wonder_ray.remote.records import run_record, waits
from wonder_ray.remote.runs import RemoteRun
from wonder_ray.state import TERMINAL_RUN, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wonder_ray.events.query import EventRow, TraceRow
    from wonder_ray.logs.record import LogLine
    from wonder_ray.planning.queries import Waiting
    from wonder_ray.remote.client import Place, RemoteClient
    from wonder_ray.replay import Replay
    from wonder_ray.resources.records import RunRecord

UNFINISHED: Final = tuple(str(status) for status in RunStatus if status not in TERMINAL_RUN)
RUNS_MAX: Final = 1_000
LINES_MAX: Final = 1_000
OF_COORDINATORS: Final = ("live", "in_flight", "turn")
"""What only a coordinator tells, and a storage folder does not."""


class RemoteReader:
    """Looks at the runs of a workspace; see `Reader` for its methods.

    Attributes:
        layout: `layout.root` is the server's URL.
        skipped: What the latest call had to do without.
    """

    def __init__(self, client: RemoteClient) -> None:
        self._client = client
        self.layout: Final[Place] = client.storage
        self.skipped: Mapping[str, str] = MappingProxyType({})

    def runs(self, *, status: str | None = None, workflow: str | None = None, limit: int = 50) -> list[RunRecord]:
        """Runs, newest first."""
        return self._client.runs(status=status, workflow=workflow, limit=limit)

    def coordinated(
        self, *, status: str | None = None, workflow: str | None = None, limit: int = 50
    ) -> list[tuple[RunRecord, bool]]:
        """As `runs`, each with whether its coordinator lives."""
        return self._client.coordinated(status=status, workflow=workflow, limit=limit)

    def unfinished(self) -> list[RunRecord]:
        """Every run of the workspace that has not ended, oldest first."""
        return self._client.runs(status=UNFINISHED, limit=100 * RUNS_MAX)[::-1]

    def record(self, ref: str) -> RunRecord:
        """What the registry knows of a run."""
        return self._client.find(ref)

    def show(self, ref: str) -> dict[str, Any]:
        """How a run stands, as JSON."""
        found = self._client.run(ref).show(details=True)
        found["waiting"] = [msgspec.structs.asdict(wait) for wait in waits(found["waiting"])]
        alive = found.pop("coordinator_alive")
        found["coordinator"] = {"pid": None, "node": None, "epoch": found["epoch"], "placement": None} if alive else None
        for name in OF_COORDINATORS:
            found.pop(name, None)
        return found | {"storage": self.layout.root, "placement": None}

    def children(self, record: RunRecord) -> list[RunRecord]:
        """The child runs of a run, newest first."""
        return self._client.runs(parent=record.run_id, limit=RUNS_MAX)

    def waiting(self, ref: str) -> list[tuple[RunRecord, Waiting]]:
        """What a run and the runs below it wait for, as far as they have not ended: each wait with whose it is."""
        found: list[tuple[RunRecord, Waiting]] = []
        ids = [ref]
        while ids:
            told = self._client.run(ids.pop(0)).show(details=True)
            record = run_record(told)
            if not record.ended:
                found += [(record, wait) for wait in waits(told["waiting"])]
                ids += [child["run_id"] for child in told["children"]]
        return found

    def query(self, ref: str, expression: str) -> tuple[Any, None]:
        """The value of an expression; after which event it is so, is not told."""
        return self._client.run(ref).query(expression), None

    def answered(self, _record: RunRecord, _key: str) -> None:
        """Nothing: the server itself gives the first answer again."""

    def events(self, ref: str, after: int = 0) -> list[EventRow]:
        """A run's events."""
        return list(self._client.run(ref).events(after=after))

    def follow(self, ref: str, after: int = 0) -> Iterator[EventRow]:
        """A run's events, and new ones as they come, until it has ended."""
        return self._client.run(ref).events(after=after, follow=True)

    def traces(self, ref: str, after: int = 0) -> list[TraceRow]:
        """A run's trace events."""
        return list(self._client.run(ref).trace(after=after))

    def state(self, ref: str, at: int | None = None) -> dict[str, Any]:
        """A run's state."""
        return self._client.run(ref).state(at=at)

    def is_settled(self, record: RunRecord) -> bool:
        """Whether nothing is left to do for a run."""
        return record.ended

    def logs(
        self, ref: str | None = None, *, where: str | None = None, limit: int = LINES_MAX, archive: bool = False, **filters: Any
    ) -> list[LogLine]:
        """The newest lines of the log, oldest first."""
        if where is not None:
            raise WonderError("--where asks the files of the log in SQL, and not over HTTP: use the other options")
        filters["node"] = filters.pop("node_id", None)
        found = found_lines(self._client.api, limit, run=ref, archive=archive or None, **filters)
        unread = f"{found.skipped} of its files cannot be read at the server"
        self.skipped = MappingProxyType({"part of the log": unread} if found.skipped else {})
        return found.lines

    def replay(self, ref: str) -> Replay:
        """Whether today's planners, as the server has them, make the recorded events of a run's facts."""
        return RemoteRun(self._client, ref).replay()
