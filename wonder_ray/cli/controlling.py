"""What changes a run while it runs: `update`, `pause`, `cancel`, and the commands about its groups."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from wonder_ray.cli.carrying import Where, connected, deliver, flush, live_address, whole
from wonder_ray.cli.options import Address, CommandKey, Follow, Group, LastLineJson, Reason, Ref, Storage
from wonder_ray.cli.reaching import open_reader

CANCEL_SECONDS: Final = 60.0
"""How long to wait for the end: tasks that do not stop are killed after a grace period."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(update)
    app.command()(pause)
    app.command()(cancel)
    app.command("complete-group")(complete_group)
    app.command("close-group")(close_group)
    app.command("add-members")(add_members)


def update(
    run: Ref,
    changes: Annotated[list[str], typer.Argument(metavar="TARGET=JSON...", help="What is set to what, as state.limit=5.")],
    *,
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Change the state of a run: all of the changes, or (where they break the workflow's `state` schema) none."""
    from wonder_ray.cli.flows import parse_changes

    given = parse_changes("update", changes)
    where = Where(address, storage, json)
    deliver(run, lambda found: found.update(given, key=key), where, key=key, follow=follow)


def pause(
    run: Ref,
    *,
    reason: Reason = "",
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Let a run start nothing new; what is under way comes to its end. `wonder resume` lets it go on."""
    where = Where(address, storage, json)
    deliver(run, lambda found: found.pause(reason, key=key), where, key=key, follow=follow)


def complete_group(
    run: Ref,
    group: Group,
    *,
    reason: Reason = "",
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Let a group's join fire with what there is; the rest of the group is withdrawn."""
    where = Where(address, storage, json)
    deliver(run, lambda found: found.complete_group(group, reason=reason, key=key), where, key=key, follow=follow)


def close_group(
    run: Ref,
    group: Group,
    *,
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Let an open group take no more members: its join fires when those that it has have settled."""
    where = Where(address, storage, json)
    deliver(run, lambda found: found.close_group(group, key=key), where, key=key, follow=follow)


def add_members(
    run: Ref,
    group: Group,
    items: Annotated[list[str], typer.Argument(metavar="JSON...", help="An item per new member: JSON, @file, or - for stdin.")],
    *,
    key: CommandKey = None,
    follow: Follow = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Add members to an open group, one per item."""
    from wonder_ray.cli.flows import parse_value

    given = [parse_value("item", item, """'{"page": 7}'""") for item in items]
    where = Where(address, storage, json)
    deliver(run, lambda found: found.add_members(group, given, key=key), where, key=key, follow=follow)


def cancel(
    run: Ref,
    *,
    reason: Reason = "",
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Take back the work of completed nodes that have an undo, before the end.")
    ] = False,
    key: CommandKey = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Stop a run and the runs below it: what is running is interrupted, nothing new is begun.

    Exit code 0 when the run is (or was already) cancelled, 1 when it had ended otherwise.
    """
    from wonder_ray.cli.following import tell
    from wonder_ray.cli.output import warn

    reader = open_reader(storage)
    record = reader.record(run)
    where = Where(address or live_address(reader, record.run_id), storage, json)
    accepted = False
    if not record.ended:
        with connected(where.address, storage) as client:
            running = client.run(record.run_id)
            running.cancel(reason, compensate=compensate, key=key)
            accepted = True
            if where.is_local:
                whole(client, record, running)
            record = running.wait(CANCEL_SECONDS) or running.record()
            flush(client)
    if not record.ended:
        warn("the cancel is accepted and durable; the run still waits for something to stop, or for work to be taken back")
    elif record.status != "cancelled":
        warn(f"run {record.run_id} had already ended")
    tell(record, str(reader.layout.root), json=json, hint=where.hint)
    raise typer.Exit(0 if record.status == "cancelled" or (accepted and not record.ended) else 1)
