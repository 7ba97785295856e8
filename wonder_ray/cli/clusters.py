"""`wonder up`, `status` and `down`: the services of a running cluster."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wonder_ray.cli.carrying import RAY_ADDRESS, send_token_at_hand
from wonder_ray.cli.options import AsJson, Storage
from wonder_ray.cli.output import counted, print_json, safe, when
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator

Cluster = Annotated[
    str | None,
    typer.Option("--address", metavar="A", help="The Ray cluster: 'auto', 'host:port'. [default: RAY_ADDRESS, else auto]"),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(up)
    app.command()(status)
    app.command()(down)


def up(json: AsJson = False, address: Cluster = None, storage: Storage = None) -> None:
    """Make the services on a running cluster ahead of time, on the node where this is run; those that are there stay."""
    from wonder_ray.cluster import up as make

    with attached(address) as where:
        found = make(where, storage=storage)
    _tell(found, json=json)


def status(json: AsJson = False, address: Cluster = None) -> None:
    """Show each service of a cluster (process, node, epoch, health), its HTTP API, live runs. Exit code 1 unless all are well."""
    from wonder_ray.cluster import status as look

    with attached(address) as where:
        found = look(where)
    _tell(found, json=json)
    raise typer.Exit(int(not found["up"]))


def down(
    force: Annotated[
        bool, typer.Option("--force", help="Interrupt live runs, too: they go on after the next `wonder up`.")
    ] = False,
    json: AsJson = False,
    address: Cluster = None,
) -> None:
    """End the services of a cluster (and its HTTP API), once all events and logs are in files; refused while runs are live."""
    from wonder_ray.cluster import down as end

    with attached(address) as where:
        found = end(where, force=force)
    if json:
        print_json(found)
        return
    typer.echo(f"ended {', '.join(found['ended'])}" if found["ended"] else "no service was up")
    for run_id in found["interrupted"]:
        typer.echo(f"  interrupted {run_id}")


@contextmanager
def attached(address: str | None) -> Iterator[str]:
    """Its address, with the token set that there is; Ray's own output goes to stderr, its errors become ours."""
    where = address or os.environ.get(RAY_ADDRESS) or "auto"
    send_token_at_hand()
    try:
        with redirect_stdout(sys.stderr):
            yield where
    except (ConnectionError, TimeoutError) as error:
        said = str(error).strip().splitlines()
        raise WonderError(said[0] if said else f"no Ray at {where}: {error}") from error


def _tell(found: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    typer.echo(f"cluster {found['address']}, storage {found['storage'] or '-'}")
    for each in found["services"]:
        where = f"pid {each['pid']} on {each['host']}, node {str(each['node'])[:8]}, epoch {each['epoch']}"
        since = f"since {when(each['since_us'])}"
        typer.echo(f"  {each['service']:<10} {safe(each['health'], 100)}{f'  {where}, {since}' if each['pid'] else ''}")
    if found["http"] is not None:
        http = found["http"]
        typer.echo(f"  {'http':<10} {safe(http['health'], 100)}  {http['url']}, {counted(http['replicas'], 'replica')}")
    if found["live_runs"] is None:
        typer.echo("  live runs: unknown, the registry does not tell")
    else:
        typer.echo(f"  {counted(len(found['live_runs']), 'live run')}")
    for run in found["live_runs"] or ():
        mark = "" if run["coordinator"] else "  (no coordinator)"
        typer.echo(f"    {run['run_id']}  {run['status']:<10}  {safe(run['workflow_name'])}{mark}")
