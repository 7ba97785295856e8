"""What a service actor tells of itself: where it lives, since when, and how often it was started on its storage (its epoch).

>>> presence = Presence("logs", "/data/storage", namespace="wonder")  # doctest: +SKIP
>>> presence.tell()["epoch"]  # doctest: +SKIP
3
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final

import ray

REGISTRY: Final = "resources"
CALL_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 2.0
TRIES_MAX: Final = 300


class Presence:
    """One process of a service.

    Args:
        name: The service.
        storage: Its storage folder.
        namespace: Of all named actors.
        epoch: Its epoch; by default it is asked of the registry, which may be starting, too: in the background.

    Outside of Ray there is neither node nor epoch.
    """

    def __init__(self, name: str, storage: str, namespace: str, *, epoch: int | None = None) -> None:
        self._name = name
        self._namespace = namespace
        self._epoch = epoch
        self._told: Final = {
            "service": name,
            "storage": storage,
            "folder": mark_of(Path(storage)),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "node": ray.get_runtime_context().get_node_id() if ray.is_initialized() else None,
            "since_us": time.time_ns() // 1000,
        }
        if epoch is None and ray.is_initialized():
            threading.Thread(target=self._take_epoch, name=f"{name}-epoch", daemon=True).start()

    def tell(self, **more: Any) -> dict[str, Any]:
        """Service, storage, folder (its `mark_of`), pid, host, node, since_us, epoch (None until it is known), and `more`."""
        return {**self._told, "epoch": self._epoch, **more}

    def _take_epoch(self) -> None:
        for _ in range(TRIES_MAX):
            try:
                registry = ray.get_actor(REGISTRY, namespace=self._namespace)
                self._epoch = ray.get(registry.take_service_epoch.remote(self._name), timeout=CALL_SECONDS)
            except (ValueError, ray.exceptions.RayError):  # it is not there yet, or being restarted
                time.sleep(PAUSE_SECONDS)
            else:
                return


def mark_of(folder: Path) -> str | None:
    """What tells a folder from every other one, on this host or another: two processes that see the same folder agree.

    None where there is no such folder.

    >>> mark_of(Path("/")) == mark_of(Path("/usr/.."))
    True
    >>> mark_of(Path("/")) == mark_of(Path("/proc"))
    False
    """
    try:
        found = folder.stat()
    except OSError:
        return None
    return f"{_host_mark()}:{found.st_dev}:{found.st_ino}"


def _host_mark() -> str:
    """Of the running kernel, which containers on one host share; where it does not tell, of the host's network card."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{uuid.getnode():x}"
