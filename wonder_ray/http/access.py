"""Who sends a request, and what it may do: asked of the registry for every request, so that nothing is kept here."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, FastAPI, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute, Match

from wonder_ray.client import Run
from wonder_ray.errors import ForbiddenError, WonderError
from wonder_ray.http.backend import Backend
from wonder_ray.http.guard import note_refusal
from wonder_ray.resources.access_records import SAY_WHICH, Reach
from wonder_ray.resources.checks import check_key

bearer = HTTPBearer(auto_error=False, description="An API key: `wonder_...`")
Workspace = Annotated[
    str | None,
    Header(
        alias="Wonder-Workspace", description="The workspace that is meant; by default the one of the API key.", max_length=128
    ),
]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


class Caller(NamedTuple):
    """Who asks, and the way to what is asked for."""

    backend: Backend
    workspace_id: str

    def run(self, ref: str) -> Run:
        """A run of the caller's workspace, to be looked at and told things."""
        return self.backend.run(self.backend.record(ref, self.workspace_id))


class WideCaller(NamedTuple):
    """Who asks for what may reach beyond one workspace."""

    backend: Backend
    workspace_id: str | None
    """The one that is meant; None is all of them."""
    all_workspaces: bool
    """Whether the API key is good for all of them."""

    def in_one(self) -> Caller:
        """The same for one workspace; a `ForbiddenError` where none is named."""
        if self.workspace_id is None:
            raise ForbiddenError(f"the API key is for all workspaces: {SAY_WHICH}")
        return Caller(self.backend, self.workspace_id)


class Needing:
    """A dependency: what an endpoint wants of an API key, which `Admission` has looked at before."""

    def __init__(self, scope: str, reach: Reach = "one") -> None:
        self.scope = scope
        self.reach = reach


class Scoped(Needing):
    """The caller, whose API key is good for this scope in the workspace that is meant."""

    def __call__(self, request: Request, _credentials: Credentials, _workspace: Workspace = None) -> Caller:
        """Who it is."""
        return Caller(request.app.state.backend, request.state.identity.workspace_id)


class ScopedWidely(Needing):
    """The same for what may reach further."""

    def __call__(self, request: Request, _credentials: Credentials, _workspace: Workspace = None) -> WideCaller:
        """Who it is."""
        identity = request.state.identity
        return WideCaller(request.app.state.backend, identity.workspace_id, identity.all_workspaces)


class Admission:
    """Asks the registry who sends a request, before anything of its body is read.

    Args:
        app: The application.
        routes: All of its routes that want an API key.
    """

    def __init__(self, app: FastAPI, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = [(route, _needed_by(route)) for route in routes]

    async def __call__(self, scope: MutableMapping[str, Any]) -> None:
        """Let a request in, and note whose it is in its state; a `WonderError` says why not.

        What needs no API key, or does not exist, is let in.
        """
        needed = self._needed(scope)
        if needed is None:
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        workspace = headers.get(b"wonder-workspace") or None
        asked = {"scope": needed.scope, "reach": needed.reach, "workspace_id": workspace}
        state = self._app.state
        try:
            identity = await run_in_threadpool(
                state.backend.call, "resources", "authorize", token.strip() if kind.lower() == "bearer" else "", **asked
            )
        except WonderError as error:
            note_refusal(state.lines, error, scope["path"])
            raise
        scope.setdefault("state", {})["identity"] = identity

    def _needed(self, scope: MutableMapping[str, Any]) -> Needing | None:
        """What the endpoint wants; None where it wants none."""
        return next((needed for route, needed in self._routes if route.matches(scope)[0] is Match.FULL), None)


def _needed_by(route: BaseRoute) -> Needing:
    """What it wants of an API key; an error in the program when that is nothing."""
    dependant: Any = route.dependant  # type: ignore[attr-defined] # it is one of FastAPI's
    return next(each.call for each in dependant.dependencies if isinstance(each.call, Needing))


def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Your name for this request: a repetition with it has no further effect, and gets the first answer.",
            max_length=256,
        ),
    ] = None,
) -> str | None:
    """The key that a request came with."""
    if key is not None:
        check_key(key)
    return key


Key = Annotated[str | None, Depends(idempotency_key)]
ReadRuns = Annotated[Caller, Depends(Scoped("runs:read"))]
WriteRuns = Annotated[Caller, Depends(Scoped("runs:write"))]
ReadEvents = Annotated[Caller, Depends(Scoped("events:read"))]
ReadEventsAny = Annotated[WideCaller, Depends(ScopedWidely("events:read", "any"))]
ReadEventsAll = Annotated[WideCaller, Depends(ScopedWidely("events:read", "all"))]
ReadLogs = Annotated[Caller, Depends(Scoped("logs:read"))]
ReadLogsAny = Annotated[WideCaller, Depends(ScopedWidely("logs:read", "any"))]
ReadDefinitions = Annotated[Caller, Depends(Scoped("definitions:read"))]
WriteDefinitions = Annotated[Caller, Depends(Scoped("definitions:write"))]
ReadSecrets = Annotated[Caller, Depends(Scoped("secrets:read"))]
WriteSecrets = Annotated[Caller, Depends(Scoped("secrets:write"))]
Administer = Annotated[Caller, Depends(Scoped("admin"))]
AdministerAny = Annotated[WideCaller, Depends(ScopedWidely("admin", "any"))]
AdministerAll = Annotated[WideCaller, Depends(ScopedWidely("admin", "all"))]
