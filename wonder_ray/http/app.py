"""The application put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from wonder_ray import __version__
from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.http import administration, definitions, groups, histories, logs, models, reports, runs, workspaces
from wonder_ray.http.access import Admission
from wonder_ray.http.following import Watch
from wonder_ray.http.guard import Guard, Limits
from wonder_ray.http.problems import MEDIA_TYPE, HttpError, Problem, printable, problem_of, response_of
from wonder_ray.problems import PREFIX

if TYPE_CHECKING:
    from wonder_ray.http.backend import Backend
    from wonder_ray.resources.request_log import Log

_PROBLEM: Final = {
    "type": f"{PREFIX}run-not-found",
    "title": "run not found",
    "status": 404,
    "detail": "no run matches 'run_0'; see `wonder runs`",
    "request_id": "4f0c8a1be2d34567",
}
_SHAPE: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
    },
}
_REFUSALS: Final = {
    400: "It is no JSON, or too deep",
    401: "There is no good API key",
    403: "The API key is not for this",
    404: "There is no such run, workflow or workspace",
    408: "The body did not arrive in time",
    409: "It contradicts what is there",
    413: "The body is too large",
    415: "The body is encoded, or no JSON by its Content-Type",
    422: "It says what cannot be",
    429: "Too many requests",
    431: "The headers are too large",
    500: "An error of the service",
    503: "A service does not answer; repeat it, with the same Idempotency-Key",
    504: "There was no answer in time; repeat it, with the same Idempotency-Key",
}
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": _SHAPE, "example": _PROBLEM}}}
    for status, text in _REFUSALS.items()
}


METHOD_NOT_ALLOWED: Final = 405
_PARTS: Final = (definitions, runs, groups, histories, logs, reports, workspaces, administration)


def create_app(backend: Backend, log: Log, limits: Limits | None = None) -> FastAPI:
    """The API as an ASGI application; it keeps nothing between requests, so any number of it may stand side by side.

    Args:
        backend: The way to the services.
        log: A `LogClient` of the service `http`.
        limits: Bounds of one request.

    Example:
        >>> app = create_app(Backend(client), LogClient(send, "http"))  # doctest: +SKIP
    """
    bounds = limits or Limits()
    app = FastAPI(
        title="wonder-ray",
        version=__version__,
        description="Durable workflows: start runs, look at them, tell them things.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # a redirect would have the API key sent once more, perhaps without TLS
    )
    app.state.backend, app.state.lines, app.state.limits = backend, log, bounds
    app.state.watch = Watch(backend)
    app.add_middleware(
        Guard, log=log, limits=bounds, admit=Admission(app, [route for part in _PARTS for route in part.router.routes])
    )
    app.add_exception_handler(WonderError, _refused)
    app.add_exception_handler(HTTPException, _http_refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_api_route("/health", _health, tags=["service"], summary="Is it there?", response_model=models.Health)
    unready: dict[int | str, dict[str, Any]] = {503: RESPONSES[503]}
    app.add_api_route(
        "/ready", _ready, tags=["service"], summary="Can it serve?", response_model=models.Health, responses=unready
    )
    for part in _PARTS:
        app.include_router(part.router, responses=RESPONSES)
    return app


def _health() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


def _ready(request: Request) -> dict[str, str]:
    """The registry and the event service answer, too."""
    request.app.state.backend.ready()
    return {"status": "ok"}


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, WonderError)
    if isinstance(error, (StorageError, ServiceUnavailableError)):
        request.app.state.lines.error("request_failed", str(error), error=error, path=request.url.path)
    return response_of(problem_of(error))


def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = response_of(problem_of(HttpError(error.status_code, "http", str(error.detail))))
    found.headers.update(error.headers or {})
    if error.status_code == METHOD_NOT_ALLOWED:  # of all routes of that path, not of the first one alone
        routes: list[Any] = [route for part in _PARTS for route in part.router.routes]
        methods = {each for route in routes if route.matches(request.scope)[0] is Match.PARTIAL for each in route.methods}
        found.headers["Allow"] = ", ".join(sorted(methods)) or found.headers.get("Allow", "GET")
    return found


def _invalid(_request: Request, error: Exception) -> Response:
    """Which field, and why; not its value, which may be a secret."""
    assert isinstance(error, RequestValidationError)
    places = [
        {"where": [printable(str(part)) for part in each["loc"]], "what": printable(each["msg"])} for each in error.errors()
    ]
    first = places[0]
    detail = f"{'.'.join(first['where'])}: {first['what']}"
    return response_of(Problem(422, "invalid", detail, {"errors": places[:20]}, {}))
