"""The API under Ray Serve: deployed on a cluster, looked at, and ended.

>>> deploy(client, Serving(port=8000, replicas=2))["url"]  # doctest: +SKIP
'http://127.0.0.1:8000'
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import ray
from ray import serve

from wonder_ray.client import Client
from wonder_ray.errors import ServiceUnavailableError, WonderError
from wonder_ray.http.app import create_app
from wonder_ray.http.backend import Backend
from wonder_ray.http.certificates import why_unusable
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from fastapi import FastAPI

APPLICATION: Final = "wonder"
DEPLOYMENT: Final = "http"
REQUESTS_MAX: Final = 1_000
"""Of one replica at a time. A stream of events is one for as long as it lasts, and costs next to nothing while it is silent."""
HEALTH_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 2.0
"""For requests under way when a replica is ended; streams are cut, and their readers go on elsewhere."""
CHECK_SECONDS: Final = 60.0
_HEAD: Final = "node:__internal_head__"
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - told from others, not listened at


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API is served.

    Attributes:
        host: The address to listen at; the default one is reached from the same machine only.
        port: The port.
        replicas: How many processes answer.
        certificate: A TLS certificate (PEM) on the head node; with `private_key`, for `https://`.
        private_key: Its key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    certificate: str | None = None
    private_key: str | None = None

    @property
    def url(self) -> str:
        """What clients on this machine are given."""
        host = "127.0.0.1" if self.host in _EVERYWHERE else f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.certificate is None else 'https'}://{host}:{self.port}"


def deploy(client: Client, wanted: Serving) -> dict[str, Any]:
    """Serve the API of a cluster, or change how it is served; what `standing` tells then.

    The replicas live on the node of the services, whose storage folder holds the log.

    Raises:
        WonderError: Ray Serve listens elsewhere on this cluster already, the port is taken, or the certificate cannot be used.
        ServiceUnavailableError: It does not come up.
    """
    _be_quiet()
    _check_certificate(wanted)
    secure = {"ssl_certfile": wanted.certificate, "ssl_keyfile": wanted.private_key} if wanted.certificate else {}
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": wanted.host, "port": wanted.port, **secure})
        _check_place(wanted)
        serve.run(_application(client, wanted.replicas), name=APPLICATION, route_prefix="/", blocking=False)
    except (RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        said = str(error).strip().rpartition("\n")[2]
        msg = f"the API cannot be served at {wanted.url}: {said}; see `wonder status`, and Ray's `serve` logs"
        raise ServiceUnavailableError(msg) from error
    found = standing()
    assert found is not None, "it has just been deployed"
    return found


def standing() -> dict[str, Any] | None:
    """How the API is served: `{"url", "health", "replicas"}`; None when it is not."""
    _be_quiet()
    try:
        found = serve.status().applications.get(APPLICATION)
        options = _client().http_config
    except (serve.exceptions.RayServeException, ray.exceptions.RayError):
        return None
    if found is None:
        return None
    states = next((dict(each.replica_states) for each in found.deployments.values()), {})
    running = sum(count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING")
    listening = Serving(host=options.host, port=options.port, certificate=options.ssl_certfile)
    status = str(getattr(found.status, "value", found.status))
    said = f"{status.lower()}: {found.message}".rstrip(": ")
    return {"url": listening.url, "health": "ok" if status == "RUNNING" else said, "replicas": running}


def stop() -> bool:
    """End the API, and Ray Serve with it where it serves nothing else; whether it was served."""
    found = standing()
    if found is None:
        return False
    others = [name for name in serve.status().applications if name != APPLICATION]
    if others:
        serve.delete(APPLICATION)
    else:
        serve.shutdown()
    return True


def _application(client: Client, replicas: int) -> Any:
    node = client._services.call("logs", "ping")["node"]  # noqa: SLF001 - the same package's way to them
    storage = str(client.storage.root)

    def build() -> FastAPI:
        return application(storage)

    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=replicas,
        max_ongoing_requests=REQUESTS_MAX,
        ray_actor_options={"num_cpus": 0, "label_selector": {"ray.io/node-id": node}},
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        graceful_shutdown_wait_loop_s=0.1,
    )
    return deployment(serve.ingress(build)()).bind()


def application(storage: str) -> FastAPI:
    """What each replica runs."""
    return create_app(Backend(Client(Layout(storage))), LogClient(remote_sender(), "http"))


def _client() -> Any:
    """Serve's own client, which alone knows where its proxies listen."""
    from ray.serve.context import _get_global_client

    return _get_global_client()


def _check_certificate(wanted: Serving) -> None:
    """Raise where the head node, on which Serve listens, has no usable certificate."""
    if wanted.certificate is None:
        return
    on_head: Any = ray.remote(num_cpus=0, resources={_HEAD: 0.001})(why_unusable)
    wrong = ray.get(on_head.remote(wanted.certificate, wanted.private_key), timeout=CHECK_SECONDS)
    if wrong is not None:
        raise WonderError(f"the API cannot be served at {wanted.url}: {wrong}, on the head node")


def _check_place(wanted: Serving) -> None:
    """Raise where Serve listens elsewhere: what it was started with stays until it is shut down."""
    options = _client().http_config
    listening = Serving(host=options.host, port=options.port, certificate=options.ssl_certfile, replicas=wanted.replicas)
    if (listening.host, listening.port, listening.certificate) == (wanted.host, wanted.port, wanted.certificate):
        return
    msg = (
        f"Ray Serve listens at {listening.url} on this cluster already, and cannot be moved to {wanted.url}: "
        "end it first with `wonder serve --stop`, or serve there"
    )
    raise WonderError(msg)


def _be_quiet() -> None:
    for name in ("ray.serve", "ray"):
        with suppress(KeyError):
            logging.getLogger(name).setLevel(logging.ERROR)
