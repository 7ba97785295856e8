"""`cluster.yaml` and the README's manifest for KubeRay hold what wonder-ray needs; all without a cloud.

Ray's launcher tells whether it takes the first; the second was compared with the schema of KubeRay 1.6.
"""

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


CLAIM, KUBERAY = (
    *yaml.safe_load_all(
        re.findall(r"^```yaml\n(# wonder\.yaml.*?)^```", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    ),
)
HEAD: Final[dict[str, Any]] = KUBERAY["spec"]["headGroupSpec"]
HOOK: Final[list[str]] = HEAD["template"]["spec"]["containers"][0]["lifecycle"]["postStart"]["exec"]["command"]


def test_on_kubernetes_the_head_has_the_disk_the_services_and_no_cpus() -> None:
    pod = HEAD["template"]["spec"]
    [container] = pod["containers"]
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert (volume["name"], volume["persistentVolumeClaim"]["claimName"]) == (mount["name"], CLAIM["metadata"]["name"])
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteOnce"]
    settings = {each["name"]: each["value"] for each in container["env"]}
    assert settings.pop("WONDER_STORAGE").startswith(mount["mountPath"] + "/")
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert pod["shareProcessNamespace"] is True
    in_the_launcher_s = exported(EVERYWHERE)
    assert settings == {name: in_the_launcher_s[name] for name in settings}
    assert "wonder up" in HOOK[-1]


def test_on_kubernetes_everybody_is_asked_for_the_token() -> None:
    assert KUBERAY["spec"]["authOptions"] == {"mode": "token"}


def test_on_kubernetes_there_are_the_same_workers() -> None:
    assert f":{KUBERAY['spec']['rayVersion']}-" in CONFIG["docker"]["image"]
    groups = {group["groupName"]: group for group in KUBERAY["spec"]["workerGroupSpecs"]}
    for name, group in groups.items():
        same = TYPES[f"{name}_worker"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert (group["minReplicas"], group["maxReplicas"]) == (same["min_workers"], same["max_workers"])
        assert int(limits["cpu"]) == same["resources"]["CPU"]
        assert int(limits.get("nvidia.com/gpu", 0)) == same["resources"].get("GPU", 0)
    assert set(groups) == {"cpu", "gpu"}
