"""A Ray cluster of its own for tests that need one beside the session's: with its dashboard, and with token auth on."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP: Final = Path(__file__).parents[1]
STOP_SECONDS: Final = 60.0
PORTS: Final = range(20_000, 32_000)
"""Above those of Ray's workers, below those that Linux gives to whoever asks for any."""


@dataclass(frozen=True)
class Cluster:
    """One that lives.

    Attributes:
        dashboard: `http://...`.
        gcs: `host:port`, what drivers connect to.
        storage: What `WONDER_STORAGE` says on it.
        env: For processes that use it: its token, and this package.
    """

    dashboard: str
    gcs: str
    storage: Path
    env: dict[str, str]

    def wonder(self, *args: object, env: dict[str, str] | None = None, timeout: float = 110) -> subprocess.CompletedProcess[str]:
        """A command of ours, as a user types it."""
        command = [sys.executable, "-m", "wonder_ray.cli", *map(str, args)]
        return subprocess.run(command, env=self.env | (env or {}), capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def cluster_with_dashboard(storage: Path) -> Iterator[Cluster]:
    """Start one as an operator does, and end it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WONDER_", "RAY_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": str(TOP)}
    gcs, dashboard, *others = free_ports(5)
    ports = ["--ray-client-server-port", "--dashboard-agent-listen-port", "--dashboard-agent-grpc-port"]
    folder = tempfile.mkdtemp(prefix="wray", dir="/tmp")
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=4", "--include-dashboard=true"),
        *("--dashboard-host=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        *(f"{option}={port}" for option, port in zip(ports, others, strict=True)),
        f"--object-store-memory={200 * 1024 * 1024}",
    ]
    process = subprocess.Popen(
        command, env=env | {"WONDER_STORAGE": str(storage)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = Cluster(f"http://127.0.0.1:{dashboard}", "", storage, env)
    try:
        running = replace(running, gcs=_address_told(process))
        yield running
    finally:
        with suppress(subprocess.TimeoutExpired):  # Ray waits half a minute for actors that nobody has ended
            running.wonder("down", "--force", "--address", running.gcs)
        process.terminate()  # which ends all that it has started
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _address_told(process: subprocess.Popen[str]) -> str:
    """What `ray start` says that drivers are to connect to."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"--address='([\d.]+:\d+)'", line):
            return found[1]
    raise AssertionError("".join(said))


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, and that nobody is given by chance before Ray listens there."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    msg = f"fewer than {count} free ports in {PORTS}"
    raise AssertionError(msg)
