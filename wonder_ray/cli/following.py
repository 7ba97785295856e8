"""Watching a run to its end, and telling how it ended."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import msgspec
import typer

from wonder_ray.cli.looking import error_text
from wonder_ray.cli.output import duration, json_text, print_json, short, warn
from wonder_ray.cli.progress import counts_of, line, render, standing
from wonder_ray.cli.waits import ACTIONABLE, Need, need_lines
from wonder_ray.clock import SystemClock
from wonder_ray.errors import RunNotFoundError
from wonder_ray.state import TERMINAL_RUN
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.live import Live

    from wonder_ray.cli.progress import Standing
    from wonder_ray.resources.records import RunRecord

POLL_SECONDS: Final = 0.25
PAUSE_MAX: Final = 5.0
COST_SHARE: Final = 0.03
"""Watching takes about this share of one CPU at most: a snapshot of thousands of nodes costs more than one of two."""
SILENT_SECONDS: Final = 20.0
"""After so long without a word from the coordinator people are told where to look."""
SETTLE_SECONDS: Final = 30.0
STILL: Final = ("waiting", "paused")
"""Statuses of runs in which nothing is begun."""
SOON_US: Final = 60_000_000
"""A timer that goes off so soon is waited for."""
NEEDS_MAX: Final = 100
TOLD_MAX: Final = 10
"""Of what begins to be waited for at one time, so much is said."""
RATE_SECONDS: Final = 10.0
LINE_SECONDS: Final = 1.0
LINES_SHARE: Final = 0.05
"""Lines become rarer as a run goes on: one per this share of the elapsed time."""


class Watched(Protocol):
    """What is needed of a client's run."""

    id: str

    def wait(self, timeout: float | None = None) -> RunRecord | None:
        """The record once it has ended."""

    def record(self) -> RunRecord:
        """What is known of it."""

    def status(self) -> Standing | None:
        """How it stands."""

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[Any]:
        """Its events."""


class Display(AbstractContextManager["Display"]):
    """Progress on stderr: a table that is redrawn on a terminal, a line now and then elsewhere."""

    def __init__(self, hint: str = "") -> None:
        from rich.console import Console

        self._hint = hint
        self._said: set[tuple[object, ...]] = set()
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._done: deque[tuple[float, int]] = deque()
        self._line_at = 0.0
        self._last = ""

    def __enter__(self) -> Self:
        from rich.live import Live

        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: PYI036 - passed on to rich, which wants their types
        if self._live is not None:
            self._live.__exit__(*error)

    def pause(self, cost_s: float) -> float:
        """Seconds until the next look, when the last one took `cost_s` of CPU time. The end is heard at once, though."""
        least = POLL_SECONDS if self._live is not None else self._line_at - (time.monotonic() - self._began)
        return min(PAUSE_MAX, max(POLL_SECONDS, least, cost_s / COST_SHARE))

    def show(self, snapshot: Standing) -> None:
        """Draw it."""
        elapsed = time.monotonic() - self._began
        rate = self._rate(elapsed, sum(counts_of(statuses).done for statuses in snapshot.nodes.values()))
        if self._live is not None:
            self._live.update(render(snapshot, elapsed, rate=rate), refresh=True)
            return
        what = standing(snapshot)
        if what != self._last and elapsed >= self._line_at:
            typer.echo(line(snapshot, elapsed, rate=rate), err=True)
            self._last = what
            self._line_at = elapsed + max(LINE_SECONDS, elapsed * LINES_SHARE)

    def tell(self, needs: Sequence[Need], *, still: bool) -> None:
        """Say once what is waited for: at once what somebody has to do, all else when nothing else goes on."""
        new = [need for need in needs if self._is_new(need, still=still)]
        for need in new[:TOLD_MAX]:
            for text in need_lines(need, needs, hint=self._hint, now_us=SystemClock().now_us()):
                self._print(text)
        if len(new) > TOLD_MAX:
            self._print(f"  ... and {len(new) - TOLD_MAX} more: wonder gates {new[0].run_id}{self._hint}")

    def _is_new(self, need: Need, *, still: bool) -> bool:
        wait = need.wait
        mark = (need.run_id, wait.kind, wait.node_id, wait.token_id, wait.name, wait.asked, json_text(wait.assignee))
        if mark in self._said or not (still or wait.kind in ACTIONABLE):
            return False
        self._said.add(mark)
        return True

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(text, err=True)

    def _rate(self, elapsed: float, done: int) -> float:
        """Tokens done per second, over the last ten seconds."""
        self._done.append((elapsed, done))
        while elapsed - self._done[0][0] > RATE_SECONDS:
            self._done.popleft()
        since, before = self._done[0]
        return max(0.0, (done - before) / (elapsed - since)) if elapsed > since else 0.0


class Followed(NamedTuple):
    """What came of watching a run."""

    record: RunRecord
    needs: tuple[Need, ...] = ()
    """What it waits for, where it has not ended: nothing is under way, and somebody has to do something."""


def follow(run: Watched) -> RunRecord:
    """Watch a run until it has ended, and all its events are with the event service."""
    return watch(run).record


