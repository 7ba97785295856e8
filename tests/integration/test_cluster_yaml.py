"""The commands of `cluster.yaml`, carried out on this machine: what the launcher does, but for the cloud."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.clusters import STORE_BYTES, TOP, free_ports, kill_node, wait_for
from tests.test_cluster_yaml import HOOK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]
CONFIG: Final[dict[str, Any]] = yaml.safe_load((TOP / "cluster.yaml").read_text())
FLOW: Final = """
import wonder_ray as wonder


def node() -> str:
    import ray
    return ray.get_runtime_context().get_node_id()


flow = wonder.Workflow("where", output={"task": "state.task"})
flow.node("look", node, num_cpus=1, output={"state.task": "result"})
"""


class Machines:
    """One home folder, as if it were that of every machine, and the ports of one cluster."""

    def __init__(self, home: Path, disk: Path) -> None:
        self.home = home
        self.gcs, self.dashboard = free_ports(2)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WONDER_", "RAY_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**kept, "HOME": str(home), "PATH": path, "PYTHONPATH": str(TOP), "RAY_HEAD_IP": "127.0.0.1"}
        self._here = {"/mnt/wonder": str(disk), "6379": str(self.gcs), "--autoscaling-config=~/ray_bootstrap_config.yaml": ""}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command of the file, to its end."""
        return subprocess.run(
            ["bash", "-c", self._local(command)],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    @contextmanager
    def node(self, commands: list[str], *options: str) -> Iterator[None]:
        """A node with the command of the file that starts Ray, and what two nodes on one machine need besides."""
        [start] = [command for command in commands if "ray start" in command]
        folder = tempfile.mkdtemp(prefix="wray", dir="/tmp")
        ports = [
            f"{name}={port}"
            for name, port in zip(("--dashboard-agent-listen-port", "--dashboard-agent-grpc-port"), free_ports(2), strict=True)
        ]
        more = [f"--temp-dir={folder}", f"--object-store-memory={STORE_BYTES}", "--block", *ports, *options]
        started = self._local(start).replace("--object-manager-port=8076", " ".join(more))
        process = subprocess.Popen(
            ["bash", "-c", started], env=self.env, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            wait_for(process, "Ray runtime started")
            yield
        finally:
            kill_node(process)
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def hook(self) -> Iterator[None]:
        """What a head on Kubernetes is told beside its start, with what its container knows."""
        env = {
            "RAY_AUTH_MODE": "token",
            "RAY_ADDRESS": f"127.0.0.1:{self.gcs}",
            "WONDER_STORAGE": self._local("/mnt/wonder/storage"),
        }
        command = HOOK[-1].replace("/tmp/", f"{self.home}/")
        process = subprocess.Popen(["bash", "-c", command], env=self.env | env, cwd=self.home, start_new_session=True)
        try:
            assert process.wait(10) == 0  # it leaves its work to a process in the background
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _local(self, command: str) -> str:
        for there, here in self._here.items():
            command = command.replace(there, here)
        return command


def test_its_commands_make_a_cluster_that_runs_a_workflow(tmp_path: Path, wait_until: WaitUntil) -> None:
    machines = Machines(tmp_path, tmp_path / "disk")
    for command in CONFIG["setup_commands"] + CONFIG["head_setup_commands"]:
        if "pip install" not in command:
            assert machines.run(command).returncode == 0
    token = machines.run("ray get-auth-token --generate")  # what the file tells to do once, and mounts everywhere
    assert token.returncode == 0, token.stderr
    (tmp_path / "flow.py").write_text(FLOW)
    url, up = f"http://127.0.0.1:{machines.dashboard}", CONFIG["head_start_ray_commands"][-1]
    head = machines.node(CONFIG["head_start_ray_commands"], f"--dashboard-port={machines.dashboard}", "--num-cpus=0")
    with machines.hook(), head, machines.node(CONFIG["worker_start_ray_commands"], "--num-cpus=2"):
        wait_until(
            lambda: machines.run(". ~/wonder.env; wonder status").returncode == 0, 60, what="the hook to make the services"
        )
        made = machines.run(f"{up} --json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["storage"] == f"{tmp_path}/disk/storage"
        sent = machines.run(f"wonder submit flow.py --address {url} --json")
        assert sent.returncode == 0, sent.stderr
        services = {each["node"] for each in json.loads(made.stdout)["services"]}
        assert len(services) == 1
        assert json.loads(sent.stdout)["output"]["task"] not in services
        assert machines.run(f"RAY_AUTH_TOKEN={'0' * 64} wonder submit flow.py --address {url}").returncode == 2
        doctor = json.loads(machines.run(". ~/wonder.env; wonder doctor --json").stdout)
        assert {check["name"]: check["state"] for check in doctor["checks"]}["auth"] == "ok"
        ended = machines.run(". ~/wonder.env; wonder down --json")
        assert ended.returncode == 0, ended.stderr
