"""A PostgreSQL server for tests: one that `$WONDER_TEST_POSTGRES_URL` names, else one that is started from Debian's package.

It sorts text by the rules of a language, as most servers do, so that a comparison which relies on bytes is found out.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from sqlalchemy import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN_URL: Final = os.environ.get("WONDER_TEST_POSTGRES_URL")
MISSING: Final = (
    "needs a PostgreSQL: `apt-get install postgresql` (the server's binaries are enough), or WONDER_TEST_POSTGRES_URL with "
    "the URL of a database in which the tests may make schemas"
)
START_SECONDS: Final = 60.0
_PLACES: Final = "/usr/lib/postgresql"
_ICU_SINCE: Final = 15


class Postgres:
    """A server: makes schemas in its database, and is killed and started again by those who may.

    Attributes:
        url: Its database.
        folder: Where its data lies; None when it is somebody else's.
    """

    def __init__(self, url: str, folder: Path | None = None, command: list[str] | None = None) -> None:
        self.url = url
        self.folder = folder
        self._command = command or []
        self._process: subprocess.Popen[bytes] | None = None

    def schema(self) -> str:
        """The URL of a new, empty schema."""
        name = f"wonder_test_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f'CREATE SCHEMA "{name}"')
        parsed = make_url(self.url)
        return parsed.set(query={**parsed.query, "options": f"-csearch_path={name}"}).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a schema."""
        name = str(make_url(url).query["options"]).rpartition("=")[2]
        with self.connect() as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the test's own."""
        url = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url, autocommit=True)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        assert self.folder is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()}") from None

    def crash(self) -> None:
        """End the server at once, as a power cut would."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End the server."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def binaries() -> Path | None:
    """The folder of the newest server's programs, if there is one."""
    found = sorted(Path(_PLACES).glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


@contextmanager
def own_server(programs: Path) -> Iterator[Postgres]:
    """A server of the test's own, reached by a socket in its folder."""
    folder = Path(tempfile.mkdtemp(prefix="wonder-pg-", dir="/tmp"))  # a socket's path has at most 107 characters
    as_user = _as_other_user(folder)
    version = subprocess.run([programs / "initdb", "--version"], capture_output=True, text=True, check=True).stdout
    icu = ["--locale-provider=icu", "--icu-locale=en-US"] if int(version.split()[2].split(".")[0]) >= _ICU_SINCE else []
    initdb = [
        str(programs / "initdb"),
        "-D",
        str(folder / "data"),
        "-A",
        "trust",
        "-U",
        "wonder",
        "--no-sync",
        "-E",
        "UTF8",
        *icu,
    ]
    subprocess.run([*as_user, *initdb, "--locale=C.UTF-8"], check=True, capture_output=True, cwd=folder)
    settings = [
        f"unix_socket_directories={folder}",
        "listen_addresses=",
        "fsync=off",
        "max_connections=200",
        "shared_buffers=32MB",
    ]
    chosen = [text for setting in settings for text in ("-c", setting)]
    command = [*as_user, "--pdeathsig", "INT", str(programs / "postgres"), "-D", str(folder / "data"), *chosen]
    server = Postgres(f"postgresql://wonder@/postgres?host={folder}", folder, command)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _as_other_user(folder: Path) -> list[str]:
    """How to run a program as somebody else: PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return ["setpriv"]
    known = {user.pw_name: user for user in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
