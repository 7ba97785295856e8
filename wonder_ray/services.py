"""The cluster's services as a driver reaches them: made where they are missing, asked again while they are being restarted.

Ray hands the runtime environment of a driver (of a job's `working_dir` and `pip`, say) on to every actor that it makes, and to
their tasks in turn. A service must not carry the code of the one job that happened to need it first: a driver with a runtime
environment has the missing services made by another process, which has none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import ray

from wonder_ray.coordinator.directory.actor import get_or_create as directory_service
from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.events.actor import get_or_create as events_service
from wonder_ray.ids import NAMESPACE
from wonder_ray.logs.actor import get_or_create as log_service
from wonder_ray.resources.actor import get_or_create as resources_service
from wonder_ray.resources.actor import unwrap, why_dead

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICES: Final = ("resources", "directory", "events", "logs")
"""The names of the service actors."""
CALL_SECONDS: Final = 60.0
"""How long a service may be away before its caller is told."""
RETRY_SECONDS: Final = 0.2
FAILURES_MAX: Final = 5
"""How often in a row a service or a coordinator may die at its start before its error is shown."""
MAKING_SECONDS: Final = 120.0
JOB_CONFIG: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray's job supervisor tells a driver its runtime environment."""
_MAKE: Final = "import sys; from wonder_ray.services import make_here; make_here(*sys.argv[1:])"


class Services:
    """The services of one storage folder.

    Args:
        storage: The folder, on this node.
        local: Whether this is a local Ray, which ends with its driver.

    Example:
        >>> Services("/data/storage", local=False).call("resources", "ping")["storage"]  # doctest: +SKIP
        '/data/storage'
    """

    def __init__(self, storage: str, *, local: bool) -> None:
        self._storage = storage
        self._everything = not local  # what an earlier local Ray left waits for `resume`; what a lost cluster left goes on
        self._makers = _makers(storage, everything=self._everything)
        self._handles: dict[str, Any] = {}
        self.renew()

    def renew(self) -> None:
        """Make what is missing; they start beside each other."""
        if ray.get_runtime_context().runtime_env and not all(find(name) for name in SERVICES):
            _make_elsewhere(self._storage, everything=self._everything)
        self._handles = {name: make() for name, make in self._makers.items()}

    def call(self, service: str, method: str, *args: Any, within_s: float = CALL_SECONDS, **named: Any) -> Any:
        """Call a method; its errors arrive as themselves. Every method may be repeated, so an unanswered call is."""
        deadline = time.monotonic() + within_s
        deaths = 0
        while True:
            try:
                ref = getattr(self._handles[service], method).remote(*args, **named)
                return ray.get(ref, timeout=max(RETRY_SECONDS, deadline - time.monotonic()))
            except ray.exceptions.ActorDiedError as error:  # for good: it could not start, or somebody has killed it
                deaths += 1
                if deaths >= FAILURES_MAX:
                    raise why_dead(service, error) from None
                self.renew()
            except ray.exceptions.RayError as error:
                meant = unwrap(error)
                if not isinstance(meant, ServiceUnavailableError) or time.monotonic() > deadline:
                    raise meant from None
            time.sleep(RETRY_SECONDS)


def find(name: str) -> Any:
    """The handle of a service that somebody has made, None when there is none."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def make_here(address: str, storage: str, everything: str) -> None:
    """Make the services from this process, and wait until they answer: what `_make_elsewhere` starts."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    handles = [make() for make in _makers(storage, everything=json.loads(everything)).values()]
    ray.get([handle.ping.remote() for handle in handles], timeout=MAKING_SECONDS)


def _makers(storage: str, *, everything: bool) -> MappingProxyType[str, Callable[[], Any]]:
    return MappingProxyType(
        {
            "resources": lambda: resources_service(storage, namespace=NAMESPACE),
            "events": lambda: events_service(storage, namespace=NAMESPACE),
            "logs": lambda: log_service(storage, namespace=NAMESPACE),
            "directory": lambda: directory_service(storage, namespace=NAMESPACE, everything=everything),
        }
    )


def _make_elsewhere(storage: str, *, everything: bool) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-P", "-c", _MAKE, address, storage, json.dumps(everything)]
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        command, env=_bare_environment(), capture_output=True, text=True, timeout=2 * MAKING_SECONDS, check=False
    )
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise ServiceUnavailableError(f"the services could not be made for {storage!r}: {said}; `wonder up` makes them, too")


def _bare_environment() -> dict[str, str]:
    """This process's environment without what a job has put into it: its runtime environment, and its folder on the path."""
    env = {name: value for name, value in os.environ.items() if name != JOB_CONFIG}
    jobs_own = Path.cwd() if JOB_CONFIG in os.environ else None
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path).resolve() != jobs_own]
    ours = str(Path(__file__).parents[1])  # it may be on this process's path only
    return env | {"PYTHONPATH": os.pathsep.join([*paths, ours])}
