"""Reaching a run's coordinator, telling it something, watching what comes of it, and ending the command as that ends."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from wonder_ray.addresses import check_reachable
from wonder_ray.cli.output import print_json, warn
from wonder_ray.cli.reaching import open_reader, remote_client, server
from wonder_ray.errors import CommandRefusedError, WonderError

if TYPE_CHECKING:
    from wonder_ray.cli.following import Followed
    from wonder_ray.client import Client, Run
    from wonder_ray.reading import Reader
    from wonder_ray.resources.records import RunRecord

RAY_ADDRESS: Final = "RAY_ADDRESS"
RAY_AUTH_MODE: Final = "RAY_AUTH_MODE"
INTERRUPTED: Final = 130
FAILED: Final = 1
ORPHAN_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.1
COMPLETED: Final = "completed"


class Where(NamedTuple):
    """Where a run is carried out, and how its user is told."""

    address: str | None
    storage: Path | None
    json: bool

    @property
    def hint(self) -> str:
        """What a suggested command needs to find this storage."""
        return storage_hint(self.storage)

    @property
    def is_local(self) -> bool:
        """Whether a local Ray would be started, which ends with the command."""
        return server() is None and self.address is None and RAY_ADDRESS not in os.environ


class Begun(NamedTuple):
    """What was begun: the run to watch, and what the run that was told something has answered."""

    run: Run
    reply: Mapping[str, Any] | None = None


def carry_out(begin: Callable[[Client], Begun], where: Where, *, watched: bool = True, until_wait: bool = False) -> None:
    """Connect, begin, watch, tell; ends the command with the run's exit code.

    The last line is printed after the client is closed, so that nothing Ray says comes after it.
    """
    from wonder_ray.cli.following import Followed, tell, watch

    run_id = ""
    try:
        # Ray prints what it has to say of dying workers to stdout, which is for the result alone.
        with redirect_stdout(sys.stderr), connected(where.address, where.storage) as client:
            run, reply = begin(client)
            run_id = run.id
            if watched:
                typer.echo(f"run {run_id}", err=True)
                followed = watch(run, client.run, until_wait=until_wait, hint=where.hint)
                flush(client)
            else:
                followed = Followed(run.record())
            root = str(client.storage.root)
    except KeyboardInterrupt:
        go_on = f"go on with: wonder resume {run_id}{where.hint}" if run_id else "see `wonder runs`"
        typer.echo(f"\nwonder: interrupted; nothing committed is lost; {go_on}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception:
        if run_id:
            warn(f"run {run_id} was started, and can no longer be watched: wonder resume {run_id}{where.hint}")
        raise
    if reply is not None and not watched:
        _tell_reply(reply, followed.record, json=where.json)
    else:
        tell(followed.record, root, json=where.json, hint=where.hint, needs=followed.needs, reply=reply)
    raise typer.Exit(_exit_code(followed, reply, watched=watched))


def _exit_code(followed: Followed, reply: Mapping[str, Any] | None, *, watched: bool) -> int:
    if reply is not None and not is_yes(reply):
        return FAILED
    return 0 if not watched or followed.needs or followed.record.status == COMPLETED else FAILED


def is_yes(reply: Mapping[str, Any]) -> bool:
    """Whether what was asked for was done, or will be: an answer that a schema refuses, or a signal that is lost, is not."""
    took = {name: reply[name] for name in ("accepted", "delivered", "kept") if name in reply}
    return not took or any(took.values())


def deliver(ref: str, tell: Callable[[Run], Mapping[str, Any]], where: Where, *, key: str | None, follow: bool | None) -> None:
    """Tell a run something, where it lives; where it does not, in a local Ray that then carries it on to its next wait.

    Args:
        ref: The run.
        tell: Tells it; its reply.
        where: As the user says.
        key: The command's key: of a run that has ended, the first answer to it is told again.
        follow: Whether to watch the run afterwards; by default exactly in a local Ray, which would else end at once.
    """
    reader = open_reader(where.storage)
    record = reader.record(ref)
    if record.ended and server() is None:
        reply = None if key is None else reader.answered(record, key)
        if reply is None:
            instead = f"`wonder fork {record.run_id}` begins a new run from its state"
            raise CommandRefusedError(f"run {record.run_id} has ended ({record.status}), and takes nothing any more; {instead}")
        _tell_reply(reply, record, json=where.json)
        raise typer.Exit(0 if is_yes(reply) else FAILED)
    there = where._replace(address=where.address or live_address(reader, record.run_id))

    def begin(client: Client) -> Begun:
        run = client.run(record.run_id)
        reply = tell(run)
        _say_problems(record.run_id, reply)
        return Begun(whole(client, record, run) if there.is_local else run, reply)

    watched = there.is_local if follow is None else follow
    carry_out(begin, there, watched=watched, until_wait=True)


def whole(client: Client, record: RunRecord, run: Run) -> Run:
    """The run that the others are children of, awake: in a local Ray nobody else goes on with it."""
    if record.root_run_id == record.run_id:
        return run
    root = client.run(record.root_run_id)
    if root.record().ended:
        return run
    root.wake()
    return root


def _say_problems(run_id: str, reply: Mapping[str, Any]) -> None:
    if reply.get("problems"):
        warn(f"run {run_id}: the answer was refused, and the gate asks again: {'; '.join(reply['problems'])}")
    elif not is_yes(reply):
        warn(f"run {run_id}: nobody waits for the signal, and it is not kept: it is lost")


def _tell_reply(reply: Mapping[str, Any], record: RunRecord, *, json: bool) -> None:
    if json:
        print_json({**reply, "status": str(record.status)})
        return
    said = [name for name in ("accepted", "delivered", "kept") if reply.get(name)]
    typer.echo(f"run {record.run_id}: {', '.join(said) or ('done' if is_yes(reply) else 'not accepted')}")


def check_ray(address: str | None) -> None:
    """Raise where the Ray that is meant does not answer."""
    if server() is None:
        check_reachable(address or os.environ.get(RAY_ADDRESS))


# --- Ray -------------------------------------------------------------------------------------------------------------


def connected(address: str | None, storage: Path | None) -> Client:
    """A client; importing and starting Ray takes seconds, so it is said."""
    if server() is not None:
        if address is not None:
            raise WonderError("--server and --address: say one of them")
        return remote_client()
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
    return named or token_file().is_file()


def token_file() -> Path:
    """Where Ray looks for it."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def flush(client: Client) -> None:
    """See to it that all events are in Parquet files."""
    try:
        client.flush()
    except (WonderError, TimeoutError) as error:
        warn(f"the events are safe, but not all of them are in Parquet files yet: {error}")


