"""`wonder sql` and `wonder report`: questions about all runs at once, of the Parquet files of a storage folder or over HTTP."""

from __future__ import annotations

import csv
import datetime as dt
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wonder_ray.analytics.reports import REPORTS
from wonder_ray.cli.options import JsonLines, Storage
from wonder_ray.cli.output import parse_time, print_json, warn
from wonder_ray.cli.reaching import remote_client, server
from wonder_ray.errors import StorageError, WonderError

if TYPE_CHECKING:
    from wonder_ray.analytics.events import Events
    from wonder_ray.analytics.result import Result

AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with a line of column names.")]
_NAMES = "; ".join(f"{name}: {told}" for name, told in REPORTS.items())


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(sql)
    app.command()(report)


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT; or its conditions on events: 'WHERE attempt > 1'.")],
    json: JsonLines = False,
    as_csv: AsCsv = False,
    storage: Storage = None,
) -> None:
    """Ask the event history in SQL (DuckDB): the views events, trace_events, runs, attempts and tokens.

    Queries only read, and only these views; `wonder sql "DESCRIBE attempts"` tells what is in one. With --server
    they take an API key for all workspaces.
    """
    _refuse_both(json=json, as_csv=as_csv)
    _print(_events(storage).sql(query), json=json, as_csv=as_csv)


def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAMES)],
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run: its id, its beginning, or 'latest'.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="FLOW", help="Only runs of the workflow of this name.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Only runs started since: 90s, 15m, 1h, 2d ago, or a time (UTC).")
    ] = None,
    json: JsonLines = False,
    as_csv: AsCsv = False,
    storage: Storage = None,
) -> None:
    """Print a ready report: cost, queue, retries, fanout or critical-path (of the latest run, unless --run names another)."""
    from wonder_ray.clock import SystemClock

    _refuse_both(json=json, as_csv=as_csv)
    now_us = SystemClock().now_us()
    began = None if since is None else dt.datetime.fromtimestamp(parse_time(since, now_us) / 1_000_000, dt.UTC)
    found = _events(storage).report(name, run=run, workflow=workflow, since=began)
    _print(found, json=json, as_csv=as_csv)
    if not found and not (json or as_csv):
        warn("there is nothing to report on")


def _refuse_both(*, json: bool, as_csv: bool) -> None:
    if json and as_csv:
        raise WonderError("--json and --csv: give one of them")


def _events(storage: Any) -> Events:
    if server() is not None:
        return remote_client().events
    from wonder_ray.events.query import EventReader
    from wonder_ray.reading import Reader

    reader = Reader(storage)
    if not reader.layout.events.is_dir():
        msg = f"there is no {reader.layout.events}: nothing was ever started there; is it the right storage folder?"
        raise StorageError(msg)
    rows = EventReader(reader.layout.root).unsealed()
    if rows:
        warn(f"{rows} events have been acknowledged but are not in files yet, and are left out")
    return reader.events


def _print(found: Result, *, json: bool, as_csv: bool) -> None:
    if json:
        for row in found.dicts():
            print_json(row)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([value.isoformat() if isinstance(value, dt.datetime) else value for value in row] for row in found)
    else:
        typer.echo(found.text(None))
