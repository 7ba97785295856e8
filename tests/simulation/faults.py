"""What can go wrong in a simulated world: kinds of faults, where each strikes, and how faults are drawn.

A fault strikes at the n-th passage of its point, or at a time ("time": milliseconds after the start). The points: "write", a
write to a run's file; "submit", a task sent; "batch", one with several calls; "append", a batch sent to the event service;
"open", an opening; "mail", a mailbox drained.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tests.simulation.chance import Chance

POINT: Final = MappingProxyType(
    {
        # The coordinator's process and its file.
        "crash_before_commit": "write",
        "crash_after_commit": "write",  # the change is durable, nothing has been released
        "disk_error": "write",
        "crash_in_release": "submit",
        "crash_idle": "time",
        "zombie": "time",  # stopped, replaced by a successor, and continued
        "opening_refused": "open",
        # Executors and their results.
        "executor_lost": "submit",
        "executor_oom": "submit",
        "batch_lost": "batch",
        "node_lost": "submit",  # everything in flight is lost
        "executor_hangs": "submit",
        "result_late": "submit",
        "result_doubled": "submit",
        "result_forged": "time",  # a result of an earlier attempt, or of an earlier epoch
        "mail_reordered": "mail",
        "mail_delayed": "mail",
        # The event service.
        "events_unreachable": "append",
        "ack_lost": "append",
        "ack_late": "append",
        "ack_doubled": "append",
        "batch_doubled": "append",
        "events_down": "append",
        "events_disk_lost": "append",
        # Messages between runs.
        "child_request_lost": "child",
        "child_message_doubled": "child",
        # Time.
        "clock_forward": "time",
        "clock_back": "time",
    }
)
"""Kind -> where it strikes."""
_LATEST: Final = MappingProxyType(
    {"write": 40, "submit": 25, "batch": 2, "append": 12, "open": 3, "child": 3, "mail": 40, "time": 2_500}
)
_WEIGHTS: Final = MappingProxyType(
    {
        **dict.fromkeys(POINT, 4),
        "executor_hangs": 30,
        "batch_lost": 40,
        "child_request_lost": 20,
        "child_message_doubled": 24,
        "mail_reordered": 6,
        "clock_back": 6,
        "clock_forward": 6,
        "result_forged": 10,
        "zombie": 10,
        "crash_idle": 6,
    }
)
_SOON: Final = MappingProxyType({"time": 3})


class Fault(msgspec.Struct, frozen=True):
    """One fault of a workload."""

    kind: str
    nth: int
    """At which passage of its point it strikes, from 1; or when, in milliseconds after the start."""

    @property
    def point(self) -> str:
        """Where it strikes."""
        return POINT[self.kind]


def draw_faults(chance: Chance, most: int) -> tuple[Fault, ...]:
    """Some faults, soon ones more often than late ones."""
    faults = []
    for _ in range(chance.number(0, most)):
        kind = chance.often(dict(_WEIGHTS))
        latest = _LATEST[POINT[kind]]
        draws = (chance.number(1, latest) for _ in range(_SOON.get(POINT[kind], 2)))
        faults.append(Fault(kind, min(draws)))
    return tuple(faults)
