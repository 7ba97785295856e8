"""The services of a running cluster as a whole: made ahead of time, looked at, and ended in good order.

>>> up("auto", storage="/data/storage")["up"]  # doctest: +SKIP
True
>>> down("auto")["ended"]  # doctest: +SKIP
['directory', 'events', 'logs', 'resources']
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import ray

from wonder_ray.addresses import check_reachable
from wonder_ray.client import connect, init_ray
from wonder_ray.errors import ServiceUnavailableError, WonderError
from wonder_ray.ids import NAMESPACE
from wonder_ray.resources.actor import unwrap
from wonder_ray.services import SERVICES, find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wonder_ray.resources.records import RunRecord

ANSWER_SECONDS: Final = 10.0
"""How long a healthy service may take to answer."""
START_SECONDS: Final = 60.0
FLUSH_SECONDS: Final = 120.0
END_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.1
SHOWN_MAX: Final = 5
_IN_ORDER: Final = ("directory", "events", "logs", "resources")
"""How they end: first who starts coordinators, last who knows the runs."""


def up(address: str, *, storage: str | Path | None = None) -> dict[str, Any]:
    """Make the services that are missing, and wait until each has answered; what `status` tells then.

    Raises:
        WonderError: No cluster is there, or its services keep their data in another folder.
        ServiceUnavailableError: One of them does not come up.
    """
    with connect(address, storage=storage):
        deadline = time.monotonic() + START_SECONDS
        while not (found := _status(address))["up"] or any(each["epoch"] is None for each in found["services"]):
            if time.monotonic() > deadline:
                missing = ", ".join(f"{each['service']} ({each['health']})" for each in found["services"])
                raise ServiceUnavailableError(
                    f"after {START_SECONDS:.0f} s not every service has answered: {missing}; see `wonder logs`"
                )
            time.sleep(PAUSE_SECONDS)
        return found


def status(address: str) -> dict[str, Any]:
    """How each service is, and which runs are live; nothing is started.

    `{"address", "storage", "up", "services": [{"service", "health", "pid", "host", "node", "epoch", "since_us"}],
    "http": {"url", "health", "replicas"}, "live_runs": [{"run_id", "workflow_name", "status", "coordinator"}]}`; `health` is
    `ok`, `down` or what is wrong. `http` is None where the API is not served, and the live runs are None while the registry does
    not tell.
    """
    with _attached(address):
        return _status(address)


def down(address: str, *, force: bool = False) -> dict[str, Any]:
    """End the services: events and logs are put into files first, nothing that is committed is lost.

    Args:
        address: The cluster.
        force: Also while runs are live: their coordinators end, and go on when the services are made again.

    Raises:
        WonderError: Runs are live, and `force` was not given; nothing was ended.
    """
    with _attached(address):
        before = _status(address)
        live = before["live_runs"]
        if live is None and not force:
            msg = "the registry does not tell whether runs are live: make it anew (`wonder up`), or say --force"
            raise WonderError(msg)
        if live and not force:
            shown = ", ".join(run["run_id"] for run in live[:SHOWN_MAX])
            more = f" and {len(live) - SHOWN_MAX} more" if len(live) > SHOWN_MAX else ""
            msg = f"{len(live)} runs are live: {shown}{more}; wait for them, cancel them, or interrupt them with --force"
            raise WonderError(msg)
        served = _stop_http()  # before what it would make anew
        ended = ["http"] * served + [name for name in _IN_ORDER if _end(name)]
        return {
            "address": address,
            "storage": before["storage"],
            "ended": ended,
            "interrupted": [run["run_id"] for run in live or ()],
        }


def stop_serving(address: str) -> bool:
    """End the API over HTTP, and nothing else; whether it was served."""
    with _attached(address):
        return _stop_http()


@contextmanager
def _attached(address: str) -> Iterator[None]:
    """Connected to the cluster, without any service being made."""
    if ray.is_initialized():
        yield
        return
    check_reachable(address)
    init_ray(address, {})
    try:
        yield
    finally:
        ray.shutdown()


def _status(address: str) -> dict[str, Any]:
    services = [_look_at(name) for name in SERVICES]
    storages = {each["storage"] for each in services if each.get("storage")}
    http = _look_at_http()
    is_up = all(each["health"] == "ok" for each in (*services, *([] if http is None else [http])))
    return {
        "address": address,
        "storage": storages.pop() if len(storages) == 1 else None,
        "up": is_up,
        "services": services,
        "http": http,
        "live_runs": _live_runs(),
    }


def _look_at(name: str) -> dict[str, Any]:
    unknown = {"service": name, "storage": None, "pid": None, "host": None, "node": None, "epoch": None, "since_us": None}
    actor = find(name)
    if actor is None:
        return {**unknown, "health": "down"}
    try:
        told = ray.get(actor.ping.remote(), timeout=ANSWER_SECONDS)
    except ray.exceptions.ActorDiedError:
        return {**unknown, "health": "down"}
    except ray.exceptions.RayError as error:
        said = str(unwrap(error)).strip().partition("\n")[0]
        return {**unknown, "health": f"does not answer: {said}"}
    return {**unknown, **told, "health": "ok"}


def _is_serving() -> bool:
    """Whether this cluster has a Ray Serve at all; where it has, what serves is installed."""
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _look_at_http() -> dict[str, Any] | None:
    if not _is_serving():
        return None
    from wonder_ray.http.serving import standing

    return standing()


def _stop_http() -> bool:
    if not _is_serving():
        return False
    from wonder_ray.http.serving import stop

    return stop()


def _live_runs() -> list[dict[str, Any]] | None:
    named = ray.util.list_named_actors(all_namespaces=True)
    coordinated = {found["name"] for found in named if found["namespace"] == NAMESPACE and found["name"].startswith("run:")}
    registry = find("resources")
    if registry is None:
        return None if coordinated else []
    try:
        unfinished: list[RunRecord] = ray.get(registry.unfinished.remote(), timeout=ANSWER_SECONDS)
    except ray.exceptions.RayError:
        return None
    return [
        {
            "run_id": run.run_id,
            "workflow_name": run.workflow_name,
            "status": str(run.status),
            "coordinator": f"run:{run.run_id}" in coordinated,
        }
        for run in unfinished
    ]


def _end(name: str) -> bool:
    """End a service for good; whether there was one."""
    actor = find(name)
    if actor is None:
        return False
    if name in {"events", "logs"}:
        with suppress(ray.exceptions.RayActorError):  # it is dead, and what it has acknowledged is on disk
            ray.get(actor.close.remote(), timeout=FLUSH_SECONDS)
    ray.kill(actor, no_restart=True)
    deadline = time.monotonic() + END_SECONDS
    while find(name) is not None and time.monotonic() < deadline:  # until then whoever asks for it would get the dead one
        time.sleep(PAUSE_SECONDS)
    return True
