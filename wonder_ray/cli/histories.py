"""`wonder events`, `wonder trace` and `wonder replay`: what happened in a run, from the storage folder or over HTTP."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, runtime_checkable

import msgspec
import typer

from wonder_ray.cli.options import AsJson, JsonLines, Ref, Storage
from wonder_ray.cli.output import duration, print_json, safe, short, when
from wonder_ray.cli.reaching import open_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.events.query import EventRow
    from wonder_ray.reading import Reader
    from wonder_ray.replay import Replay

FOLLOW_SECONDS: Final = 0.5
"""How often `--follow` looks: services on other machines write to the folder, too, so nothing tells that there is more."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(events)
    app.command()(trace)
    app.command()(replay)


@runtime_checkable
class Following(Protocol):
    """A reader that is told of new events, and does not look for them."""

    def follow(self, ref: str, after: int = 0) -> Iterator[EventRow]:
        """A run's events, and new ones as they come, until it has ended."""


def events(
    run: Ref,
    json: JsonLines = False,
    after: Annotated[int, typer.Option("--after", metavar="N", help="Only events after sequence number N.", min=0)] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come, until the run has ended.")] = False,
    type_: Annotated[
        str, typer.Option("--type", metavar="PREFIX", help="Only types that begin so: 'task.', 'token.failed'.")
    ] = "",
    storage: Storage = None,
) -> None:
    """Print a run's workflow events, in sequence."""
    reader = open_reader(storage)
    followed = reader.follow if isinstance(reader, Following) else partial(_followed, reader)
    for row in followed(run, after) if follow else reader.events(run, after):
        if not row.event_type.startswith(type_):
            continue
        if json:
            print_json(row.as_dict() | {"metadata": row.details})
        else:
            typer.echo(_line(row))


def trace(
    run: Ref,
    json: JsonLines = False,
    after: Annotated[int, typer.Option("--after", metavar="N", help="Only trace events after sequence number N.", min=0)] = 0,
    storage: Storage = None,
) -> None:
    """Print a run's trace events (what was decided, and how long it took), in sequence; `wonder run --trace` records them."""
    from wonder_ray.cli.output import warn

    reader = open_reader(storage)
    rows = reader.traces(run, after)
    for row in rows:
        if json:
            print_json(row.as_dict() | {"payload": row.details})
            continue
        took = "" if row.duration_ms is None else f"  {duration(row.duration_ms)}"
        details = f"  {short(row.details, 160)}" if row.payload else ""
        typer.echo(
            f"{row.sequence_number:>7}  {when(row.timestamp)}  {row.event_type:<32}  {safe(row.node_id or '')}{took}{details}"
        )
    if not rows and not after and not reader.record(run).trace:
        warn("this run was started without --trace: it has no trace events")


def replay(run: Ref, json: AsJson = False, storage: Storage = None) -> None:
    """Replay a run: its recorded facts, told to the planners of this version, must yield its recorded events.

    Its stored state must be what its events fold to. Exit code 1 when something comes out differently: then a run like it may not
    go on as it began after an upgrade (or its records were changed).
    """
    found = open_reader(storage).replay(run)
    if json:
        print_json({"equal": found.equal} | msgspec.to_builtins(found))
    else:
        _print_replay(found)
    raise typer.Exit(0 if found.equal else 1)


def _print_replay(found: Replay) -> None:
    if found.equal:
        state = "its state is not stored here" if found.state is None else "its state is what they fold to"
        typer.echo(f"{found.run_id}: {found.events} events of {found.turns} turns come out as recorded; {state}")
        return
    if found.differences:
        first = found.differences[0]
        more = f"; {len(found.differences)} turns differ in all" if len(found.differences) > 1 else ""
        typer.echo(f"{found.run_id}: event {first.sequence_number} (turn {first.turn}) comes out differently{more}")
        typer.echo(f"  recorded  {_row_text(first.recorded)}")
        typer.echo(f"  replayed  {_row_text(first.replayed)}")
        if first.error:
            typer.echo(f"  raised    {safe(first.error, 500)}")
    for place in found.state or ():
        typer.echo(f"{found.run_id}: {safe(place, 500)}")


def _row_text(row: dict[str, Any] | None) -> str:
    if row is None:
        return "nothing more in this turn"
    rest = {name: value for name, value in row.items() if name not in {"event_type", "sequence_number", "turn", "turn_now"}}
    return f"{row['event_type']}  {short(rest, 600)}"


def _followed(reader: Reader, run: str, after: int) -> Iterator[EventRow]:
    """The events, and new ones as they come, until the run's terminal event."""
    from wonder_ray.workflow_events import TERMINAL_EVENTS

    run = reader.record(run).run_id  # 'latest' may be another one later
    while True:
        for row in reader.events(run, after):
            yield row
            after = row.sequence_number
            if row.event_type in TERMINAL_EVENTS:
                return
        record = reader.record(run)
        if record.ended and record.events is not None and after >= record.events:
            return
        time.sleep(FOLLOW_SECONDS)


def _line(row: EventRow) -> str:
    where = row.node_id or ""
    if row.path_id and row.path_id != "root":
        where += f" [{row.path_id}]"
    return f"{row.sequence_number:>7}  {when(row.timestamp)}  {row.event_type:<24}  {safe(where, 48):<24}  {_details(row)}"


def _details(row: EventRow) -> str:
    said: list[str] = []
    if row.attempt is not None:
        said.append(f"attempt {row.attempt}")
    if row.duration_ms is not None:
        said.append(duration(row.duration_ms))
    if row.message:
        said.append(safe(row.message, 200))
    elif details := _without_empty(row.details):
        said.append(short(details, 160))
    return "  ".join(said)


def _without_empty(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value not in (None, "", [], {})}
