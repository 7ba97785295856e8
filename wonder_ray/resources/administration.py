"""The part of the registry that is no run and no definition: workspaces, projects, API keys and secrets, validated and logged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from wonder_ray.ids import check_name
from wonder_ray.resources import checks
from wonder_ray.resources.records import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.resources.access_records import ApiKeyRecord, Identity, NewApiKey, Reach, SecretGrant, SecretRecord
    from wonder_ray.resources.records import ProjectRecord, WorkspaceRecord
    from wonder_ray.resources.request_log import RequestLog
    from wonder_ray.resources.store import ResourcesStore

GRACE_S: Final = 24 * 3600.0
"""How long a rotated API key stays good by default."""


class Administration:
    """See `ResourcesService`."""

    def __init__(self, store: ResourcesStore, log: RequestLog) -> None:
        self._store = store
        self._log = log

    # --- workspaces and projects -----------------------------------------------------------------------------------------

    def create_workspace(self, workspace_id: str, *, description: str = "") -> WorkspaceRecord:
        """A new workspace, with its project `default`; a `ConflictError` when there is one of this name."""
        with self._log.request("create_workspace", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            made = self._store.workspaces.create(workspace_id, checks.check_description(description))
            self._log.done("workspace_created", f"workspace {workspace_id!r}", workspace_id=workspace_id)
            return made

    def get_workspace(self, workspace_id: str) -> WorkspaceRecord:
        """A workspace; a `NotFoundError` when there is none of this name."""
        with self._log.request("get_workspace", workspace_id=workspace_id):
            return self._store.workspaces.get(check_name(workspace_id, "workspace"))

    def list_workspaces(self) -> list[WorkspaceRecord]:
        """All workspaces, by name."""
        with self._log.request("list_workspaces"):
            return self._store.workspaces.all()

    def update_workspace(
        self,
        workspace_id: str,
        *,
        description: str | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
        unlimited: bool = False,
    ) -> WorkspaceRecord:
        """Change what is given.

        Args:
            workspace_id: Which.
            description: What it is for.
            rate_per_s: How many requests per second its API keys may make together.
            burst: How many may come at once after a pause.
            unlimited: Take the limit away.
        """
        with self._log.request("update_workspace", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            checks.check_rate(rate_per_s, burst)
            changes: dict[str, Any] = {"rate_per_s": None, "burst": None} if unlimited else {}
            if description is not None:
                changes["description"] = checks.check_description(description)
            if rate_per_s is not None:
                changes |= {"rate_per_s": rate_per_s, "burst": burst}
            changed = self._store.workspaces.update(workspace_id, changes)
            self._log.done("workspace_updated", f"workspace {workspace_id!r}", workspace_id=workspace_id, changed=sorted(changes))
            return changed

    def delete_workspace(self, workspace_id: str) -> None:
        """Remove a workspace that holds no run, definition, secret, or API key that is still good."""
        with self._log.request("delete_workspace", workspace_id=workspace_id):
            self._store.workspaces.delete(check_name(workspace_id, "workspace"))
            self._log.done("workspace_deleted", f"workspace {workspace_id!r}", workspace_id=workspace_id)

    def create_project(self, project_id: str, *, workspace_id: str = DEFAULT_WORKSPACE, description: str = "") -> ProjectRecord:
        """A new project; a `ConflictError` when there is one of this name."""
        where = {"workspace_id": workspace_id, "project_id": project_id}
        with self._log.request("create_project", **where):
            _check_project(workspace_id, project_id)
            made = self._store.workspaces.create_project(workspace_id, project_id, checks.check_description(description))
            self._log.done("project_created", f"project {project_id!r}", **where)
            return made

    def get_project(self, project_id: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> ProjectRecord:
        """A project; a `NotFoundError` when there is none of this name."""
        with self._log.request("get_project", workspace_id=workspace_id, project_id=project_id):
            _check_project(workspace_id, project_id)
            return self._store.workspaces.get_project(workspace_id, project_id)

    def list_projects(self, *, workspace_id: str = DEFAULT_WORKSPACE) -> list[ProjectRecord]:
        """The projects of a workspace, by name."""
        with self._log.request("list_projects", workspace_id=workspace_id):
            return self._store.workspaces.list_projects(check_name(workspace_id, "workspace"))

    def update_project(self, project_id: str, *, workspace_id: str = DEFAULT_WORKSPACE, description: str) -> ProjectRecord:
        """Change its description."""
        where = {"workspace_id": workspace_id, "project_id": project_id}
        with self._log.request("update_project", **where):
            _check_project(workspace_id, project_id)
            changed = self._store.workspaces.update_project(workspace_id, project_id, checks.check_description(description))
            self._log.done("project_updated", f"project {project_id!r}", **where)
            return changed

    def delete_project(self, project_id: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> None:
        """Remove a project without runs."""
        where = {"workspace_id": workspace_id, "project_id": project_id}
        with self._log.request("delete_project", **where):
            _check_project(workspace_id, project_id)
            self._store.workspaces.delete_project(workspace_id, project_id)
            self._log.done("project_deleted", f"project {project_id!r}", **where)

    # --- definitions -----------------------------------------------------------------------------------------------------

    def delete_definition(self, name: str, *, version: str | None = None, workspace_id: str = DEFAULT_WORKSPACE) -> list[str]:
        """Remove a version of a workflow, or all of them, where no run has it: a run keeps its definition.

        Returns:
            The versions that were removed.

        Raises:
            DefinitionError: There is none.
            ConflictError: It has runs.
        """
        with self._log.request("delete_definition", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            check_name(name, "workflow")
            if version is not None:
                checks.check_text(version, "a version", checks.KEY_MAX)
            removed = self._store.delete_definition(name, version, workspace_id=workspace_id)
            self._log.done(
                "definition_deleted", f"{len(removed)} versions of workflow {name!r}", workspace_id=workspace_id, versions=removed
            )
            return removed

    # --- API keys --------------------------------------------------------------------------------------------------------

    def create_api_key(
        self,
        name: str,
        scopes: tuple[str, ...],
        *,
        workspace_id: str | None = DEFAULT_WORKSPACE,
        expires_us: int | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
    ) -> NewApiKey:
        """A new API key; its `token` is never shown again.

        Args:
            name: What it is for.
            scopes: What it may do: see `SCOPES`.
            workspace_id: The only workspace it is good for; None is all of them.
            expires_us: When it ends, in microseconds since 1970; by default never.
            rate_per_s: How many requests per second it may make; by default only its workspace's limit holds.
            burst: How many may come at once after a pause.
        """
        with self._log.request("create_api_key", workspace_id=workspace_id):
            if workspace_id is not None:
                check_name(workspace_id, "workspace")
            check_name(name, "API key")
            checks.check_scopes(scopes)
            checks.check_rate(rate_per_s, burst)
            checks.check_time(expires_us)
            made = self._store.api_keys.create(
                name, scopes, workspace_id, expires_us=expires_us, rate_per_s=rate_per_s, burst=burst
            )
            self._note_key("api_key_created", made.record)
            return made

    def rotate_api_key(self, key_id: str, *, grace_s: float = GRACE_S) -> NewApiKey:
        """A new token for an API key; the old one stays good for `grace_s` seconds (0: not at all)."""
        with self._log.request("rotate_api_key"):
            checks.check_text(key_id, "an id", checks.KEY_MAX)
            made = self._store.api_keys.rotate(key_id, checks.check_grace(grace_s))
            self._note_key("api_key_rotated", made.record)
            return made

    def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """End an API key at once."""
        with self._log.request("revoke_api_key"):
            checks.check_text(key_id, "an id", checks.KEY_MAX)
            revoked = self._store.api_keys.revoke(key_id)
            self._note_key("api_key_revoked", revoked)
            return revoked

    def get_api_key(self, key_id: str) -> ApiKeyRecord:
        """An API key, without its token."""
        with self._log.request("get_api_key"):
            return self._store.api_keys.get(checks.check_text(key_id, "an id", checks.KEY_MAX))

    def list_api_keys(self, *, workspace_id: str | None = DEFAULT_WORKSPACE) -> list[ApiKeyRecord]:
        """The API keys of a workspace, or (None) those that are good for all; oldest first."""
        with self._log.request("list_api_keys", workspace_id=workspace_id):
            if workspace_id is not None:
                check_name(workspace_id, "workspace")
            return self._store.api_keys.all(workspace_id)

    def authorize(
        self, token: str, *, scope: str | None = None, workspace_id: str | None = None, reach: Reach = "one", cost: float = 1.0
    ) -> Identity:
        """Who sends this API key, when it is good for this scope in this workspace and has requests left; it pays for one.

        Args:
            token: What the client sent.
            scope: What it wants to do; None for what every key may.
            workspace_id: Where; by default the workspace of the key.
            reach: How far that goes.
            cost: How many requests this one counts for.

        Raises:
            AuthenticationError: It is no good key (HTTP 401).
            ForbiddenError: It is one, but not for this (HTTP 403).
            NotFoundError: There is no such workspace (only a key for all workspaces is told).
            RateLimitedError: Its requests, or those of its workspace, are used up for now (HTTP 429, `retry_after_s`).
        """
        with self._log.request("authorize", workspace_id=workspace_id):
            if scope is not None:
                checks.check_scopes((scope,))
            checks.check_rate(cost, None)
            return self._store.api_keys.authorize(token, scope, workspace_id, reach, cost)

    def _note_key(self, event_type: str, key: ApiKeyRecord) -> None:
        self._log.done(event_type, f"API key {key.name!r}", key_id=key.key_id, workspace_id=key.workspace_id, scopes=key.scopes)

    # --- secrets ---------------------------------------------------------------------------------------------------------

    def put_secret(
        self,
        name: str,
        *,
        value: str | None = None,
        env: str | None = None,
        file: str | None = None,
        workspace_id: str = DEFAULT_WORKSPACE,
        description: str = "",
    ) -> SecretRecord:
        """Make a secret, or change it: exactly one of `value`, `env` and `file` is given.

        Args:
            name: Inputs refer to it as `secret://name`.
            value: The value itself, which is stored encrypted.
            env: The environment variable that holds it where executors run.
            file: The file that holds it where executors run.
            workspace_id: Whose runs may use it.
            description: What it is for.
        """
        with self._log.request("put_secret", workspace_id=workspace_id):
            check_name(workspace_id, "workspace")
            check_name(name, "secret")
            provider, location = checks.check_secret(value, env, file)
            text = checks.check_description(description)
            put = self._store.secrets.put(workspace_id, name, provider=provider, location=location, value=value, description=text)
            self._log.done("secret_put", f"secret {name!r} ({provider}), version {put.version}", workspace_id=workspace_id)
            return put

    def get_secret(self, name: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> SecretRecord:
        """A secret, without its value."""
        with self._log.request("get_secret", workspace_id=workspace_id):
            return self._store.secrets.get(check_name(workspace_id, "workspace"), check_name(name, "secret"))

    def list_secrets(self, *, workspace_id: str = DEFAULT_WORKSPACE) -> list[SecretRecord]:
        """The secrets of a workspace, without their values, by name."""
        with self._log.request("list_secrets", workspace_id=workspace_id):
            return self._store.secrets.all(check_name(workspace_id, "workspace"))

    def delete_secret(self, name: str, *, workspace_id: str = DEFAULT_WORKSPACE) -> None:
        """Remove a secret."""
        with self._log.request("delete_secret", workspace_id=workspace_id):
            self._store.secrets.delete(check_name(workspace_id, "workspace"), check_name(name, "secret"))
            self._log.done("secret_deleted", f"secret {name!r}", workspace_id=workspace_id)

    def grant_secret(self, run_id: str, name: str) -> SecretGrant:
        """For executors of a run: a secret of its workspace, or where its value is; a `SecretError` when there is none."""
        with self._log.request("grant_secret", trace_id=run_id):
            check_name(name, "secret")
            granted = self._store.secrets.grant(run_id, name)
            self._log.done("secret_granted", f"secret {name!r} ({granted.provider})", trace_id=run_id, secret=name)
            return granted

    def reseal_secrets(self) -> int:
        """Encrypt stored secrets anew, with the newest master key; how many an older one had encrypted."""
        with self._log.request("reseal_secrets"):
            resealed = self._store.secrets.reseal()
            self._log.done("secrets_resealed", f"{resealed} secrets encrypted with the newest master key", resealed=resealed)
            return resealed


def remote_administration(call: Callable[..., Any]) -> Administration:
    """The same methods, of a registry that is reached by calling its methods by name."""

    class Remote:
        def __getattr__(self, method: str) -> Callable[..., Any]:
            if method.startswith("_") or not hasattr(Administration, method):
                raise AttributeError(method)
            return partial(call, method)

    return cast("Administration", Remote())


def _check_project(workspace_id: str, project_id: str) -> None:
    check_name(workspace_id, "workspace")
    check_name(project_id, "project")
