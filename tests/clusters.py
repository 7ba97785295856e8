"""A Ray cluster of its own for tests that need one beside the session's: with its dashboard, and with token auth on.

It is what `cluster.yaml` describes: a head that has the storage folder and no CPUs, and workers that have them.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import signal
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
STORE_BYTES: Final = 200 * 1024 * 1024
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
        process: The `ray start` of its head.
    """

    dashboard: str
    gcs: str
    storage: Path
    env: dict[str, str]
    process: subprocess.Popen[str]

    def wonder(self, *args: object, env: dict[str, str] | None = None, timeout: float = 110) -> subprocess.CompletedProcess[str]:
        """A command of ours, as a user types it."""
        command = [sys.executable, "-m", "wonder_ray.cli", *map(str, args)]
        return subprocess.run(command, env=self.env | (env or {}), capture_output=True, text=True, timeout=timeout, check=False)

    @contextmanager
    def worker(self, num_cpus: int = 4) -> Iterator[subprocess.Popen[str]]:
        """Another node, which lives until the end of the context, or until it is killed with `kill_node`."""
        folder = tempfile.mkdtemp(prefix="wray", dir="/tmp")  # nodes that share one remove each other's working directories
        options = ["--block", f"--address={self.gcs}", f"--num-cpus={num_cpus}", f"--object-store-memory={STORE_BYTES}"]
        options += [f"--temp-dir={folder}", *_ports("--dashboard-agent-listen-port", "--dashboard-agent-grpc-port")]
        process = _start(options, self.env)
        try:
            wait_for(process, "Ray runtime started")
            yield process
        finally:
            if process.poll() is None:
                _end(process)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cluster_with_dashboard(storage: Path) -> Iterator[Cluster]:
    """Start one as an operator does, with one worker, and end it."""
    with head_with_dashboard(storage) as running, running.worker():
        yield running


@contextmanager
def head_with_dashboard(storage: Path) -> Iterator[Cluster]:
    """The head alone."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WONDER_", "RAY_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONPATH": str(TOP)}
    gcs, dashboard = free_ports(2)
    folder = tempfile.mkdtemp(prefix="wray", dir="/tmp")
    options = [
        *("--head", "--block", "--num-cpus=0", '--resources={"head": 1}', f"--object-store-memory={STORE_BYTES}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}"),
        *(f"--temp-dir={folder}", *_ports("--ray-client-server-port")),
        *_ports("--dashboard-agent-listen-port", "--dashboard-agent-grpc-port"),
    ]
    process = _start(options, env | {"WONDER_STORAGE": str(storage)})
    running = Cluster(f"http://127.0.0.1:{dashboard}", "", storage, env, process)
    try:
        running = replace(running, gcs=wait_for(process, r"--address='([\d.]+:\d+)'"))
        yield running
    finally:
        with suppress(subprocess.TimeoutExpired):  # Ray waits half a minute for actors that nobody has ended
            running.wonder("down", "--force", "--address", running.gcs)
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def kill_node(process: subprocess.Popen[str]) -> None:
    """As a power cut does it: all that Ray has started there, at once."""
    for pid in (process.pid, *_descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    found = []
    for children in Path("/proc", str(pid), "task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _start(options: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()  # which ends all that it has started
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ports(*options: str) -> list[str]:
    return [f"{option}={port}" for option, port in zip(options, free_ports(len(options)), strict=True)]


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    """The text (or its first group) that `ray start` says."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            return found[found.re.groups]
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
