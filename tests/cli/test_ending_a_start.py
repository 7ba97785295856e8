"""`wonder serve` that is told to end while it starts: it ends, and nothing that it has started is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clusters import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil

START_SECONDS = 90.0
END_SECONDS = 60.0


class Started:
    """A `wonder serve` from a local Ray, whose processes are known by the folder that they keep files open in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        storage, port = folder / "storage", str(free_ports(1)[0])
        command = [sys.executable, "-m", "wonder_ray.cli", "serve", "--port", port, "--storage", str(storage)]
        env = os.environ | {"RAY_TMPDIR": str(folder), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=err, start_new_session=True)

    def said(self, name: str) -> str:
        return (self._folder / name).read_text()

    def processes(self) -> dict[int, str]:
        """Each with what it calls itself."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                links = [link.readlink() for link in (path / "fd").iterdir()]
            except OSError:  # it has just ended
                continue
            if str(self._folder) in title or any(link.is_relative_to(self._folder) for link in links):
                found[int(path.name)] = title
        return found

    def has(self, pattern: str) -> bool:
        assert self.process.poll() is None, self.said("err")
        said = self.said("out") + self.said("err")
        return pattern in said or any(pattern in title for title in self.processes().values())


@pytest.fixture
def started() -> Iterator[Started]:
    folder = Path(tempfile.mkdtemp(prefix="ws-", dir="/tmp"))  # a socket's path has at most 107 characters
    made = Started(folder)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)
    made.process.wait(30)
    shutil.rmtree(folder)


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("stage", "told"),
    [
        pytest.param("starting a local Ray", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("starting a local Ray", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("gcs_server", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("gcs_server", signal.SIGINT, marks=pytest.mark.slow),
        ("raylet/raylet", signal.SIGTERM),
        pytest.param("raylet/raylet", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("ray::EventActor", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ray::EventActor", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("ray::ServeController", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ray::ServeController", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("ray::ServeReplica", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("serving http", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_it_ends_with_all_that_it_has_started(started: Started, wait_until: WaitUntil, stage: str, told: signal.Signals) -> None:
    wait_until(lambda: started.has(stage), START_SECONDS, what=stage)
    started.process.send_signal(told)
    code = started.process.wait(END_SECONDS)
    wait_until(lambda: not started.processes(), END_SECONDS, what="its processes to end")
    served = stage == "serving http"
    assert code == (0 if served else 128 + told), started.said("err")
    assert "Traceback" not in started.said("err")
    assert served or started.said("err").endswith("all that it had started is ended\n")
