"""The log service as a Ray actor, and how everybody else reaches it.

The actor is named `logs` in the namespace `wonder`, detached, and free of CPU; Ray restarts it for ever. Calls are not
retried by Ray (it might run them twice), and nobody waits for them: lines that were on the way to an actor that died are
lost, which their sender notices, counts and reports.

Example:
    get_or_create("/var/lib/wonder")                        # once, by whoever starts the platform
    logs = LogClient(remote_sender(), "executor")            # in any process of the cluster
    logs.error("rpc_timeout", "resources did not answer", duration_ms=5000)
"""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.ids import NAMESPACE
from wonder_ray.keeper import Keeper
from wonder_ray.logs.record import LogLine, bounded, dropped_line
from wonder_ray.logs.service import LogService, LogStats, ServiceLimits
from wonder_ray.presence import Presence
from wonder_ray.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.logs.record import Level

ACTOR_NAME = "logs"
_PENDING_CALLS_MAX = 256  # batches of one sender that wait for the actor, about 60 MB at the very worst
_LOOKUP_INTERVAL_S = 1.0
_GROUPS = MappingProxyType({"control": 1})  # a flush that waits for the disk holds up no write


class LogActor:
    """What runs in the actor: a `LogService`, and the way lines come in."""

    def __init__(
        self,
        storage: str,
        instance: str,
        limits: ServiceLimits | None = None,
        namespace: str = NAMESPACE,
        retention: Retention | None = None,
    ) -> None:
        self._storage = storage
        self._retention = retention or Retention(every_s=0)
        self._instance = instance
        self._presence = Presence(ACTOR_NAME, storage, namespace)
        self._decoder = msgspec.msgpack.Decoder(list[LogLine])
        self._service = LogService(storage, instance, limits=limits)  # opens its file later, on its own thread
        self._keeper = Keeper("wonder-logs-keeper", self._archive, every_s=self._retention.every_s, on_error=self._not_archived)
        self._keeper.start()

    def write(self, lines: list[LogLine] | bytes) -> int:
        """Queue lines, or their msgpack form (half the work of pickling them); how many were accepted."""
        return self._service.write(self._decoder.decode(lines) if isinstance(lines, bytes) else lines)

    @ray.method(concurrency_group="control")
    def flush(self, timeout_s: float = 10.0) -> bool:
        """As `LogService.flush`, for what has arrived here: a sender's `settle` comes first."""
        return self._service.flush(timeout_s)

    @ray.method(concurrency_group="control")
    def stats(self) -> LogStats:
        """As `LogService.stats`."""
        return self._service.stats()

    def close(self, timeout_s: float = 10.0) -> bool:
        """As `LogService.close`: for an orderly shutdown, before the actor is killed."""
        self._keeper.stop(timeout_s)
        return self._service.close(timeout_s)

    @ray.method(concurrency_group="control")
    def ping(self) -> dict[str, Any]:
        """Proof of life: which storage and instance this is, its place and its epoch."""
        return self._presence.tell(instance=self._instance)

    def _archive(self, stopping: Callable[[], bool]) -> None:
        from wonder_ray.logs.keeping import keep

        done = keep(self._storage, self._retention, stopping=stopping)
        for problem in done.problems:
            self._note("warning", "logs_not_archived", problem)
        if done.files or done.removed:
            said = f"{done.lines} lines of {len(done.files)} files archived, {len(done.removed)} days of the archive removed"
            self._note("info", "logs_archived", said)

    def _not_archived(self, error: Exception) -> None:
        self._note("error", "logs_archive_failed", f"{type(error).__name__}: {error}")

    def _note(self, level: Level, event_type: str, message: str) -> None:
        now_us = time.time_ns() // 1000
        self._service.write([LogLine(timestamp=now_us, level=level, service="logs", event_type=event_type, message=message)])


def get_or_create(
    storage: str,
    *,
    namespace: str = NAMESPACE,
    instance: str | None = None,
    limits: ServiceLimits | None = None,
    retention: Retention | None = None,
) -> Any:
    """The handle of the cluster's log actor, which is started if there is none. Safe to call from many places at once.

    Args:
        storage: The storage folder, on the caller's node. An actor that is there already keeps its own: see `ping`.
        namespace: Of the actor.
        instance: Names its files; the host by default.
        limits: Of its `LogService`.
        retention: When lines go into the archive; by default what the environment says.
    """
    kept = retention or Retention.from_environment()
    actor_class = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, concurrency_groups=dict(_GROUPS))(LogActor)
    return actor_class.options(**_options(namespace)).remote(storage, instance or _host_name(), limits, namespace, kept)


