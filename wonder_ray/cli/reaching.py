"""What a command looks at: a storage folder, or (`--server URL`) a cluster over HTTP."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from wonder_ray.cli.output import warn
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.client import Client
    from wonder_ray.reading import Reader

SPEAKING: Final = frozenset(
    {
        "run", "resume", "gates", "answer", "signal", "update", "pause", "cancel", "complete-group", "close-group", "add-members",
        "fork", "restart-from", "runs", "show", "state", "query", "events", "trace", "logs",
        "replay", "sql", "report", "workspace", "project", "key", "secret",
    }
)  # fmt: skip
"""The commands that speak to a server."""
ELSEWHERE: Final = MappingProxyType(
    {
        "submit": "sends a job to Ray's dashboard: `wonder run FILE --server URL` starts a run over HTTP",
        "up": "makes the services on the cluster itself",
        "down": "ends the services on the cluster itself",
        "status": "looks at the Ray on this machine, or at --address: `curl URL/ready` asks a server whether it can serve",
        "serve": "is the server",
        "storage": "looks at the storage folder itself",
        "doctor": "looks at this machine, its storage folder and its Ray",
        "validate": "looks at a file, and needs no server",
        "import": "looks at a file, and needs no server",
    }
)
"""What each of the others does, and what to do instead."""
QUIET: Final = frozenset({"validate", "import", "serve", "up", "down"})
"""Of these, those that nobody takes for a question to a server."""
_SERVER: Final[ContextVar[str | None]] = ContextVar("server", default=None)


@contextmanager
def no_server_yet() -> Iterator[None]:
    """A command begins without a server, and leaves none to the next."""
    token = _SERVER.set(None)
    try:
        yield
    finally:
        _SERVER.reset(token)


def choose_server(url: str | None, command: str | None, *, said: bool) -> None:
    """Let a command speak to a server.

    Args:
        url: Its address.
        command: The command.
        said: Whether the user has said so for this command; what the environment says holds for those that can.
    """
    if url is None or command is None:
        return
    if not url.startswith(("http://", "https://")):
        raise WonderError(f"--server {url!r}: it is where `wonder serve` serves, such as http://127.0.0.1:8000")
    if command in SPEAKING:
        _SERVER.set(url)
    elif said:
        raise WonderError(f"wonder {command} does not go over HTTP: it {ELSEWHERE[command]}; leave --server out")
    elif command not in QUIET:
        warn(f"WONDER_SERVER is left aside: wonder {command} {ELSEWHERE[command]}")


def server() -> str | None:
    """The server that was chosen; None where it is the storage folder."""
    return _SERVER.get()


def remote_client() -> Client:
    """A client of the server."""
    from wonder_ray.remote import connect

    url = server()
    assert url is not None, "asked where one was chosen"
    return cast("Client", connect(url, on_silence=warn))


def open_reader(storage: Path | None) -> Reader:
    """Looks at runs: in the folder, or at the server."""
    if server() is not None:
        from wonder_ray.remote.reader import RemoteReader

        found: Any = RemoteReader(cast("Any", remote_client()))
        return cast("Reader", found)
    from wonder_ray.reading import Reader

    return Reader(storage)


@contextmanager
def code_folder(storage: Path | None) -> Iterator[Path]:
    """Where a workflow's code is packed to: the storage folder; for a server, which takes no code, a folder for the moment."""
    if server() is not None:
        with tempfile.TemporaryDirectory(prefix="wonder-code-") as folder:
            yield Path(folder)
        return
    from wonder_ray.storage.layout import Layout

    yield Layout(storage).prepare().root
