"""Who sends a request, and what it may do: asked of the registry for every request, so that nothing is kept here."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from wonder_ray.errors import WonderError
from wonder_ray.http.backend import Backend
from wonder_ray.http.guard import note_refusal
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


class Scoped:
    """A dependency: the caller, if its API key is good for this scope in the workspace that is meant."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    def __call__(self, request: Request, credentials: Credentials, workspace: Workspace = None) -> Caller:
        """Ask the registry."""
        backend: Backend = request.app.state.backend
        token = "" if credentials is None else credentials.credentials
        try:
            identity = backend.call("resources", "authorize", token, scope=self.scope, workspace_id=workspace)
        except WonderError as error:
            note_refusal(request.app.state.lines, error, request.url.path)
            raise
        request.state.identity = identity
        return Caller(backend, identity.workspace_id)


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
ReadLogs = Annotated[Caller, Depends(Scoped("logs:read"))]
ReadDefinitions = Annotated[Caller, Depends(Scoped("definitions:read"))]
WriteDefinitions = Annotated[Caller, Depends(Scoped("definitions:write"))]
