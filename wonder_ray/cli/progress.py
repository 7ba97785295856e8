"""How a run goes on, drawn: `render` for terminals, `line` for everything else. Pure functions of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from wonder_ray.planning.queries import Waiting

ROWS_MAX: Final = 15
NAMED_MAX: Final = 3
MINUTE: Final = 60
DONE: Final = ("completed",)
RUNNING: Final = ("dispatched",)
FAILED: Final = ("failed", "timed_out")
CANCELLED: Final = ("cancelled",)
COMPENSATING: Final = "compensating"
"""All other token statuses are some sort of waiting."""


class Standing(Protocol):
    """What is drawn of a coordinator's snapshot."""

    @property
    def status(self) -> str:
        """Of the run."""

    @property
    def nodes(self) -> Mapping[str, Mapping[str, int]]:
        """Node -> token status -> tokens."""

    @property
    def in_flight(self) -> int:
        """Tasks under way."""

    @property
    def waiting(self) -> Sequence[Waiting]:
        """The first of what it waits for."""

    @property
    def undos(self) -> int:
        """Completed nodes whose work can be taken back."""


class Counts(NamedTuple):
    """Tokens by what a user wants to know of them."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def live(self) -> int:
        """Those that have not ended."""
        return self.waiting + self.running


def counts_of(statuses: Mapping[str, int]) -> Counts:
    """One node's counts.

    >>> counts_of({"pending": 2, "waiting_for_retry": 1, "dispatched": 4, "completed": 9, "timed_out": 1})
    Counts(waiting=3, running=4, done=9, failed=1, cancelled=0)
    """
    running, done, failed, cancelled = (
        sum(statuses.get(name, 0) for name in names) for names in (RUNNING, DONE, FAILED, CANCELLED)
    )
    return Counts(sum(statuses.values()) - running - done - failed - cancelled, running, done, failed, cancelled)


def add(counts: Iterable[Counts]) -> Counts:
    """The sum over nodes."""
    return Counts(*map(sum, zip(Counts(), *counts, strict=True)))


def render(snapshot: Standing, elapsed_s: float, *, rate: float | None = None, rows_max: int = ROWS_MAX) -> Table:
    """The table that a terminal shows while a run goes on.

    Args:
        snapshot: How the run stands.
        elapsed_s: Seconds since it was started (or since it is watched).
        rate: Tokens done per second; by default the mean over the elapsed time.
        rows_max: Nodes shown; of more, those with live tokens come first.
    """
    from rich import box
    from rich.table import Table

    nodes = {node: counts_of(statuses) for node, statuses in snapshot.nodes.items()}
    total = add(nodes.values())
    shown = _shown(nodes, rows_max)
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", pad_edge=False)
    table.title = f"{_status(snapshot)}  {_clock(elapsed_s)}  {_rate(total, elapsed_s, rate)}"
    table.add_column("node", overflow="ellipsis", no_wrap=True)
    for name in ("waiting", "running", "done", "failed"):
        table.add_column(name, justify="right", style="red" if name == "failed" else None)
    if total.cancelled:
        table.add_column("cancelled", justify="right")
    for node in shown:
        table.add_row(_plain(node), *_cells(nodes[node], cancelled=bool(total.cancelled)))
    if len(nodes) > 1:
        table.add_section()
        table.add_row(f"all {len(nodes)} nodes", *_cells(total, cancelled=bool(total.cancelled)))
    if len(shown) < len(nodes):
        table.caption = f"... and {len(nodes) - len(shown)} more nodes"
    return table


def line(snapshot: Standing, elapsed_s: float, *, rate: float | None = None) -> str:
    """The same on one line, for logs and pipes."""
    total = add(map(counts_of, snapshot.nodes.values()))
    return f"{_clock(elapsed_s):>8}  {standing(snapshot)}  {_rate(total, elapsed_s, rate)}"


def standing(snapshot: Standing) -> str:
    """What of a line is news: neither the time nor the rate."""
    nodes = {node: counts_of(statuses) for node, statuses in snapshot.nodes.items()}
    total = add(nodes.values())
    parts = [_status(snapshot), f"{total.done}/{total.total} done"]
    parts += [f"{count} {name}" for name, count in zip(Counts._fields, total, strict=True) if count and name != "done"]
    live = [node for node, counts in nodes.items() if counts.live]
    if live:
        more = f", ... ({len(live)} nodes)" if len(live) > NAMED_MAX else ""
        parts.append("at " + ", ".join(live[:NAMED_MAX]) + more)
    return "  ".join(parts)


def _status(snapshot: Standing) -> str:
    return f"{snapshot.status}, {snapshot.undos} to take back" if snapshot.status == COMPENSATING else snapshot.status


def _shown(nodes: Mapping[str, Counts], rows_max: int) -> list[str]:
    """Live ones, then failed ones, then the others; drawn in the order in which they were reached."""
    ranked = sorted(nodes, key=lambda node: (not nodes[node].live, not nodes[node].failed))
    chosen = set(ranked[:rows_max])
    return [node for node in nodes if node in chosen]


def _cells(counts: Counts, *, cancelled: bool) -> list[str]:
    values = [counts.waiting, counts.running, counts.done, counts.failed]
    return [str(value) if value else "-" for value in [*values, *([counts.cancelled] if cancelled else [])]]


def _plain(node: str) -> str:
    return node.replace("[", "\\[")


def _clock(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rate(total: Counts, elapsed_s: float, rate: float | None) -> str:
    if rate is None:
        rate = total.done / elapsed_s if elapsed_s > 0 else 0.0
    return f"{rate:.1f} tokens/s"