def watch(run: Watched, find: Callable[[str], Watched] | None = None, *, until_wait: bool = False, hint: str = "") -> Followed:
    """Watch a run until it has ended, and all its events are with the event service; say what it waits for meanwhile.

    Args:
        run: The run.
        find: Finds its child runs by their ids; they are not looked at without it.
        until_wait: Whether to stop as soon as nothing can go on until somebody does something.
        hint: What suggested commands need to find the storage.
    """
    silent_since, told = time.monotonic(), False
    with Display(hint) as display:
        pause = POLL_SECONDS
        while (record := run.wait(pause)) is None:
            spent_s = time.process_time()
            if (snapshot := run.status()) is not None:
                display.show(snapshot)
                needs, still = needs_of(run, snapshot, find)
                display.tell(needs, still=still)
                if until_wait and still and _needs_somebody(needs):
                    return Followed(run.record(), tuple(needs))
                silent_since = time.monotonic()
                pause = display.pause(time.process_time() - spent_s)
            elif not told and time.monotonic() - silent_since > SILENT_SECONDS:
                told = True
                warn(f"the coordinator of {run.id} has not answered for {SILENT_SECONDS:.0f} s: see `wonder logs {run.id}`")
    _settle(run, record)
    return Followed(record)


def needs_of(run: Watched, snapshot: Standing, find: Callable[[str], Watched] | None = None) -> tuple[list[Need], bool]:
    """What a run and the runs below it wait for, and whether nothing is under way in any of them."""
    still = snapshot.status in STILL and not snapshot.in_flight
    needs: list[Need] = []
    for wait in snapshot.waiting:
        if wait.kind != "child" or find is None or not still:
            needs.append(Need(run.id, wait))
            still = still and wait.kind != "child"
            continue
        child, below = _child(find, str(wait.name))
        needs.append(Need(run.id, wait, None if below is None else below.status))
        if child is None or below is None:  # it is about to begin, or its end about to be told
            still = False
            continue
        more, is_still = needs_of(child, below, find)
        needs += more
        still = still and is_still
    return needs[:NEEDS_MAX], still


def _child(find: Callable[[str], Watched], run_id: str) -> tuple[Watched | None, Standing | None]:
    try:
        child = find(run_id)
    except RunNotFoundError:
        return None, None
    return child, child.status()


def _needs_somebody(needs: Iterable[Need]) -> bool:
    """Whether somebody has to do something, and no timer goes off soon."""
    soon_us = SystemClock().now_us() + SOON_US
    waits = [need.wait for need in needs]
    timers = [wait for wait in waits if wait.kind == "timer" and (wait.deadline_us or 0) <= soon_us]
    return not timers and any(wait.kind in ACTIONABLE for wait in waits)


def _settle(run: Watched, record: RunRecord) -> None:
    """The end is reported before the last events are acknowledged: wait for these."""
    last = record.events or 0
    deadline = time.monotonic() + SETTLE_SECONDS
    while last and next(iter(run.events(after=last - 1)), None) is None:
        if time.monotonic() > deadline:
            warn(f"the event service has not got all events of {run.id} yet; they are in the run's file, and will follow")
            return
        time.sleep(POLL_SECONDS)


def result_json(record: RunRecord, storage: str) -> dict[str, Any]:
    """What `--json` ends with."""
    return {
        "run_id": record.run_id,
        "status": str(record.status),
        "output": None if record.output is None else decode(record.output),
        "error": None if record.error is None else decode(record.error),
        "tokens": record.tokens,
        "events": record.events,
        "duration_ms": record.duration_ms,
        "storage": storage,
    }


def tell(
    record: RunRecord,
    storage: str,
    *,
    json: bool,
    hint: str = "",
    needs: Sequence[Need] = (),
    reply: Mapping[str, Any] | None = None,
) -> None:
    """The summary of a run that has ended (or waits, or was only started), or its line of JSON; on stdout.

    `reply` is what it has answered to a command before: its fields stand in the JSON, too.
    """
    found = {**(reply or {}), **result_json(record, storage)}
    if json:
        waits = [{"run_id": need.run_id} | msgspec.structs.asdict(need.wait) for need in needs]
        print_json(found | {"waiting": waits} if waits else found)
        return
    tell_result(found, hint=hint)
    for need in needs:
        for text in need_lines(need, needs, hint=hint, now_us=SystemClock().now_us()):
            typer.echo(f"  {text}")


def tell_result(found: dict[str, Any], *, hint: str = "") -> None:
    """The summary, of what `--json` would have ended with."""
    took = "" if found["duration_ms"] is None else f" in {duration(found['duration_ms'])}"
    typer.echo(f"run {found['run_id']} {found['status']}{took}")
    if found["error"] is not None:
        typer.echo(f"  error    {error_text(found['error'])}")
    elif found["status"] in TERMINAL_RUN:
        typer.echo(f"  output   {short(found['output'], 400)}")
    typer.echo(f"  tokens   {found['tokens'] or 0}, events {found['events'] or 0}")
    typer.echo(f"  storage  {found['storage']}")
    typer.echo(f"  look     wonder show | events | logs {found['run_id']}{hint}")
