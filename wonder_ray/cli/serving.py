"""`wonder serve`: the API over HTTP, on a running cluster, or in a local Ray for as long as the command runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from wonder_ray.cli.carrying import RAY_ADDRESS, connected, storage_hint
from wonder_ray.cli.clusters import attached
from wonder_ray.cli.options import AsJson, Storage
from wonder_ray.cli.output import print_json, safe
from wonder_ray.cli.supervising import SIGNALS, supervise, taken_over, tell_ready
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.http.serving import Serving

LOOK_SECONDS: Final = 0.5
DEBUG: Final = "--debug"
INTERRUPTED: Final = frozenset(128 + number for number in SIGNALS)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(serve)


def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(metavar="H", help="Where to listen; 0.0.0.0 is every address of the head node.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="P", help="The port.", min=1, max=65_535)] = 8000,
    replicas: Annotated[int, typer.Option(metavar="N", help="How many processes answer.", min=1, max=1_000)] = 1,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="PEM", help="A certificate on the head node, for https://.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.")] = None,
    *,
    stop: Annotated[bool, typer.Option("--stop", help="End it; runs and services go on.")] = False,
    json: AsJson = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="A", help="A Ray cluster: 'auto', 'host:port'. [default: RAY_ADDRESS, else a local Ray]"
        ),
    ] = None,
    storage: Storage = None,
) -> None:
    """Serve the API over HTTP: on a cluster until it is stopped, else from a local Ray until Ctrl-C.

    Every request needs an API key: `wonder key create NAME --scope ...` makes one. `wonder status` shows the API, `wonder down`
    ends it with the services.
    """
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key belong together")
    where = address or os.environ.get(RAY_ADDRESS)
    if stop:
        _stop(where, json=json)
        return
    _need_serve()
    certificate, private_key = (None if path is None else str(Path(path).absolute()) for path in (tls_cert, tls_key))
    ready = taken_over()
    if where is None and ready is None:
        secure = [] if certificate is None else ["--tls-cert", certificate, "--tls-key", str(private_key)]
        there = [] if storage is None else ["--storage", str(storage)]
        words = ["serve", "--host", host, "--port", str(port), "--replicas", str(replicas), *secure, *there, *["--json"] * json]
        raise typer.Exit(_supervised([*words, *[DEBUG] * bool(context.meta.get(DEBUG))]))
    from wonder_ray.http.serving import Serving

    wanted = Serving(host=host, port=port, replicas=replicas, certificate=certificate, private_key=private_key)
    _serve(wanted, where, storage, ready, json=json)


def _supervised(words: list[str]) -> int:
    code = supervise(words)
    if code in INTERRUPTED:
        typer.echo("wonder: it was told to end while it started, and all that it had started is ended", err=True)
    return code


def _serve(wanted: Serving, where: str | None, storage: Path | None, ready: int | None, *, json: bool) -> None:
    from wonder_ray.http.serving import deploy
    from wonder_ray.http.serving import stop as end

    with ExitStack() as stack:
        with redirect_stdout(sys.stderr):
            client = stack.enter_context(connected(where, storage))
            found = deploy(client, wanted) | {"storage": str(client.storage.root)}
        if ready is None:
            _tell(found, storage, json=json)
            return
        with _ended_by_signals() as told:
            tell_ready(ready)
            _tell(found, storage, json=json)
            while not told.wait(LOOK_SECONDS):  # a signal that another thread got is seen only by a main thread that runs
                pass
            typer.echo("ending ...", err=True)
            with redirect_stdout(sys.stderr):
                end()


def _stop(where: str | None, *, json: bool) -> None:
    from wonder_ray.cluster import stop_serving

    with attached(where) as address:
        ended = stop_serving(address)
    if json:
        print_json({"ended": ["http"] if ended else []})
    else:
        typer.echo("ended http" if ended else "the API was not served")


def _need_serve() -> None:
    """Raise where what serves is not installed."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise WonderError(f"{' and '.join(missing)} must be installed to serve: pip install 'wonder-ray[serve]'")


def _tell(found: dict[str, Any], storage: Path | None, *, json: bool) -> None:
    if json:
        print_json(found)
    else:
        hint = storage_hint(storage)
        typer.echo(f"serving {found['url']}  ({safe(found['health'])}, {found['replicas']} replicas), storage {found['storage']}")
        typer.echo(f"  a key    wonder key create NAME --scope runs:read --scope runs:write --scope events:read{hint}")
        typer.echo(f"  use it   WONDER_API_KEY=... wonder --server {found['url']} runs")
    sys.stdout.flush()  # who waits for this line may read a pipe


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """An event that a SIGINT or SIGTERM sets."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
