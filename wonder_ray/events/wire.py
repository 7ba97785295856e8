r"""What a coordinator and the event service say to each other.

>>> run = RunInfo("run_0192f0c1a2b3_0123456789abcdef", "default", "demo", "run_0192f0c1a2b3_0123456789abcdef", None, "crawl", "1")
>>> EventBatch(run, "events", epoch=1, first=1, last=2, lines=line_1 + b"\n" + line_2)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Stream: TypeAlias = Literal["events", "trace"]
Outcome: TypeAlias = Literal["ok", "gap", "stale", "conflict", "invalid"]

STREAMS: tuple[Stream, ...] = ("events", "trace")


class RunInfo(msgspec.Struct, frozen=True):
    """What is the same in every event of a run, and so is sent once per batch."""

    workflow_run_id: str
    workspace_id: str
    project_id: str
    root_run_id: str
    parent_run_id: str | None
    workflow_name: str
    workflow_version: str


class EventBatch(msgspec.Struct, frozen=True):
    """Consecutive events of one stream of one run.

    `epoch` is that of the sender (it alone is fenced); each line carries the epoch that its row was committed in. `lines`
    are the JSON lines of `first` to `last`, joined by newlines.
    """

    run: RunInfo
    stream: Stream
    epoch: int
    first: int
    last: int
    lines: bytes


class OpenReply(msgspec.Struct, frozen=True):
    """What the service holds of a run.

    `mark` is the last event of the unbroken history from 1 that is durable; up to `sealed` it lies in finished files, so
    that the sender may forget it. `boundaries` are `(first sequence number, epoch)` of each epoch that committed rows.
    """

    mark: int
    sealed: int
    trace_mark: int
    trace_sealed: int
    boundaries: list[tuple[int, int]]


class Ack(msgspec.Struct, frozen=True):
    """The answer to one batch; `mark` and `sealed` are those of the run's stream as in `OpenReply`.

    `outcome`: `ok`: everything up to `last` is durable. `gap`: rows before `first` are missing, send from `mark` + 1.
    `stale`: a newer epoch has fenced this sender off. `conflict`: other rows hold these numbers; nothing was stored.
    `invalid`: the batch is not what its envelope says (a bug of the sender); nothing was stored.
    """

    run_id: str
    stream: Stream
    mark: int
    sealed: int
    outcome: Outcome
    message: str = ""
