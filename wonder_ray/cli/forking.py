"""`wonder fork` and `restart-from`: begin a new run from the state of another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wonder_ray.cli.carrying import Begun, Where, carry_out, check_ray, live_address, refuse_lonely_detach
from wonder_ray.cli.options import (
    Address,
    Changes,
    Detach,
    Key,
    Labels,
    LastLineJson,
    Ref,
    Storage,
    UntilWait,
    WorkflowName,
)
from wonder_ray.cli.reaching import code_folder, open_reader

if TYPE_CHECKING:
    from wonder_ray.client import Client, Run

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The workflow as it is now, such as with mended code. [default: as it was]"),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(fork)
    app.command("restart-from")(restart_from)


def fork(
    run: Ref,
    *,
    at: Annotated[
        int | None,
        typer.Option(
            "--at",
            metavar="N",
            help="After event N (and its turn). [default: before the run's end was decided]",
            min=1,
        ),
    ] = None,
    set_: Changes = None,
    file: File = None,
    name: WorkflowName = None,
    key: Key = None,
    label: Labels = None,
    detach: Detach = False,
    until_wait: UntilWait = False,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Start a new run from a run's state at some event, and watch it: what had ended by then is not done again.

    What was under way is made anew. Exit codes as of `wonder run`.
    """
    where = Where(address, storage, json)

    def begin(found: Run, **how: Any) -> Run:
        return found.fork(at, **how)

    _begin_again(run, begin, where, set_=set_, file=file, name=name, key=key, label=label, detach=detach, until_wait=until_wait)


def restart_from(
    run: Ref,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node to do again, and all that comes after it.")],
    *,
    set_: Changes = None,
    file: File = None,
    name: WorkflowName = None,
    key: Key = None,
    label: Labels = None,
    detach: Detach = False,
    until_wait: UntilWait = False,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Start a new run from a run's state when a node was last begun, and watch it; else as `wonder fork`."""
    where = Where(address, storage, json)

    def begin(found: Run, **how: Any) -> Run:
        return found.restart_from(node, **how)

    _begin_again(run, begin, where, set_=set_, file=file, name=name, key=key, label=label, detach=detach, until_wait=until_wait)


def _begin_again(
    ref: str,
    begin_from: Callable[..., Run],
    where: Where,
    *,
    set_: list[str] | None,
    file: Path | None,
    name: str | None,
    key: str | None,
    label: list[str] | None,
    detach: bool,
    until_wait: bool,
) -> None:
    from wonder_ray.cli.flows import load_flow, parse_changes, parse_labels

    reader = open_reader(where.storage)
    record = reader.record(ref)
    changes = parse_changes("--set", set_ or [])
    labels = None if label is None else parse_labels(label)
    where = where._replace(address=where.address or live_address(reader, record.run_id))
    refuse_lonely_detach(where, detach=detach)
    check_ray(where.address)
    with code_folder(where.storage) as root:
        flow = None if file is None else load_flow(file, name).startable(root)

        def begin(client: Client) -> Begun:
            source = client.run(record.run_id)
            return Begun(begin_from(source, set=changes, flow=flow, key=key, labels=labels))

        carry_out(begin, where, watched=not detach, until_wait=until_wait)
