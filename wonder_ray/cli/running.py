"""`wonder run` and `wonder resume`: carry a run out, watch it, and end as it ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from wonder_ray.cli.carrying import (
    COMPLETED,
    FAILED,
    Begun,
    Where,
    carry_out,
    check_ray,
    live_address,
    refuse_lonely_detach,
    storage_hint,
    whole,
)
from wonder_ray.cli.options import (
    Address,
    CommandKey,
    Detach,
    Flow,
    Input,
    Key,
    Labels,
    LastLineJson,
    Ref,
    Storage,
    Trace,
    UntilWait,
    WorkflowName,
)
from wonder_ray.cli.reaching import code_folder, open_reader
from wonder_ray.errors import InputError

if TYPE_CHECKING:
    from wonder_ray.client import Client
    from wonder_ray.definitions.models import WorkflowDefinition


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(run)
    app.command()(resume)


def run(
    file: Flow,
    *,
    input_: Input = None,
    json: LastLineJson = False,
    address: Address = None,
    storage: Storage = None,
    key: Key = None,
    trace: Trace = False,
    label: Labels = None,
    name: WorkflowName = None,
    runtime_env: Annotated[
        str | None, typer.Option("--runtime-env", metavar="JSON", help="Ray's runtime environment for tasks that have none.")
    ] = None,
    detach: Detach = False,
    until_wait: UntilWait = False,
) -> None:
    """Run a workflow to its end, showing how it goes on; what it waits for is told, with the command to type.

    Exit code 0 when the run completed (or, with --until-wait, waits), 1 when it ended otherwise, 2 when it could not be started.
    Ctrl-C leaves a run that `wonder resume` goes on with, and gives 130.
    """
    from wonder_ray.cli.flows import load_flow, parse_input, parse_labels, parse_object
    from wonder_ray.resources.schema import InputSchema

    where = Where(address, storage, json)
    refuse_lonely_detach(where, detach=detach)
    value, labels, environment = parse_input(input_), parse_labels(label or []), parse_object("--runtime-env", runtime_env)
    loaded = load_flow(file, name)
    definition = loaded.definition
    if input_ is None and definition.input is None and _reads_input(definition):
        raise InputError(f"workflow {definition.name!r} reads its input, and none is given: --input JSON, @file, or - for stdin")
    InputSchema.of(definition.name, definition.input).check(value)  # before anything is started
    check_ray(address)

    with code_folder(storage) as root:
        flow = loaded.startable(root)

        def begin(client: Client) -> Begun:
            return Begun(client.start(flow, value, key=key, trace=trace, labels=labels, runtime_env=environment))

        carry_out(begin, where, watched=not detach, until_wait=until_wait)


def _reads_input(definition: WorkflowDefinition) -> bool:
    """Whether a node that every run begins with takes a field out of the input, which fails when there is none."""
    targets = {transition.target for transition in definition.transitions}
    first = [node for node in definition.nodes if (node.id in definition.start) or not (definition.start or node.id in targets)]
    texts = [text for node in first for text in getattr(node, "input", {}).values()]
    return any(re.fullmatch(r"input\.[A-Za-z_]\w*", text) for text in texts)


def resume(
    run: Ref,
    json: LastLineJson = False,
    detach: Detach = False,
    until_wait: UntilWait = False,
    key: CommandKey = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Go on with a run that was interrupted or paused, and watch it to its end; of one that has ended, tell how.

    Exit codes as of `wonder run`.
    """
    from wonder_ray.cli.following import tell

    reader = open_reader(storage)
    record = reader.record(run)
    if reader.is_settled(record):
        tell(record, str(reader.layout.root), json=json, hint=storage_hint(storage))
        raise typer.Exit(0 if record.status == COMPLETED else FAILED)
    where = Where(address or live_address(reader, record.run_id), storage, json)
    refuse_lonely_detach(where, detach=detach)

    def begin(client: Client) -> Begun:
        found = client.run(record.run_id)
        found.resume(key=key)
        return Begun(whole(client, record, found) if where.is_local else found)

    carry_out(begin, where, watched=not detach, until_wait=until_wait)
