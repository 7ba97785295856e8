"""`wonder logs`: what went wrong, and what user code printed, from the storage folder or over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wonder_ray.cli.options import JsonLines, Storage
from wonder_ray.cli.output import parse_time, print_json, safe, short, warn, when
from wonder_ray.cli.reaching import open_reader
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from wonder_ray.logs.record import LogLine


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(logs)


def logs(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only lines of this run: its id, its beginning, or 'latest'.")
    ] = None,
    *,
    run_option: Annotated[str | None, typer.Option("--run", metavar="RUN", help="The same as RUN.")] = None,
    service: Annotated[
        str | None, typer.Option(metavar="S", help="Only this service: coordinator, executor, resources, http, events, logs.")
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="L", help="This level or worse: debug, info, warning, error, critical; info by default, all with --json."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="T", help="Not older: 90s, 15m, 1h, 2d, or a time (UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="T", help="Older: as --since.")] = None,
    event_type: Annotated[
        str | None, typer.Option("--event-type", metavar="T", help="Only this type: db_query_slow, stdout, 'db_%'.")
    ] = None,
    node: Annotated[str | None, typer.Option(metavar="NODE", help="Only of this node.")] = None,
    text: Annotated[str | None, typer.Option(metavar="T", help="Contained in the message or the traceback.")] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="""A condition in SQL: "level = 'error' AND node_id = 'fetch'"."""),
    ] = None,
    limit: Annotated[int, typer.Option(help="The newest lines, so many at most.", min=1)] = 1_000,
    archive: Annotated[bool, typer.Option("--archive", help="Also lines that are so old that they are archived.")] = False,
    json: JsonLines = False,
    storage: Storage = None,
) -> None:
    """Print the newest lines of the operational log, oldest first."""
    from wonder_ray.clock import SystemClock

    if run is not None and run_option is not None and run != run_option:
        raise typer.BadParameter(f"two runs are given: {run!r} and {run_option!r}; give one")
    now_us = SystemClock().now_us()
    default_level = None if json or where is not None or event_type is not None else "info"
    filters: dict[str, Any] = {
        "service": _one_of("--service", service, _services()),
        "level": _one_of("--level", level, _levels()) or default_level,
        "since_us": None if since is None else parse_time(since, now_us),
        "until_us": None if until is None else parse_time(until, now_us),
        "event_type": event_type,
        "node_id": node,
        "text": text,
    }
    if where is not None:
        _refuse_beside_where(filters)
        filters = {name: filters[name] for name in ("since_us", "until_us")}
    reader = open_reader(storage)
    found = reader.logs(run if run is not None else run_option, where=where, limit=limit, archive=archive, **filters)
    if len(found) == limit and not json:
        warn(f"these are the newest {limit} lines; there may be older ones: --limit, --since, --until")
    for line in found:
        if json:
            print_json(_as_json(line))
        else:
            _print(line)
    for path, reason in reader.skipped.items():
        warn(f"{path} was left out: {reason}")


def _services() -> tuple[str, ...]:
    from wonder_ray.logs.record import SERVICES

    return SERVICES


def _levels() -> tuple[str, ...]:
    from wonder_ray.logs.record import LEVELS

    return LEVELS


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is None or value in known:
        return value
    raise WonderError(f"{option} {value!r}: it is one of {', '.join(known)}")


def _refuse_beside_where(filters: dict[str, Any]) -> None:
    said = [
        name.removesuffix("_id").replace("_", "-")
        for name in ("service", "level", "event_type", "node_id", "text")
        if filters[name] is not None
    ]
    if said:
        raise WonderError(
            f"--{said[0]} beside --where: say it in the condition (only RUN, --since, --until and --limit may stand beside)"
        )


def _as_json(line: LogLine) -> dict[str, Any]:
    import msgspec

    from wonder_ray.values import decode

    found: dict[str, Any] = msgspec.structs.asdict(line)
    found["metadata"] = None if line.metadata is None else decode(line.metadata)
    return found


def _print(line: LogLine) -> None:
    where = f"{line.service}{f'/{line.node_id}' if line.node_id else ''}"
    details = "" if line.metadata is None else f"  {short(_as_json(line)['metadata'], 200)}"
    run = "" if line.trace_id is None else f"  {line.trace_id}"
    typer.echo(
        f"{when(line.timestamp)}  {line.level:<8}  {safe(where):<20}  {line.event_type:<20}  {safe(line.message)}{details}{run}"
    )
    for part in (line.error_stack or "").splitlines():
        typer.echo(f"    {safe(part)}")
