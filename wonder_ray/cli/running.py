"""`wonder run` and `wonder resume`: carry a run out, watch it, and end as it ends."""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wonder_ray.addresses import check_reachable
from wonder_ray.cli.options import Address, Detach, Flow, Input, Key, Labels, LastLineJson, Ref, Storage, Trace, WorkflowName
from wonder_ray.cli.output import warn
from wonder_ray.errors import InputError, WonderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.client import Client, Run
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.resources.records import RunRecord

RAY_ADDRESS: Final = "RAY_ADDRESS"
RAY_AUTH_MODE: Final = "RAY_AUTH_MODE"
INTERRUPTED: Final = 130
COMPLETED: Final = "completed"


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
) -> None:
    """Run a workflow to its end, showing how it goes on.

    Exit code 0 when the run completed, 1 when it ended otherwise, 2 when it could not be started. Ctrl-C leaves a run that
    `wonder resume` goes on with, and gives 130.
    """
    from wonder_ray.cli.flows import load_flow, parse_input, parse_labels, parse_object
    from wonder_ray.resources.schema import InputSchema
    from wonder_ray.storage.layout import Layout

    _refuse_lonely_detach(address, detach=detach)
    value, labels, environment = parse_input(input_), parse_labels(label or []), parse_object("--runtime-env", runtime_env)
    loaded = load_flow(file, name)
    definition = loaded.definition
    if input_ is None and definition.input is None and _reads_input(definition):
        raise InputError(f"workflow {definition.name!r} reads its input, and none is given: --input JSON, @file, or - for stdin")
    InputSchema.of(definition.name, definition.input).check(value)  # before anything is started
    check_reachable(address or os.environ.get(RAY_ADDRESS))
    flow = loaded.startable(Layout(storage).prepare().root)

    def begin(client: Client) -> Run:
        return client.start(flow, value, key=key, trace=trace, labels=labels, runtime_env=environment)

    carry_out(begin, address=address, storage=storage, json=json, detach=detach)


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
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Go on with a run that was interrupted, and watch it to its end; of one that has ended, tell how.

    Exit codes as of `wonder run`.
    """
    from wonder_ray.cli.following import tell
    from wonder_ray.reading import Reader

    reader = Reader(storage)
    record = reader.record(run)
    if reader.is_settled(record):
        tell(record, str(reader.layout.root), json=json, hint=storage_hint(storage))
        raise typer.Exit(_exit_code(record))
    address = address or live_address(reader, record.run_id)
    _refuse_lonely_detach(address, detach=detach)

    def begin(client: Client) -> Run:
        found = client.run(record.run_id)
        found.resume()
        return found

    carry_out(begin, address=address, storage=storage, json=json, detach=detach)


def carry_out(
    begin: Callable[[Client], Run], *, address: str | None, storage: Path | None, json: bool, detach: bool = False
) -> None:
    """Connect, begin, watch, tell; ends the command with the run's exit code.

    The last line is printed after the client is closed, so that nothing Ray says comes after it.
    """
    from wonder_ray.cli.following import follow, tell

    run_id = ""
    try:
        # Ray prints what it has to say of dying workers to stdout, which is for the result alone.
        with redirect_stdout(sys.stderr), connected(address, storage) as client:
            run = begin(client)
            run_id = run.id
            typer.echo(f"run {run_id}", err=True)
            record = run.record() if detach else follow(run)
            if not detach:
                flush(client)
            root = str(client.storage.root)
    except KeyboardInterrupt:
        go_on = f"go on with: wonder resume {run_id}{storage_hint(storage)}" if run_id else "see `wonder runs`"
        typer.echo(f"\nwonder: interrupted; nothing committed is lost; {go_on}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        if run_id:
            warn(f"run {run_id} was started, and can no longer be watched: wonder resume {run_id}{storage_hint(storage)}")
        raise
    tell(record, root, json=json, hint=storage_hint(storage))
    raise typer.Exit(0 if detach else _exit_code(record))


def connected(address: str | None, storage: Path | None) -> Client:
    """A client; importing and starting Ray takes seconds, so it is said."""
    where = address or os.environ.get(RAY_ADDRESS)
    typer.echo(f"connecting to Ray at {where} ..." if where else "starting a local Ray ...", err=True)
    if where:
        send_token_at_hand()
    from wonder_ray.client import connect

    try:
        return connect(address, storage=storage)
    except (ConnectionError, TimeoutError) as error:
        said = str(error).strip().splitlines()
        raise WonderError(said[0] if said else f"no Ray at {where or 'this machine'}: {error}") from error


def send_token_at_hand() -> None:
    """Let Ray send the token that there is, as `ray start` decides; a client would not otherwise. Before Ray is imported."""
    if token_at_hand():
        os.environ.setdefault(RAY_AUTH_MODE, "token")


def token_at_hand() -> bool:
    """Whether this user has a token for Ray."""
    named = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def flush(client: Client) -> None:
    """See to it that all events are in Parquet files."""
    try:
        client.flush()
    except (WonderError, TimeoutError) as error:
        warn(f"the events are safe, but not all of them are in Parquet files yet: {error}")


def live_address(reader: object, run_id: str) -> str | None:
    """Where the Ray is that a live coordinator on this host belongs to; None when there is none."""
    from wonder_ray.reading import Reader
    from wonder_ray.storage.lock import read_holder

    assert isinstance(reader, Reader)
    holder = read_holder(reader.layout.lock_file(run_id))
    return None if holder is None else str(holder.get("address") or "auto")


def storage_hint(storage: Path | None) -> str:
    """What a suggested command needs to find this storage."""
    if storage is None or os.environ.get("WONDER_STORAGE") == str(storage):
        return ""
    return f" --storage {shlex.quote(str(storage))}"


def _exit_code(record: RunRecord) -> int:
    return 0 if record.status == COMPLETED else 1


def _refuse_lonely_detach(address: str | None, *, detach: bool) -> None:
    if detach and address is None and RAY_ADDRESS not in os.environ:
        raise WonderError("--detach: a local Ray ends with this command; give a cluster: --address, or RAY_ADDRESS")
