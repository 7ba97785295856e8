"""Ray's own port runs code for whoever it takes: without the token of the cluster it takes nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RayCluster

PROBE: Final = """
import sys
from ray._raylet import GcsClient

client = GcsClient(address=sys.argv[1])
client.internal_kv_put(b"probe", b"x", True, b"wonder-probe", timeout=20)
print("taken:", client.internal_kv_get(b"probe", b"wonder-probe", timeout=20))
"""
OWN: Final = """
import json, os, subprocess, sys
from pathlib import Path
import ray
import wonder_ray as wonder
from wonder_ray.cli.openness import check_auth, check_dashboard
from wonder_ray.cli.ray_processes import ray_processes

with wonder.connect(storage=sys.argv[1], ray_options={"num_cpus": 1, "object_store_memory": 80_000_000}) as client:
    address = ray.get_runtime_context().gcs_address
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    known |= {"RAY_AUTH_MODE": "disabled", "HOME": sys.argv[1]}
    done = subprocess.run([sys.executable, "-c", sys.argv[2], address], env=known, capture_output=True, text=True, timeout=60)
    parents = {found.pid: Path(f"/proc/{found.pid}/stat").read_text().rpartition(")")[2].split()[1] for found in ray_processes()}
    running = [found for found in ray_processes() if parents.get(found.pid) == str(os.getpid())]
    told = [check_auth(running), check_dashboard(running)]
json.dump({"code": done.returncode, "said": done.stdout, "why": done.stderr, "kinds": [found.kind for found in running],
           "states": [check.state for check in told], "said_by": [check.message for check in told]}, sys.stdout)
"""
NO_TOKEN: Final = {"RAY_AUTH_MODE": "disabled"}
WRONG_TOKEN: Final = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}


def probe(cluster: RayCluster, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Write to the cluster's own store, as a stranger on the network could try to."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", PROBE, cluster.gcs_address],
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_who_has_the_token_is_taken(ray_cluster: RayCluster) -> None:
    done = probe(ray_cluster, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]})
    assert (done.returncode, done.stdout.strip()) == (0, "taken: b'x'"), done.stderr


def test_the_ray_that_connect_starts_takes_no_stranger(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """Whatever the version of Ray does by itself, and on a machine where nobody has made a token yet."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    done = subprocess.run(
        [sys.executable, "-c", OWN, str(tmp_path / "storage"), PROBE],
        env=known | {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["code"] != 0
    assert "taken" not in told["said"]
    assert "authentica" in told["why"].lower(), told
    assert "gcs_server" in told["kinds"], told
    assert told["states"] == ["ok", "ok"], told


@pytest.mark.parametrize("environment", [NO_TOKEN, WRONG_TOKEN], ids=["no token", "a wrong token"])
def test_who_has_no_token_or_another_is_refused(ray_cluster: RayCluster, environment: dict[str, str]) -> None:
    done = probe(ray_cluster, environment)
    assert done.returncode != 0, done.stdout
    assert "taken" not in done.stdout
    assert "authentica" in done.stderr.lower(), done.stderr
