"""`wonder runs`, `show`, `state`, `query`: how runs stand, from the storage folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wonder_ray.cli.options import AsJson, JsonLines, Ref, Storage
from wonder_ray.cli.output import duration, print_json, safe, short, when
from wonder_ray.cli.reaching import open_reader

if TYPE_CHECKING:
    from wonder_ray.reading import Reader


NODES_MAX: Final = 40
WAITS_MAX: Final = 20
CHILDREN_MAX: Final = 5


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(runs)
    app.command()(show)
    app.command()(state)
    app.command()(query)


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
    rows = _reader(storage).coordinated(status=status, workflow=workflow, limit=limit)
    if json:
        for record, alive in rows:
            print_json(_summary(record) | {"coordinator_alive": alive})
        return
    if not rows:
        typer.echo("no runs" if status is None and workflow is None else "no such runs")
    for record, alive in rows:
        mark = "" if alive or record.ended or record.status == "queued" else "  (no coordinator)"
        took = duration(record.duration_ms)
        line = f"{record.run_id}  {record.status:<10}  {when(record.created_us)}  {took:>10}  {safe(record.workflow_name)}{mark}"
        typer.echo(line)


def show(run: Ref, json: AsJson = False, storage: Storage = None) -> None:
    """Show how a run stands: its record, its nodes and tokens, what it waits for (and what to type), its output or error."""
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
    _tell_waiting(found, storage)


def _tell_waiting(found: dict[str, Any], storage: Any) -> None:
    from wonder_ray.cli.carrying import storage_hint
    from wonder_ray.cli.waits import Need, need_lines
    from wonder_ray.planning.queries import Waiting

    children = {child["run_id"]: child["status"] for child in found["children"]}
    needs = [Need(found["run_id"], Waiting(**wait), children.get(wait["name"])) for wait in found["waiting"]]
    for need in needs[:WAITS_MAX]:
        for text in need_lines(need, needs, hint=storage_hint(storage)):
            typer.echo(f"  {text}")
    if len(needs) > WAITS_MAX:
        typer.echo(f"  ... and more: wonder gates {found['run_id']}")


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
        arrived = f"{group['arrived']} of {group['size']} arrived"
        typer.echo(f"  group {safe(group['name'])}  {group['status']}  {arrived}  ({group['id']})")
    for kept in found["kept"][:NODES_MAX]:
        typer.echo(f"  kept {kept['kind']} for {safe(kept['name'])}: {short(kept['payload'])}")
    for child in found["children"][:NODES_MAX]:
        typer.echo(f"  child {child['id']}  {safe(child['workflow'])}")
    for undo in found["undos"][-NODES_MAX:]:
        typer.echo(f"  can be taken back: {safe(undo['node_id'])}  {short(undo['input'])}")


def query(
    run: Ref,
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A CEL expression over input, state, output and run.")],
    json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Print the value of an expression over a run's state, as JSON; nothing is changed.

    Of a live run it is the state as far as the event service has acknowledged it (--json tells after which event).
    """
    value, sequence = _reader(storage).query(run, expression)
    print_json({"value": value, "after": sequence} if json else value)


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
    lines += _lineage(found)
    if found["labels"]:
        lines.append(("labels", safe(", ".join(f"{name}={value}" for name, value in found["labels"].items()))))
    if coordinator is not None:
        place = "" if coordinator["pid"] is None else f"pid {coordinator['pid']}, "
        lines.append(("coordinator", f"{place}epoch {coordinator['epoch']}"))
    elif found["ended_us"] is None and found["status"] != "queued":
        lines.append(("coordinator", f"none: `wonder resume {found['run_id']}` goes on with it"))
    if found["error"] is not None:
        lines.append(("error", error_text(found["error"])))
    elif found["ended_us"] is not None:
        lines.append(("output", short(found["output"])))
    return lines


def _lineage(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a run comes from, what came of it, and what its end waits for."""
    lines: list[tuple[str, str]] = []
    if found["fork"] is not None:
        changed = f", with {short(found['fork']['changes'])}" if found["fork"].get("changes") else ""
        lines.append(("forked from", f"{found['fork']['run_id']} after event {found['fork']['sequence']}{changed}"))
    if found["parent_run_id"] is not None:
        lines.append(("parent", found["parent_run_id"]))
    children = found["children"]
    if children:
        some = ", ".join(f"{child['run_id']} ({child['status']})" for child in children[:CHILDREN_MAX])
        lines.append(("children", f"{len(children)}: {some}{', ...' if len(children) > CHILDREN_MAX else ''}"))
    ending = found.get("ending")
    if ending is not None and found["ended_us"] is None:
        left = f", {found['undos']} nodes to take back" if found["status"] == "compensating" else ""
        lines.append(("will end", f"{ending['status']}{left}"))
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
    return open_reader(storage)
