"""`wonder runs`, `show`, `state`: how runs stand, from the storage folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wonder_ray.cli.options import AsJson, JsonLines, Ref, Storage
from wonder_ray.cli.output import duration, print_json, safe, short, when

if TYPE_CHECKING:
    from wonder_ray.reading import Reader


NODES_MAX: Final = 40


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(runs)
    app.command()(show)
    app.command()(state)


def runs(
    status: Annotated[str | None, typer.Option(help="Only runs in this status: queued, running, completed, failed, ...")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of the workflow of this name.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    json: JsonLines = False,
    storage: Storage = None,
) -> None:
    """List runs, newest first.

    A run that has not ended is marked 'no coordinator' when nothing works on it (`wonder resume RUN` goes on with it).
    """
    reader = _reader(storage)
    found = reader.runs(status=status, workflow=workflow, limit=limit)
    rows = []
    for record in found:
        alive = None if record.ended else reader.coordinator(record.run_id) is not None
        rows.append((record, alive))
    if json:
        for record, alive in rows:
            print_json(_summary(record) | {"coordinator_alive": bool(alive)})
        return
    if not rows:
        typer.echo("no runs" if status is None and workflow is None else "no such runs")
    for record, alive in rows:
        mark = "" if alive is not False or record.status == "queued" else "  (no coordinator)"
        took = duration(record.duration_ms)
        line = f"{record.run_id}  {record.status:<10}  {when(record.created_us)}  {took:>10}  {safe(record.workflow_name)}{mark}"
        typer.echo(line)


def show(run: Ref, json: AsJson = False, storage: Storage = None) -> None:
    """Show how a run stands: its record, its nodes and tokens, its output or error."""
    found = _reader(storage).show(run)
    if json:
        print_json(found)
        return
    for name, value in _told(found):
        typer.echo(f"{name:<12}{value}")
    nodes = list(found["nodes"].items())
    for node, counts in nodes[:NODES_MAX]:
        said = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
        typer.echo(f"  {safe(node):<24}  {said}")
    if len(nodes) > NODES_MAX:
        typer.echo(f"  ... and {len(nodes) - NODES_MAX} more nodes (--json has all)")


def state(
    run: Ref,
    at: Annotated[
        int | None, typer.Option("--at", metavar="N", help="At the end of the turn that holds event N. [default: now]", min=1)
    ] = None,
    json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Show a run's state, now or at any event of its history: its context, live tokens and open groups."""
    found = _reader(storage).state(run, at)
    if json:
        print_json(found)
        return
    head = found["run"]
    typer.echo(f"{head['run_id']}  {head['status']}  after event {head['sequence']}, turn {head['turn']}")
    for name in ("state", "output"):
        for key, value in found[name].items():
            typer.echo(f"  {name}.{safe(key)} = {short(value)}")
    for token in found["tokens"][:NODES_MAX]:
        typer.echo(f"  token {token['id']}  {token['status']:<20}  {safe(token['node_id'])}  {safe(token['path_id'])}")
    if len(found["tokens"]) > NODES_MAX:
        typer.echo(f"  ... and {len(found['tokens']) - NODES_MAX} more live tokens (--json has all)")
    for group in found["groups"][:NODES_MAX]:
        typer.echo(f"  group {safe(group['name'])}  {group['status']}  {group['arrived']} of {group['size']} arrived")


def _told(found: dict[str, Any]) -> list[tuple[str, str]]:
    coordinator = found["coordinator"]
    lines = [
        ("run", found["run_id"]),
        ("workflow", f"{safe(found['workflow_name'])}  (version {found['workflow_version'][:12]})"),
        ("status", found["status"]),
        ("started", when(found["started_us"])),
        ("took", duration(found["duration_ms"])),
        ("tokens", str(found["tokens"] or 0)),
        ("events", str(found["events"] or 0)),
        ("input", short(found["input"])),
    ]
    if found["key"] is not None:
        lines.append(("key", safe(found["key"])))
    if found["labels"]:
        lines.append(("labels", safe(", ".join(f"{name}={value}" for name, value in found["labels"].items()))))
    if coordinator is not None:
        lines.append(("coordinator", f"pid {coordinator['pid']}, epoch {coordinator['epoch']}"))
    elif found["ended_us"] is None and found["status"] != "queued":
        lines.append(("coordinator", f"none: `wonder resume {found['run_id']}` goes on with it"))
    if found["error"] is not None:
        lines.append(("error", error_text(found["error"])))
    elif found["ended_us"] is not None:
        lines.append(("output", short(found["output"])))
    return lines


def error_text(error: dict[str, Any]) -> str:
    """A run's error on one line."""
    node = f" (node {error['node_id']})" if error.get("node_id") else ""
    return safe(f"{error.get('type')}: {error.get('message')}{node}", 2_000)


def _summary(record: Any) -> dict[str, Any]:
    names = (
        "run_id", "status", "workflow_name", "workflow_version", "key", "labels",
        "created_us", "started_us", "ended_us", "duration_ms", "tokens", "events",
    )  # fmt: skip
    return {name: getattr(record, name) for name in names}


def _reader(storage: Any) -> Reader:
    from wonder_ray.reading import Reader

    return Reader(storage)
