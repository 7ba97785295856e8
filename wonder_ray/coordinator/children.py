"""Following child runs: they are started, watched and told to end by one thread, which never holds up a turn.

Everything it does may be repeated: a child is started under the id that its parent derived, and its end is looked up in the
registry. A child's coordinator pokes its parent when it has ended, so that nobody has to wait for the next look.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, WonderError
from wonder_ray.planning.facts import ChildEnded, ChildStarted
from wonder_ray.resources.records import StartRequest
from wonder_ray.state import Child, ErrorRecord
from wonder_ray.values import decode, encode_trusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.coordinator.ports import Log
    from wonder_ray.resources.records import RunRecord

PAUSE_SECONDS: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0
CANCEL_AGAIN_SECONDS: Final = 5.0
_PASSING: Final = (ServiceUnavailableError, StaleEpochError, TimeoutError)


class ChildServices(Protocol):
    """The calls that following needs; each may raise a `WonderError`, or a `TimeoutError`."""

    def start_child(self, request: StartRequest) -> RunRecord:
        """Create the run, or find it, and see to it that it has a coordinator."""
        ...

    def look_up_child(self, run_id: str) -> RunRecord:
        """What the registry knows of it."""
        ...

    def cancel_child(self, run_id: str, reason: str, *, compensate: bool) -> None:
        """Tell its coordinator to end it."""
        ...


class Followed(msgspec.Struct, kw_only=True):
    """One child run that has not ended, as far as is known here."""

    child: Child
    depth: int
    compensate: bool
    made: bool = False
    cancelled_s: float | None = None
    """When it was last told to end."""


class ChildRuns:
    """Follows the child runs of one run.

    Args:
        parent: The parent as the registry knows it; asked for when the first child is followed.
        services: The outside.
        post: Where what happens is told.
        log: For what goes wrong on the way.
    """

    def __init__(
        self,
        parent: Callable[[], RunRecord],
        services: ChildServices,
        post: Callable[[ChildStarted | ChildEnded], None],
        log: Log,
    ) -> None:
        self._parent = parent
        self._services = services
        self._post = post
        self._log = log
        self._followed: dict[str, Followed] = {}
        self._changing = threading.Lock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, child: Child, *, depth: int, compensate: bool) -> None:
        """See `ports.Children.follow`."""
        with self._changing:
            known = self._followed.get(child.id)
            if known is None:
                self._followed[child.id] = Followed(child=msgspec.structs.replace(child), depth=depth, compensate=compensate)
            else:
                known.child, known.compensate = msgspec.structs.replace(child), compensate
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="children", daemon=True)
                self._thread.start()
        self.poke()

    def poke(self) -> None:
        """Look at once."""
        self._woken.set()

    def _main(self) -> None:
        pause = PAUSE_SECONDS
        while True:
            pause = PAUSE_SECONDS if self._woken.wait(pause if self._followed else None) else min(2 * pause, PAUSE_SECONDS_MAX)
            self._woken.clear()
            for run_id in list(self._followed):
                self.look_at(run_id)

    def look_at(self, run_id: str) -> None:
        """One step with one child run; what fails in passing is tried again with the next look."""
        followed = self._followed[run_id]
        try:
            self._step(followed)
        except _PASSING as error:
            self._log.warning("child_rpc_failed", f"child run {run_id}: {type(error).__name__}: {error}", child_run_id=run_id)
        except WonderError as error:
            record = ErrorRecord(type(error).__name__, str(error), retryable=False, kind="child")
            self._end(followed, ChildEnded(child_id=run_id, status="refused", error=record))

    def _step(self, followed: Followed) -> None:
        child = followed.child
        if not followed.made:
            record = self._services.start_child(self._request(followed))
            followed.made = True
            if not child.started:
                self._post(ChildStarted(child_id=child.id, version=record.workflow_version))
        record = self._services.look_up_child(child.id)
        if record.ended:
            self._end(followed, _ended(record))
        elif child.cancelled is not None and self._is_time_to_tell(followed):
            followed.cancelled_s = time.monotonic()
            self._services.cancel_child(child.id, child.cancelled, compensate=followed.compensate)

    def _request(self, followed: Followed) -> StartRequest:
        parent, child = self._parent(), followed.child
        return StartRequest(
            workflow_name=child.workflow,
            workflow_version=child.version,
            input=encode_trusted(child.input),
            run_id=child.id,
            workspace_id=parent.workspace_id,
            project_id=parent.project_id,
            root_run_id=parent.root_run_id,
            parent_run_id=parent.run_id,
            parent_token_id=child.token_id,
            depth=followed.depth,
            trace=parent.trace,
            labels=parent.labels,
        )

    def _is_time_to_tell(self, followed: Followed) -> bool:
        return followed.cancelled_s is None or time.monotonic() - followed.cancelled_s > CANCEL_AGAIN_SECONDS

    def _end(self, followed: Followed, fact: ChildEnded) -> None:
        with self._changing:
            self._followed.pop(followed.child.id, None)
        self._post(fact)


def _ended(record: RunRecord) -> ChildEnded:
    return ChildEnded(
        child_id=record.run_id,
        status=str(record.status),
        output=None if record.output is None else decode(record.output),
        error=None if record.error is None else _error(decode(record.error)),
        duration_ms=record.duration_ms,
    )


def _error(told: dict[str, Any]) -> ErrorRecord:
    """The child's error, whose type the parent's transitions and retries match."""
    return ErrorRecord(told["type"], told["message"], kind="child")
