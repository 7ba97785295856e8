"""`wonder workspace`, `project`, `key` and `secret`: what the registry keeps beside runs and definitions.

Without `--address` they work on the registry of the storage folder itself, beside a cluster that may use it, and start no Ray.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from wonder_ray.cli.options import Address, AsJson, JsonLines, Storage
from wonder_ray.cli.reaching import server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wonder_ray.resources.administration import Administration

_DAY_US: Final = 24 * 3600 * 1_000_000

Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
KeyId: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the key: see `wonder key list`.", show_default=False)
]
Workspace: TypeAlias = Annotated[
    str | None,
    typer.Option("--workspace", metavar="W", help="The workspace. [default: 'default'; with --server that of the API key]"),
]
Description: TypeAlias = Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")]
Everywhere: TypeAlias = Annotated[bool, typer.Option("--all-workspaces", help="Good for all workspaces instead of one.")]
RatePerS: TypeAlias = Annotated[
    float | None, typer.Option("--rate", metavar="N", help="How many requests per second it allows.", min=0)
]
Burst: TypeAlias = Annotated[
    float | None, typer.Option("--burst", metavar="N", help="How many may come at once after a pause.", min=0)
]
_ITS_GRACE: Final = "For how many seconds the old one stays good."
_NEEDS: Final = "What it may do; may be repeated: runs:read, runs:write, definitions:read, ..., admin (everything)."


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, text, commands in (
        ("workspace", "Workspaces: whose runs, definitions, API keys and secrets.", _WORKSPACE),
        ("project", "Projects: parts of a workspace.", _PROJECT),
        ("key", "API keys of the HTTP interface.", _KEY),
        ("secret", "Secrets that runs may use, as secret://NAME.", _SECRET),
    ):
        group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
        for command, function in commands:
            group.command(command)(function)
        app.add_typer(group, name=name)


@contextmanager
def administration(address: str | None, storage: Any) -> Iterator[Administration]:
    """The registry: a cluster's, or that of the storage folder itself."""
    if address is not None or server() is not None:
        from wonder_ray.cli.carrying import connected

        with connected(address, storage) as client:
            yield client.admin
        return
    from wonder_ray.resources.opening import open_service
    from wonder_ray.storage.layout import Layout

    service = open_service(Layout(storage).prepare())
    try:
        yield service
    finally:
        service.close()


def of(workspace: str | None, *, everywhere: bool = False) -> dict[str, Any]:
    """Which workspace is meant, as the methods of the registry take it; nothing, where it is theirs to say."""
    if everywhere and workspace is not None:
        raise typer.BadParameter("give --workspace, or --all-workspaces")
    return {"workspace_id": None} if everywhere else {} if workspace is None else {"workspace_id": workspace}


def list_workspaces(json: JsonLines = False, address: Address = None, storage: Storage = None) -> None:
    """List all workspaces."""
    with administration(address, storage) as admin:
        _show(admin.list_workspaces(), ("workspace_id", "rate_per_s", "burst", "description"), json=json)


def create_workspace(name: Name, description: Description = "", address: Address = None, storage: Storage = None) -> None:
    """Make a workspace."""
    with administration(address, storage) as admin:
        admin.create_workspace(name, description=description)
    typer.echo(f"workspace {name} is there")