def live_address(reader: Reader, run_id: str) -> str | None:
    """Where the Ray is that a live coordinator on this host belongs to; None when there is none.

    A coordinator outlives its Ray by a moment: where that is gone, its end is waited for.
    """
    if server() is not None:
        return None
    from wonder_ray.storage.lock import read_holder

    deadline = time.monotonic() + ORPHAN_SECONDS
    while (holder := read_holder(reader.layout.lock_file(run_id))) is not None:
        address = str(holder.get("address") or "auto")
        try:
            check_reachable(address)
        except WonderError:
            if time.monotonic() < deadline:
                time.sleep(PAUSE_SECONDS)
                continue
        return address
    return None


def storage_hint(storage: Path | None) -> str:
    """What a suggested command needs to find this storage."""
    if (url := server()) is not None:
        return "" if os.environ.get("WONDER_SERVER") == url else f" --server {url}"
    if storage is None or os.environ.get("WONDER_STORAGE") == str(storage):
        return ""
    return f" --storage {shlex.quote(str(storage))}"


def refuse_lonely_detach(where: Where, *, detach: bool) -> None:
    """Raise where a detached run would end with the command."""
    if detach and where.is_local:
        raise WonderError("--detach: a local Ray ends with this command; give a cluster: --address, or RAY_ADDRESS")
