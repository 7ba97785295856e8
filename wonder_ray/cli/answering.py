"""`wonder gates`, `answer`, `signal`: what runs wait for of people and other systems, and giving it to them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from wonder_ray.cli.carrying import Where, deliver, storage_hint
from wonder_ray.cli.options import Address, CommandKey, Follow, JsonLines, LastLineJson, Ref, Storage
from wonder_ray.cli.output import print_json
from wonder_ray.cli.reaching import open_reader


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(gates)
    app.command()(answer)
    app.command()(signal)


def gates(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Only of this run and the runs below it. [default: all that have not ended]"),
    ] = None,
    json: JsonLines = False,
    storage: Storage = None,
) -> None:
    """List what runs wait for of somebody: gates, signals, open groups; each with the command to type."""
    from wonder_ray.cli.waits import ACTIONABLE, Need, need_lines
    from wonder_ray.clock import SystemClock

    reader = open_reader(storage)
    roots = [run] if run is not None else [record.run_id for record in reader.unfinished() if record.parent_run_id is None]
    found = [each for root in roots for each in reader.waiting(root) if each[1].kind in ACTIONABLE]
    if json:
        for record, wait in found:
            print_json({"run_id": record.run_id, "workflow_name": record.workflow_name} | msgspec.structs.asdict(wait))
        return
    if not found:
        typer.echo("nothing waits for anybody")
    needs = [Need(record.run_id, wait) for record, wait in found]
    for (record, _), need in zip(found, needs, strict=True):
        said, *commands = need_lines(need, needs, hint=storage_hint(storage), now_us=SystemClock().now_us())
        typer.echo(f"{record.run_id}  {record.workflow_name}: {said}")
        for command in commands:
            typer.echo(command)


def answer(
    run: Ref,
    gate: Annotated[
        str,
        typer.Argument(metavar="GATE", help="The gate's node; where several are open there, its token (see `wonder gates`)."),
    ],
    value: Annotated[str, typer.Argument(metavar="JSON", help="The answer: JSON, @file, or - for stdin.")],
    *,
    by: Annotated[str | None, typer.Option(metavar="WHO", help="Who answers; it is in the run's events.")] = None,
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Answer a gate. Where the run has no coordinator, a local Ray is started, and carries it on to its end or its next wait.

    Exit code 0 when the answer was taken (or is kept for a gate that is yet to open), 1 when the gate's schema refused it (the
    gate asks again) or the run was followed to a bad end, 2 when there is no such gate.
    """
    from wonder_ray.cli.flows import parse_value

    given = parse_value("the answer", value, """'"yes"'""")
    where = Where(address, storage, json)
    deliver(run, lambda found: found.answer(gate, given, by=by, key=key), where, key=key, follow=follow)


def signal(
    run: Ref,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    *,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="What it brings: JSON, @file, or - for stdin. [default: null]")
    ] = None,
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Send a signal to a run; who has waited longest for it gets it, else it is kept. Else as `wonder answer`."""
    from wonder_ray.cli.flows import parse_value

    given = None if payload is None else parse_value("--payload", payload, """--payload '{"id": 7}'""")
    where = Where(address, storage, json)
    deliver(run, lambda found: found.signal(name, given, key=key), where, key=key, follow=follow)