def limit_workspace(
    name: Name,
    rate: RatePerS = None,
    burst: Burst = None,
    none: Annotated[bool, typer.Option("--none", help="Take the limit away.")] = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Limit the requests that all API keys of a workspace may make together."""
    if none == (rate is not None):
        raise typer.BadParameter("give --rate, or --none")
    with administration(address, storage) as admin:
        found = admin.update_workspace(name, rate_per_s=rate, burst=burst, unlimited=none)
    limit = "no limit" if found.rate_per_s is None else f"{found.rate_per_s:g} requests a second"
    typer.echo(f"workspace {name}: {limit}")


def delete_workspace(name: Name, address: Address = None, storage: Storage = None) -> None:
    """Remove a workspace that holds nothing."""
    with administration(address, storage) as admin:
        admin.delete_workspace(name)
    typer.echo(f"workspace {name} is gone")


def list_projects(workspace: Workspace = None, json: JsonLines = False, address: Address = None, storage: Storage = None) -> None:
    """List the projects of a workspace."""
    with administration(address, storage) as admin:
        _show(admin.list_projects(**of(workspace)), ("project_id", "description"), json=json)


def create_project(
    name: Name,
    workspace: Workspace = None,
    description: Description = "",
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Make a project."""
    with administration(address, storage) as admin:
        admin.create_project(name, **of(workspace), description=description)
    typer.echo(f"project {name} is there")


def delete_project(name: Name, workspace: Workspace = None, address: Address = None, storage: Storage = None) -> None:
    """Remove a project without runs."""
    with administration(address, storage) as admin:
        admin.delete_project(name, **of(workspace))
    typer.echo(f"project {name} is gone")


def list_keys(
    workspace: Workspace = None,
    all_workspaces: Everywhere = False,
    json: JsonLines = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """List the API keys of a workspace; the keys themselves are known to nobody."""
    with administration(address, storage) as admin:
        found = admin.list_api_keys(**of(workspace, everywhere=all_workspaces))
        _show(found, ("key_id", "name", "scopes", "rate_per_s", "used_us", "expires_us", "revoked_us"), json=json)


def create_key(
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", metavar="S", help=_NEEDS)],
    workspace: Workspace = None,
    all_workspaces: Everywhere = False,
    rate: RatePerS = None,
    burst: Burst = None,
    days: Annotated[int | None, typer.Option(metavar="N", help="How long it is good; by default for ever.", min=1)] = None,
    *,
    json: AsJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Make an API key; it is shown this once."""
    from wonder_ray.clock import SystemClock

    with administration(address, storage) as admin:
        made = admin.create_api_key(
            name,
            tuple(scope),
            **of(workspace, everywhere=all_workspaces),
            expires_us=None if days is None else SystemClock().now_us() + days * _DAY_US,
            rate_per_s=rate,
            burst=burst,
        )
    _show_key(made, json=json)


def rotate_key(
    key_id: KeyId,
    grace: Annotated[float, typer.Option(metavar="SECONDS", help=_ITS_GRACE, min=0)] = 24 * 3600.0,
    json: AsJson = False,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Replace an API key by a new one of the same id; it is shown this once."""
    with administration(address, storage) as admin:
        made = admin.rotate_api_key(key_id, grace_s=grace)
    _show_key(made, json=json)


def revoke_key(key_id: KeyId, address: Address = None, storage: Storage = None) -> None:
    """End an API key at once."""
    with administration(address, storage) as admin:
        admin.revoke_api_key(key_id)
    typer.echo(f"API key {key_id} is revoked")


def list_secrets(workspace: Workspace = None, json: JsonLines = False, address: Address = None, storage: Storage = None) -> None:
    """List the secrets of a workspace; never their values."""
    with administration(address, storage) as admin:
        _show(admin.list_secrets(**of(workspace)), ("name", "provider", "location", "version", "description"), json=json)


def set_secret(
    name: Name,
    env: Annotated[str | None, typer.Option(metavar="VAR", help="Executors find the value in this variable.")] = None,
    file: Annotated[str | None, typer.Option(metavar="PATH", help="Executors find the value in this file.")] = None,
    workspace: Workspace = None,
    description: Description = "",
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Make a secret or change it; without --env and --file its value is read from stdin, and stored encrypted."""
    value = _value() if env is None and file is None else None
    with administration(address, storage) as admin:
        found = admin.put_secret(name, value=value, env=env, file=file, **of(workspace), description=description)
    typer.echo(f"{found.reference} ({found.provider}), version {found.version}")


def delete_secret(name: Name, workspace: Workspace = None, address: Address = None, storage: Storage = None) -> None:
    """Remove a secret."""
    with administration(address, storage) as admin:
        admin.delete_secret(name, **of(workspace))
    typer.echo(f"secret {name} is gone")


_WORKSPACE: Final = (
    ("list", list_workspaces),
    ("create", create_workspace),
    ("limit", limit_workspace),
    ("delete", delete_workspace),
)
_PROJECT: Final = (("list", list_projects), ("create", create_project), ("delete", delete_project))
_KEY: Final = (("list", list_keys), ("create", create_key), ("rotate", rotate_key), ("revoke", revoke_key))
_SECRET: Final = (("list", list_secrets), ("set", set_secret), ("delete", delete_secret))


def _value() -> str:
    """The value that is typed, unseen, or piped in; never an argument, which every user of the machine could read."""
    if sys.stdin.isatty():
        return str(typer.prompt("value", hide_input=True, confirmation_prompt=True))
    return sys.stdin.read().removesuffix("\n")


def _show_key(made: Any, *, json: bool) -> None:
    import msgspec

    from wonder_ray.cli.output import print_json, warn

    if json:
        print_json({**msgspec.to_builtins(made.record), "token": made.token})
        return
    typer.echo(made.token)
    warn(f"API key {made.record.name!r}, id {made.record.key_id}: keep it now, it is not shown again")


def _show(found: Sequence[Any], columns: tuple[str, ...], *, json: bool) -> None:
    import msgspec

    from wonder_ray.cli.output import print_json, safe, when

    if json:
        for record in found:
            print_json(msgspec.to_builtins(record))
        return
    rows = [[_cell(getattr(record, column), column, when) for column in columns] for record in found]
    titles = [column.removesuffix("_us").replace("_", " ") for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        typer.echo("  ".join(safe(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: Any, column: str, when: Any) -> str:
    if value is None:
        return "-"
    if column.endswith("_us"):
        return str(when(value))
    return " ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
