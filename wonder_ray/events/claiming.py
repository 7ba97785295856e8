"""Who may take a run's batches: one sender (the newest epoch) through one instance of the service.

Several instances can live on one storage: two local clusters, or a service that was thought dead. To open a run, an instance
1. sets the fence in its own log, owning nothing yet,
2. sets it in every other log that knows the run, and reads there what is held,
3. adds that to its own log and owns the run, unless another instance has done its step 2 here meanwhile.
Two instances that do this at once may both fail (they are asked again); both succeeding is impossible: whoever did step 2
in the other's log last has made that one's step 3 fail, or has taken the run from it.

>>> claim_runs(log, layout, [Claim("run_...", epoch=2, new=False)])  # doctest: +SKIP
[None]
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, WonderError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import no_failpoint
from wonder_ray.events.log_keeping import DELETED_EPOCH
from wonder_ray.events.wire import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.spans import Span
    from wonder_ray.events.wire import Stream


class Claim(NamedTuple):
    """A wish to take a run's batches from senders of `epoch` on; `new`: no other instance can ever have heard of the run."""

    run_id: str
    epoch: int
    new: bool = False


class _Found(NamedTuple):
    run_id: str
    stream: Stream
    log: str
    spans: list[Span]
    first_unsealed: int | None


def claim_runs(
    log: CommitLog, layout: EventLayout, claims: Sequence[Claim], failpoint: Callable[[str], None] = no_failpoint
) -> list[WonderError | None]:
    """Own these runs in this log, all in a few transactions; for each None, or why it was refused."""
    claiming = _Claiming(log, layout)
    outcomes = claiming.fence_here(claims)
    failpoint("claim.fenced_here")
    asked = [claim for claim in claims if outcomes[claim] is None and not claim.new]
    if asked and not claiming.alone:
        failed = claiming.fence_everywhere(asked)
        failpoint("claim.fenced_there")
        outcomes |= dict.fromkeys(asked, failed) if failed else claiming.finish(asked)
    return [outcomes[claim] for claim in claims]


def refresh_elsewhere(log: CommitLog, layout: EventLayout) -> None:
    """Look again which rows lie unsealed in other logs; those of a log that is gone were sealed by who adopted it.

    Inside a transaction of `log`.
    """
    noted = log.elsewhere()
    for name in {name for _, _, name in noted}:
        firsts: dict[tuple[str, Stream], int | None] = {(run_id, stream): None for run_id, stream, log_ in noted if log_ == name}

        def look(other: CommitLog, firsts: dict[tuple[str, Stream], int | None] = firsts) -> None:
            for key in firsts:
                firsts[key] = other.first_unsealed(*key)

        is_there = CommitLog.visit(layout.log_dir / name, look)
        for (run_id, stream), first in firsts.items():
            log.set_elsewhere(run_id, stream, name, first if is_there else None)


class _Claiming:
    """One attempt to claim some runs: the three steps."""

    def __init__(self, log: CommitLog, layout: EventLayout) -> None:
        self._log = log
        self._layout = layout
        self._token = secrets.token_hex(8)
        self._found: list[_Found] = []
        self._newer: dict[str, int] = {}
        self.alone = True

    def fence_here(self, claims: Sequence[Claim]) -> dict[Claim, WonderError | None]:
        outcomes: dict[Claim, WonderError | None] = {}
        with self._log.transaction():
            # Listed while we hold our write lock: an instance that is not in the list will find our fence in its step 2.
            self.alone = not self._others()
            for claim in claims:
                newest = _newer_epoch(self._log, claim)
                outcomes[claim] = _stale(claim, newest) if newest else None
                if not newest:
                    self._log.set_fence(claim.run_id, claim.epoch, owned=claim.new or self.alone, claim=self._token)
        return outcomes

    def fence_everywhere(self, claims: list[Claim]) -> WonderError | None:
        """Step 2; the error of a log that cannot be asked."""
        look = partial(self._fence_there, claims)
        try:
            # When one was adopted meanwhile, perhaps by an instance that we had asked before it knew, all are asked again.
            while not all(CommitLog.visit(path, look, "neighbour") for path in self._others()):
                pass
        except WonderError as error:
            return error
        return None

    def finish(self, claims: list[Claim]) -> dict[Claim, WonderError | None]:
        outcomes: dict[Claim, WonderError | None] = {}
        with self._log.transaction():
            for claim in claims:
                newest = self._newer.get(claim.run_id, 0)
                outcomes[claim] = None
                if newest > claim.epoch:
                    self._log.set_fence(claim.run_id, newest, owned=False)
                    outcomes[claim] = _stale(claim, newest)
                elif not self._log.finish_claim(claim.run_id, self._token):
                    msg = f"{claim.run_id} was opened through another event service at the same moment; try again"
                    outcomes[claim] = ServiceUnavailableError(msg)
            for there in self._found:
                self._log.add_spans(there.run_id, there.stream, there.spans)
                self._log.set_elsewhere(there.run_id, there.stream, there.log, there.first_unsealed)
        return outcomes

    def _others(self) -> list[Path]:
        return [path for path in self._layout.logs() if path != self._log.path]

    def _fence_there(self, claims: list[Claim], other: CommitLog) -> None:
        """Step 2 in one log."""
        for claim in claims:
            if newest := _newer_epoch(other, claim):
                self._newer[claim.run_id] = max(newest, self._newer.get(claim.run_id, 0))
            elif other.fence(claim.run_id) is not None:
                other.set_fence(claim.run_id, claim.epoch, owned=False)
            for stream in STREAMS:
                if spans := other.spans(claim.run_id, stream):
                    first = other.first_unsealed(claim.run_id, stream)
                    self._found.append(_Found(claim.run_id, stream, other.path.name, spans, first))


def _newer_epoch(log: CommitLog, claim: Claim) -> int:
    """The epoch that fences this claim off in a log, or 0."""
    fence = log.fence(claim.run_id)
    return fence.epoch if fence is not None and fence.epoch > claim.epoch else 0


def _stale(claim: Claim, newest: int) -> StaleEpochError:
    if newest == DELETED_EPOCH:
        return StaleEpochError(f"{claim.run_id}: retention has deleted this run; nothing more of it is taken")
    msg = f"{claim.run_id}: epoch {claim.epoch} was fenced off by epoch {newest}; this coordinator must stop"
    return StaleEpochError(msg)