def _options(namespace: str) -> dict[str, Any]:
    node_id = ray.get_runtime_context().get_node_id()
    return {
        "name": ACTOR_NAME,
        "namespace": namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_pending_calls": _PENDING_CALLS_MAX,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node_id, soft=False),
    }


def remote_sender(namespace: str = NAMESPACE) -> RemoteSender:
    """A `send` for `LogClient` that hands batches to the cluster's log actor, and never fails."""
    return RemoteSender(lambda: ray.get_actor(ACTOR_NAME, namespace=namespace))


class RemoteSender:
    """Sends batches without waiting for them. For one thread (that of a `LogClient`).

    A missing, dead or overloaded actor costs the lines: they are counted, and reported with the next batch that can be
    sent. Whether a batch arrived is seen when a later one is sent.

    Args:
        find_actor: Looks the actor up; raises when it is not there. Called at most once a second while it is missing.

    Attributes:
        lost: Service -> lines known to be lost.
    """

    def __init__(self, find_actor: Callable[[], Any]) -> None:
        self._find_actor = find_actor
        self._actor: Any = None
        self._looked_up_s = -_LOOKUP_INTERVAL_S
        self._on_the_way: deque[tuple[Any, dict[str, int]]] = deque()
        self._unreported: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    def __call__(self, lines: list[LogLine]) -> bool:
        """Send a batch; whether it is on its way."""
        self._look_back()
        report = self._report(lines)
        actor = self._reach()
        counts = _counts(lines)
        if actor is None:
            self._count_lost(counts)
            return False
        try:
            ref = actor.write.remote(_encoded([*lines, *report]))
        except Exception:  # noqa: BLE001 - too many pending calls, a Ray that is shutting down, ...
            self._count_lost(counts)
            return False
        if report:
            counts = _sum(counts, self._unreported)
            self._unreported = {}
        self._on_the_way.append((ref, counts))
        return True

    def settle(self, timeout_s: float = 5.0) -> bool:
        """Wait until every batch sent so far has arrived or is known to be lost; for orderly ends, not on the way."""
        refs = [ref for ref, _ in self._on_the_way]
        arrived, _ = ray.wait(refs, num_returns=len(refs), timeout=timeout_s) if refs else ([], [])
        return len(arrived) == len(refs)

    def _reach(self) -> Any:
        now_s = time.monotonic()
        if self._actor is None and now_s - self._looked_up_s >= _LOOKUP_INTERVAL_S:
            self._looked_up_s = now_s
            try:
                self._actor = self._find_actor()
            except Exception:  # noqa: BLE001 - no such actor (yet), or no Ray
                return None
        return self._actor

    def _look_back(self) -> None:
        """Let go of batches that have arrived, and count those that have not."""
        while self._on_the_way:
            ref, counts = self._on_the_way[0]
            try:
                ray.get(ref, timeout=0)
            except ray.exceptions.GetTimeoutError:
                return  # the calls of one caller run in order: the later ones cannot be there either
            except Exception:  # noqa: BLE001 - the actor died, was restarted, or choked on the batch
                self._count_lost(counts)
                self._actor = None
            self._on_the_way.popleft()

    def _count_lost(self, counts: dict[str, int]) -> None:
        self.lost = _sum(self.lost, counts)
        self._unreported = _sum(self._unreported, counts)

    def _report(self, lines: list[LogLine]) -> list[LogLine]:
        if not self._unreported or not lines:
            return []
        return [dropped_line(lines[-1], self._unreported, "the log service could not be reached")]


def _encoded(lines: list[LogLine]) -> bytes:
    try:
        return msgspec.msgpack.encode(lines)
    except (UnicodeError, TypeError, ValueError):
        return msgspec.msgpack.encode([bounded(line) for line in lines])  # a sender that skipped `LogClient`


def _counts(lines: list[LogLine]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.service] = counts.get(line.service, 0) + 1
    return counts


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-")[:60] or "host"
