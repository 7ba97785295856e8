"""Ray's own port runs code for whoever it takes: without the token of the cluster it takes nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.conftest import RayCluster

PROBE: Final = """
import sys
from ray._raylet import GcsClient

client = GcsClient(address=sys.argv[1])
client.internal_kv_put(b"probe", b"x", True, b"wonder-probe", timeout=20)
print("taken:", client.internal_kv_get(b"probe", b"wonder-probe", timeout=20))
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


@pytest.mark.parametrize("environment", [NO_TOKEN, WRONG_TOKEN], ids=["no token", "a wrong token"])
def test_who_has_no_token_or_another_is_refused(ray_cluster: RayCluster, environment: dict[str, str]) -> None:
    done = probe(ray_cluster, environment)
    assert done.returncode != 0, done.stdout
    assert "taken" not in done.stdout
    assert "authentica" in done.stderr.lower(), done.stderr
