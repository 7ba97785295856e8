"""Every command has help, and the command line as a whole behaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from wonder_ray import __version__
from wonder_ray.cli.app import app

if TYPE_CHECKING:
    from tests.cli.conftest import Call

COMMANDS = (
    "run", "resume", "submit", "gates", "answer", "signal", "update", "pause", "cancel", "complete-group", "close-group",
    "add-members", "fork", "restart-from", "runs", "show", "state", "query", "events", "trace", "replay", "logs",
    "sql", "report", "validate", "import", "import wfformat", "up", "status", "down", "serve", "storage",
    "doctor",
    "workspace list", "workspace create", "workspace limit", "workspace delete", "project list", "project create",
    "project delete", "key list", "key create", "key rotate", "key revoke", "secret list", "secret set", "secret delete",
)  # fmt: skip
TELLING = "--key --follow --no-follow --json --address --storage"
FORKING = "--set --file --name --key --label --detach --until-wait --json --address --storage"
NEEDED = {
    "run": "--input --json --address --storage --key --trace --label --name --detach --runtime-env --until-wait",
    "resume": "--json --detach --storage --until-wait --key",
    "gates": "--json --storage",
    "answer": f"--by {TELLING}",
    "signal": f"--payload {TELLING}",
    "update": TELLING,
    "pause": f"--reason {TELLING}",
    "complete-group": f"--reason {TELLING}",
    "close-group": TELLING,
    "add-members": TELLING,
    "fork": f"--at {FORKING}",
    "restart-from": FORKING,
    "query": "--json --storage",
    "submit": "--address --input --json --no-wait --storage --key --trace --label --name --working-dir --requirements --python"
    " --entrypoint-num-cpus --entrypoint-num-gpus --entrypoint-memory --entrypoint-resources --metadata --submission-id",
    "cancel": "--reason --compensate --key --json --address --storage",
    "runs": "--status --workflow --limit --json --storage",
    "show": "--json --storage",
    "state": "--at --json --storage",
    "events": "--json --after --follow --type --storage",
    "trace": "--json --storage",
    "replay": "--json --storage",
    "logs": "--run --service --level --since --until --event-type --text --where --limit --archive --json --storage",
    "sql": "--json --csv --storage",
    "report": "--run --workflow --since --json --csv --storage",
    "validate": "--json --name --soundness --no-soundness --bound",
    "import wfformat": "--out --runtime-scale",
    "workspace list": "--json --address --storage",
    "workspace create": "--description --address --storage",
    "workspace limit": "--rate --burst --none --address --storage",
    "workspace delete": "--address --storage",
    "project list": "--workspace --json --address --storage",
    "project create": "--workspace --description --address --storage",
    "project delete": "--workspace --address --storage",
    "key list": "--workspace --all-workspaces --json --address --storage",
    "key create": "--scope --workspace --all-workspaces --rate --burst --days --json --address --storage",
    "key rotate": "--grace --json --address --storage",
    "key revoke": "--address --storage",
    "secret list": "--workspace --json --address --storage",
    "secret set": "--env --file --workspace --description --address --storage",
    "secret delete": "--workspace --address --storage",
    "up": "--json --address --storage",
    "status": "--json --address",
    "down": "--force --json --address",
    "serve": "--host --port --replicas --tls-cert --tls-key --stop --json --address --storage",
    "storage": "--apply --trust-clock --json --storage",
    "doctor": "--json --storage",
}
TOP = Path(__file__).parents[2]
HEAVY = ("ray", "pyarrow", "sqlmodel", "sqlalchemy", "pydantic", "rich", "apsw", "yaml")


def test_the_commands_are_these() -> None:
    group = typer.main.get_command(app)
    assert sorted(group.commands) == sorted({name.split()[0] for name in COMMANDS})  # type: ignore[attr-defined] # it is a group


def test_a_run_that_reads_its_input_is_not_started_without_one(wonder: Call, tmp_path: Path) -> None:
    flow = tmp_path / "flow.json"
    flow.write_text('{"name": "f", "nodes": [{"id": "a", "kind": "action", "action": "os:getenv", "input": {"key": "input.k"}}]}')
    found = wonder("run", flow, "--storage", tmp_path / "storage")
    assert (found.code, found.out) == (2, "")
    assert "--input" in found.err
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_is_documented(wonder: Call, command: str) -> None:
    found = wonder(*command.split(), "--help")
    assert found.code == 0
    options = [line for line in found.out.splitlines() if line.startswith("  -")]
    described = [line for line in options if "  " in line.strip()]
    following = [found.out.splitlines()[found.out.splitlines().index(line) + 1] for line in options if line not in described]
    assert all(line.startswith("        ") and line.strip() for line in following), found.out
    assert [option for option in NEEDED.get(command, "").split() if option not in found.out] == []
    group = typer.main.get_command(app)
    for name in command.split():
        group = group.commands[name]  # type: ignore[attr-defined] # it is a group
    assert group.help, command
    assert [param.name for param in group.params if param.name != "help" and not getattr(param, "help", None)] == []


def test_help_lists_every_command(wonder: Call) -> None:
    found = wonder("--help")
    assert (found.code, found.err) == (0, "")
    assert [name for name in COMMANDS if f"  {name.split()[0]} " not in found.out] == []


def test_the_version_is_told(wonder: Call) -> None:
    assert wonder("--version").out == f"wonder-ray {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom wonder_ray.cli import main\nsys.argv = ['wonder', '--help']\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=TOP)
    assert found.stderr == "[]\n"


@pytest.mark.parametrize(
    "args", [["frobnicate"], ["show"], ["runs", "--limit", "many"], ["runs", "--limit", "0"], ["run", "--nope"]]
)
def test_wrong_usage_gives_2_and_says_so_on_stderr(wonder: Call, args: list[str]) -> None:
    found = wonder(*args)
    assert (found.code, found.out) == (2, "")
    assert "rror" in found.err


def test_an_error_is_one_message_and_with_debug_a_traceback(wonder: Call, tmp_path: Path) -> None:
    plain = wonder("runs", "--storage", tmp_path)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("wonder: there is no resources.sqlite")
    assert "Traceback" not in plain.err
    for args in (["--debug", "runs", "--storage", tmp_path], ["runs", "--storage", tmp_path, "--debug"]):
        told = wonder(*args)
        assert (told.code, told.out) == (2, "")
        assert "Traceback" in told.err
        assert told.err.splitlines()[-1] == plain.err.splitlines()[-1]


def test_an_error_nobody_expected_is_told_too(wonder: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_named: object) -> None:
        raise ZeroDivisionError("first line\nlast line")

    monkeypatch.setattr("wonder_ray.reading.Reader.runs", broken)
    found = wonder("runs")
    assert (found.code, found.out) == (1, "")
    assert found.err == "wonder: ZeroDivisionError: last line\n(not expected: --debug shows where it comes from)\n"


def test_the_storage_may_come_from_the_environment(wonder: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WONDER_STORAGE", str(tmp_path / "elsewhere"))
    assert "elsewhere" in wonder("runs").err


def test_a_reader_of_our_output_may_leave_early() -> None:
    code = "from wonder_ray.cli import main; import sys; sys.argv = ['wonder', '--help']; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TOP) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
