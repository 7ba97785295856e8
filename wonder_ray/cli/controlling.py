"""`wonder cancel`: what changes a run from outside."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from wonder_ray.cli.options import Address, LastLineJson, Ref, Storage

CANCEL_SECONDS: Final = 60.0
"""How long to wait for the end: tasks that do not stop are killed after a grace period."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(cancel)


def cancel(
    run: Ref,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the run's events.")] = "",
    key: Annotated[str | None, typer.Option(metavar="K", help="A repetition with the same key has no further effect.")] = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Stop a run: what is running is interrupted, nothing new is begun.

    Exit code 0 when the run is (or was already) cancelled, 1 when it had ended otherwise.
    """
    from wonder_ray.cli.following import tell
    from wonder_ray.cli.output import warn
    from wonder_ray.cli.running import connected, flush, live_address, storage_hint
    from wonder_ray.reading import Reader

    reader = Reader(storage)
    record = reader.record(run)
    root, accepted = str(reader.layout.root), False
    if not record.ended:
        with connected(address or live_address(reader, record.run_id), storage) as client:
            running = client.run(record.run_id)
            running.cancel(reason, key=key)
            accepted = True
            record = running.wait(CANCEL_SECONDS) or running.record()
            flush(client)
    if not record.ended:
        warn("the cancel is accepted and durable; the run still waits for something to stop")
    elif record.status != "cancelled":
        warn(f"run {record.run_id} had already ended")
    tell(record, root, json=json, hint=storage_hint(storage))
    raise typer.Exit(0 if record.status == "cancelled" or (accepted and not record.ended) else 1)
