from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import typer

from wonder_ray.cli import administering
from wonder_ray.resources.opening import open_service
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Call, Called

CANARY = "canary-71c4-value"


@pytest.fixture
def on(wonder: Call, storage: Path) -> Call:
    """Calls a command on an empty storage."""

    def call(*args: object, stdin: str | None = None) -> Called:
        return wonder(*args, "--storage", storage, stdin=stdin)

    return call


def test_workspaces_and_projects_are_made_listed_limited_and_removed(on: Call) -> None:
    assert on("workspace", "create", "team", "--description", "ours").out == "workspace team is there\n"
    assert on("workspace", "limit", "team", "--rate", 5).out == "workspace team: 5 requests a second\n"
    assert [each["workspace_id"] for each in on("workspace", "list", "--json").lines] == ["default", "team"]
    assert on("workspace", "list").out.splitlines()[2].split() == ["team", "5", "-", "ours"]
    assert on("workspace", "limit", "team", "--none").out == "workspace team: no limit\n"
    assert on("project", "create", "search", "--workspace", "team").code == 0
    assert [each["project_id"] for each in on("project", "list", "--workspace", "team", "--json").lines] == ["default", "search"]
    assert on("project", "delete", "search", "--workspace", "team").code == 0
    assert on("workspace", "delete", "team").code == 0
    found = on("workspace", "delete", "team")
    assert (found.code, found.err) == (2, "wonder: there is no workspace 'team': create it, or name another\n")


@pytest.mark.parametrize("args", [(), ("--rate", "5", "--none"), ("--rate", "-1")])
def test_a_limit_is_given_or_taken_away(on: Call, args: tuple[str, ...]) -> None:
    assert on("workspace", "limit", "default", *args).code == 2


def test_a_key_is_shown_once_and_is_good(on: Call, storage: Path) -> None:
    made = on("key", "create", "ci", "--scope", "runs:read", "--scope", "runs:write", "--rate", 10, "--days", 7)
    token = made.out.strip()
    service = open_service(Layout(storage))
    identity = service.authorize(token, scope="runs:write")
    listed = on("key", "list").out
    assert identity.key_id in listed
    assert "runs:read runs:write" in listed
    assert token.split("_")[2] not in listed + on("key", "list", "--json").out
    rotated = on("key", "rotate", identity.key_id, "--grace", 0, "--json").json
    assert rotated["key_id"] == identity.key_id
    assert service.authorize(rotated["token"]).name == "ci"
    assert on("key", "revoke", identity.key_id).code == 0
    assert on("key", "list", "--json").lines[0]["revoked_us"]
    assert on("key", "create", "x", "--scope", "everything").code == 2
    everywhere = on("key", "create", "root", "--scope", "admin", "--all-workspaces", "--json").json
    assert everywhere["workspace_id"] is None
    assert len(on("key", "list", "--all-workspaces", "--json").lines) == 1
    service.close()


def test_a_secret_comes_from_stdin_and_is_never_shown(on: Call, storage: Path) -> None:
    assert on("secret", "set", "openai", stdin=f"{CANARY}\n").out == "secret://openai (stored), version 1\n"
    assert on("secret", "set", "other", "--env", "OTHER_KEY", "--description", "of others").code == 0
    assert CANARY not in on("secret", "list").out + on("secret", "list", "--json").out
    assert [each["provider"] for each in on("secret", "list", "--json").lines] == ["stored", "env"]
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in storage.rglob("*") if path.is_file())
    assert on("secret", "delete", "other").code == 0
    short = on("secret", "set", "short", stdin="x7!\n")
    assert (short.code, "x7!" in short.err) == (2, False)


def test_a_secret_that_is_typed_is_not_echoed_and_typed_twice(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, object]] = []

    def prompt(_text: str, **options: object) -> str:
        asked.append(options)
        return CANARY

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", prompt)
    administering.set_secret("openai", storage=storage)
    assert asked == [{"hide_input": True, "confirmation_prompt": True}]
    assert CANARY not in "".join(capsys.readouterr())
