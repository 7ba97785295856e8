"""`cluster.yaml` is what Ray's launcher takes, and holds what wonder-ray needs; all without a cloud."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, Final

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from wonder_ray.settings import PREFIX, Retention

TOP: Final = Path(__file__).parents[1]
TEXT: Final = (TOP / "cluster.yaml").read_text()
CONFIG: Final[dict[str, Any]] = yaml.safe_load(TEXT)
TYPES: Final[dict[str, Any]] = CONFIG["available_node_types"]
MOUNT: Final = "/mnt/wonder"


def commands(*names: str) -> str:
    return "\n".join(line for name in names for line in CONFIG[name])


EVERYWHERE: Final = commands("setup_commands")
ON_THE_HEAD: Final = commands("setup_commands", "head_setup_commands")


def exported(text: str) -> dict[str, str]:
    return dict(re.findall(r"^export (\w+)=([^\s#]*)", text, re.MULTILINE))


def test_ray_s_launcher_takes_it() -> None:
    validate_config(prepare_config(yaml.safe_load(TEXT)))


@pytest.mark.parametrize("where", [(), ("docker",), ("available_node_types", "head")])
def test_a_misspelt_field_would_be_noticed(where: tuple[str, ...]) -> None:
    config = yaml.safe_load(TEXT)
    part = config
    for name in where:
        part = part[name]
    part["mispelt"] = 1
    with pytest.raises(Exception, match="mispelt"):
        validate_config(prepare_config(config))


def test_the_storage_is_on_a_disk_that_outlives_the_head() -> None:
    head = TYPES[CONFIG["head_node_type"]]
    [disk] = [disk for disk in head["node_config"]["disks"] if not disk["boot"]]
    assert disk["autoDelete"] is False
    device = f"/dev/disk/by-id/google-{disk['deviceName']}"
    mount = "\n".join(head["initialization_commands"])
    assert f"sudo blkid {device} || sudo mkfs.ext4" in mount, "a disk with data must not be formatted"
    assert f"mountpoint -q {MOUNT} || sudo mount" in mount
    assert f"-v {MOUNT}:{MOUNT}" in CONFIG["docker"]["head_run_options"]
    assert exported(ON_THE_HEAD)["WONDER_STORAGE"].startswith(f"{MOUNT}/")
    assert f"{CONFIG['provider']['availability_zone']}/disks/" in disk["source"]
    assert f"projects/{CONFIG['provider']['project_id']}/" in disk["source"]
    assert TEXT.count("# CHANGE") == 2


def test_there_are_cpu_and_gpu_workers_and_no_task_runs_on_the_head() -> None:
    assert TYPES["head"]["resources"] == {"CPU": 0}
    assert (TYPES["cpu_worker"]["resources"]["CPU"], TYPES["cpu_worker"]["min_workers"]) == (8, 1)
    gpu = TYPES["gpu_worker"]
    assert (gpu["resources"]["GPU"], gpu["min_workers"]) == (1, 0)
    assert gpu["node_config"]["guestAccelerators"][0]["acceleratorCount"] == 1
    assert gpu["docker"]["worker_image"] == f"{CONFIG['docker']['image']}-gpu"
    assert sum(kind.get("max_workers", 0) for kind in TYPES.values()) == CONFIG["max_workers"]


def test_every_node_has_the_ray_that_is_pinned() -> None:
    pinned = re.search(r"^ray==(\S+)", (TOP / "scripts" / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert CONFIG["docker"]["image"].startswith(f"rayproject/ray:{pinned[1]}-")
    assert f'"ray[default]=={pinned[1]}"' in TEXT
    assert "--require-hashes -r ~/wonder-ray/scripts/requirements.txt" in EVERYWHERE


def test_everybody_is_asked_for_the_token() -> None:
    assert exported(EVERYWHERE)["RAY_AUTH_MODE"] == "token"
    assert CONFIG["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        [start] = [command for command in CONFIG[name] if "ray start" in command]
        assert start.startswith(". ~/wonder.env;")
    assert "--dashboard-host=127.0.0.1" in commands("head_start_ray_commands")


def test_every_setting_is_one_that_ray_or_we_know() -> None:
    raylet = (Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet").read_bytes()
    in_python = {"RAY_ROTATION_MAX_BYTES", "RAY_ROTATION_BACKUP_COUNT", "RAY_AUTH_MODE"}
    settings = exported(ON_THE_HEAD)
    assert len(settings) >= 14
    for name in settings:
        known = name in in_python or name == "WONDER_STORAGE" or name.startswith(PREFIX) or name.encode() in raylet
        assert known, f"{name} sets nothing"
    assert Retention.from_environment(settings) == Retention()
    for module in settings["RAY_preload_python_modules"].split(","):
        importlib.import_module(module)


def test_a_lost_node_is_noticed_in_half_a_minute() -> None:
    settings = exported(EVERYWHERE)
    period, timeout, failures = (
        int(settings[f"RAY_health_check_{name}"]) for name in ("period_ms", "timeout_ms", "failure_threshold")
    )
    assert failures * (period + timeout) <= 30_000


def test_the_services_are_made_on_the_node_with_the_disk() -> None:
    assert CONFIG["head_start_ray_commands"][-1] == ". ~/wonder.env; wonder up"


def test_every_setting_is_explained_in_place() -> None:
    """A comment above it or beside it, or above the group that it is in."""
    lines = TEXT.splitlines()
    explained = False
    for line in lines:
        text = line.strip()
        if text.startswith("#") or " # " in text:
            explained = True
        elif text.startswith("export "):
            assert explained, f"nothing explains {text}"
        elif not text:
            explained = False
