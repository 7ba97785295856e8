"""One run, reached over HTTP."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.errors import CommandRefusedError
from wonder_ray.given import as_json
from wonder_ray.ids import new_run_id
from wonder_ray.remote.connection import PAUSE_MAX, segment
from wonder_ray.remote.following import followed
from wonder_ray.remote.records import event_row, run_record, snapshot, trace_row, waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wonder_ray.coordinator.messages import Snapshot
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.query import EventRow, TraceRow
    from wonder_ray.planning.queries import Waiting
    from wonder_ray.remote.client import RemoteClient
    from wonder_ray.replay import Replay
    from wonder_ray.resources.records import RunRecord

LOOK_SECONDS: Final = 0.1
ROWS: Final = 1_000


class RemoteRun:
    """One run; the same methods as of a `Run` on Ray, with the same meaning, replies and errors.

    Attributes:
        id: Its id.
        last_snapshot: What its coordinator last told while it was waited for.
    """

    def __init__(self, client: RemoteClient, run_id: str) -> None:
        self.id = run_id
        self.last_snapshot: Snapshot | None = None
        self._client = client
        self._api = client.api
        self._path = f"/v1/runs/{segment(run_id)}"

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    # --- looking -------------------------------------------------------------------------------------------------

    def record(self) -> RunRecord:
        """What the registry knows of it."""
        return run_record(self.show())

    def show(self, *, details: bool = False) -> dict[str, Any]:
        """How it stands, as JSON; with `details` what its history tells, too."""
        found: dict[str, Any] = self._api.get(self._path, details=details or None)
        return found

    def wait(self, timeout: float | None = None) -> RunRecord | None:
        """The run's record once it has ended, None when it has not after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = LOOK_SECONDS
        while True:
            told = self.show()
            self.last_snapshot = snapshot(told) or self.last_snapshot
            record = run_record(told)
            if record.ended and not told["live"]:
                return record
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                return None
            time.sleep(left)
            pause = min(PAUSE_MAX, 1.5 * pause)

    def result(self, timeout: float | None = None) -> Any:
        """The run's output.

        Raises:
            RunFailedError: It ended otherwise; `status` and `error` tell how.
            TimeoutError: It has not ended after `timeout` seconds; it goes on.
        """
        record = self.wait(timeout)
        if record is None:
            msg = f"run {self.id} has not ended after {timeout} s; it goes on: `wonder show {self.id}`"
            raise TimeoutError(msg)
        return record.result()

    def status(self) -> Snapshot | None:
        """How it stands right now, and what it waits for; None when no coordinator tells."""
        return snapshot(self.show())

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[EventRow]:
        """Its workflow events in sequence; with `follow`, new ones as they come, until the run has ended.

        A stream that breaks is opened again after the last event that came: none is missed, and none comes twice.
        """
        if follow:
            return followed(self._api, f"{self._path}/events/stream", after)
        return (event_row(told) for told in self._pages("events", after))

    def trace(self, *, after: int = 0) -> Iterator[TraceRow]:
        """Its trace events; none unless it was started with `trace`."""
        return (trace_row(told) for told in self._pages("trace", after))

    def logs(self, **filters: Any) -> list[dict[str, Any]]:
        """The newest lines of the log that belong to it, oldest first.

        Args:
            filters: `level`, `service`, `event_type`, `text`, `since_us`, `until_us`, `limit`.
        """
        found: list[dict[str, Any]] = self._api.get(f"{self._path}/logs", **filters)["lines"]
        return found

    def state(self, *, at: int | None = None) -> dict[str, Any]:
        """Its state now, or at the end of the turn that holds event `at`, as plain JSON."""
        found: dict[str, Any] = self._api.get(f"{self._path}/state", at=at)
        return found

    def query(self, expression: str) -> Any:
        """The value of a CEL expression over the run's `input`, `state`, `output` and `run`; nothing is changed."""
        return self._api.post(f"{self._path}/query", {"expression": expression})["value"]

    def gates(self) -> list[Waiting]:
        """The gates that wait for an answer."""
        return waits(self._api.get(f"{self._path}/gates")["gates"])

    def replay(self) -> Replay:
        """Whether the server's planners make the recorded events of its facts."""
        from wonder_ray.replay import Replay

        return msgspec.convert(self._api.post(f"{self._path}/replay"), Replay)

    def _pages(self, what: str, after: int) -> Iterator[dict[str, Any]]:
        while rows := self._api.get(f"{self._path}/{what}", after=after, limit=ROWS)["rows"]:
            yield from rows
            after = rows[-1]["sequence_number"]
            if len(rows) < ROWS:
                return

    # --- telling -------------------------------------------------------------------------------------------------

    def signal(self, name: str, payload: object = None, *, key: str | None = None) -> Any:
        """Send a signal; see `Run.signal`."""
        return self._tell("signals", {"name": name, "payload": as_json(payload, "payload")}, key)

    def answer(self, gate: str, answer: object, *, by: str | None = None, key: str | None = None) -> Any:
        """Answer a gate; see `Run.answer`."""
        return self._tell("answers", {"gate": gate, "answer": as_json(answer, "answer"), "by": by}, key)

    def update(self, changes: Mapping[str, object], *, key: str | None = None) -> Any:
        """Set parts of the state; see `Run.update`."""
        return self._tell("updates", {"changes": {name: as_json(value, name) for name, value in changes.items()}}, key)

    def pause(self, reason: str = "", *, key: str | None = None) -> Any:
        """Start nothing new in it."""
        return self._tell("pause", {"reason": reason}, key)

    def wake(self) -> None:
        """Nothing: the cluster that serves the API sees to it that coordinators live."""

    def resume(self, *, key: str | None = None) -> None:
        """Make sure that its coordinator lives, and let it go on where it is paused; a run that has ended is left alone."""
        self._api.post(f"{self._path}/resume", key=key or secrets.token_hex(16))

    def cancel(self, reason: str = "", *, compensate: bool = False, key: str | None = None) -> Any:
        """Stop the run, its child runs included; see `Run.cancel`."""
        body = {"reason": reason, "compensate": compensate}
        return self._api.post(f"{self._path}/cancel", body, key=key or secrets.token_hex(16))

    def complete_group(self, group: str, *, reason: str = "", key: str | None = None) -> Any:
        """Let a group's join fire with what there is."""
        return self._tell("groups/complete", {"group": group, "reason": reason}, key)

    def close_group(self, group: str, *, key: str | None = None) -> Any:
        """Let an `open` group take no more members."""
        return self._tell("groups/close", {"group": group}, key)

    def add_members(self, group: str, items: Sequence[object], *, key: str | None = None) -> Any:
        """Add members to an `open` group: one per item."""
        checked = [as_json(item, f"item {number}") for number, item in enumerate(items)]
        return self._tell("groups/members", {"group": group, "items": checked}, key)

    def _tell(self, what: str, body: dict[str, Any], key: str | None) -> Any:
        if key is None:
            record = self.record()
            if record.ended:
                instead = f"`wonder fork {self.id}` begins a new run from its state"
                raise CommandRefusedError(f"run {self.id} has ended ({record.status}), and takes nothing any more; {instead}")
            key = secrets.token_hex(16)
        return self._api.post(f"{self._path}/{what}", body, key=key)

    # --- beginning again -----------------------------------------------------------------------------------------

    def fork(
        self,
        at: int | None = None,
        set: Mapping[str, object] | None = None,  # noqa: A002 - the word users know it by
        *,
        flow: Workflow | WorkflowDefinition | None = None,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> RemoteRun:
        """Start a new run from this one's state at the end of the turn that holds event `at`; see `Run.fork`."""
        return self._begin_again("forks", {"at": at}, set, flow, key, labels)

    def restart_from(
        self,
        node: str,
        *,
        set: Mapping[str, object] | None = None,  # noqa: A002 - as for `fork`
        flow: Workflow | WorkflowDefinition | None = None,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> RemoteRun:
        """Start a new run from this one's state in the turn in which a node was last begun; see `Run.restart_from`."""
        return self._begin_again("restarts", {"node": node}, set, flow, key, labels)

    def _begin_again(
        self,
        what: str,
        where: dict[str, Any],
        changes: Mapping[str, object] | None,
        flow: Workflow | WorkflowDefinition | None,
        key: str | None,
        labels: Mapping[str, str] | None,
    ) -> RemoteRun:
        body = {
            **where,
            "set": {target: as_json(value, target) for target, value in (changes or {}).items()},
            "labels": None if labels is None else dict(labels),
            "version": None if flow is None else self._client.register(flow),
            "run_id": new_run_id(SystemClock().now_us()),
        }
        made = self._api.post(f"{self._path}/{what}", body, key=key)
        return RemoteRun(self._client, cast("str", made["run_id"]))
