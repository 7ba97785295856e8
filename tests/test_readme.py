"""The README's snippets run, its commands exist, and the output it shows is the real one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clusters import free_ports

README: Final = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON: Final = tuple(re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
CONSOLE: Final = tuple(
    line[2:].split("   #")[0].strip()
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
)
WORDS: Final = PYTHON[0]
CLIENT: Final = next(snippet for snippet in PYTHON if "client.start" in snippet)
DUCKDB: Final = next(snippet for snippet in PYTHON if "duckdb" in snippet)
OVER_HTTP: Final = next(snippet for snippet in PYTHON if "http://127.0.0.1" in snippet)
DEFINING: Final = tuple(snippet for snippet in PYTHON if snippet not in {CLIENT, DUCKDB, OVER_HTTP})


def wonder(*args: str, folder: Path, api_key: str = "") -> subprocess.CompletedProcess[str]:
    """One command, as a user types it, in `folder` and with a storage there."""
    env = {**os.environ, "WONDER_STORAGE": str(folder / "storage"), "WONDER_API_KEY": api_key}
    return subprocess.run(
        [sys.executable, "-m", "wonder_ray.cli", *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("snippet", DEFINING, ids=lambda snippet: snippet.strip().splitlines()[-1][:40])
def test_a_snippet_that_defines_something_defines_it(snippet: str) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet, "README.md", "exec"), names)
    flow = names.get("flow")
    if flow is not None:
        assert flow.definition().nodes


def test_the_guide_to_secrets_and_keys_works(tmp_path: Path) -> None:
    shown = [command.split()[1:] for command in CONSOLE if command.startswith(("wonder secret", "wonder key", "wonder doctor"))]
    assert len(shown) == 5
    for words in sorted(shown, key=lambda words: words[0] == "doctor"):
        result = wonder(*words, folder=tmp_path)
        assert result.returncode == (1 if "fail " in result.stdout else 0), result.stderr
    found = json.loads(wonder("doctor", "--json", folder=tmp_path).stdout)
    looked_at = {check["name"] for check in found["checks"]}
    told = re.findall(r"^\| (`auth`.*?|`files`.*?|`keys`) \|", README, re.MULTILINE)
    assert len(told) == 3
    assert set(re.findall(r"`([^`]+)`", " ".join(told))) <= looked_at


def test_every_command_shown_exists() -> None:
    shown = {command.split()[1] for command in CONSOLE if command.startswith("wonder ")}
    listed = set(re.findall(r"`wonder ([\w-]+)", README))
    for command in sorted(shown | listed):
        words = ["import", "wfformat"] if command == "import" else [command]
        help_text = wonder(*words, "--help", folder=Path.cwd())
        assert help_text.returncode == 0, help_text.stderr
        assert "Usage" in help_text.stdout


@pytest.mark.ray
def test_the_first_screen_shows_what_really_happens(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(WORDS)
    shown = json.loads(re.findall(r"^(\{\"run_id\".*\})$", README, re.MULTILINE)[0])
    arguments = ["run", "words.py", "--input", '{"text": "durable workflows for ray"}', "--json"]
    assert f"wonder run words.py --input '{arguments[3]}' --json" in CONSOLE
    result = wonder(*arguments, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    real = json.loads(result.stdout.splitlines()[-1])
    assert list(real) == list(shown)
    changing = {"run_id", "duration_ms", "storage"}
    assert {k: v for k, v in real.items() if k not in changing} == {k: v for k, v in shown.items() if k not in changing}
    _look_around(tmp_path)
    _query(tmp_path)


def _look_around(folder: Path) -> None:
    """Every command of the second guide that only reads."""
    for command in CONSOLE:
        words = command.split()
        if words[0] == "wonder" and words[1] in {"runs", "show", "events", "logs", "state", "trace"} and "--server" not in words:
            result = wonder(*words[1:], folder=folder)
            assert result.returncode == 0, f"{command}: {result.stderr}"


def _query(folder: Path) -> None:
    snippet = DUCKDB.replace('Path.home() / ".wonder/', f'Path("{folder}") / "')
    result = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "count" in result.stdout
    assert "split" in result.stdout


@pytest.mark.ray
def test_the_python_guide_runs(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(WORDS)
    (tmp_path / "drive.py").write_text(CLIENT)
    env = {**os.environ, "WONDER_STORAGE": str(tmp_path / "storage"), "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "drive.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["3 words, the longest is 'never'", "5 tasks"]


@pytest.mark.ray
def test_the_guide_over_http_runs(tmp_path: Path) -> None:
    """As it stands there, but for the port."""
    (tmp_path / "words.py").write_text(WORDS)
    register_words(tmp_path)
    port = str(free_ports(1)[0])
    key = json.loads(wonder(*shlex.split(shown_with("wonder key create me"))[1:], folder=tmp_path).stdout)["token"]
    env = {
        **os.environ,
        "WONDER_STORAGE": str(tmp_path / "storage"),
        "WONDER_API_KEY": key,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    serve = [sys.executable, "-m", "wonder_ray.cli", *shown_with("wonder serve").split()[1:], "--port", port]
    with subprocess.Popen(serve, env=env, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            assert f"serving http://127.0.0.1:{port}" in served.stdout.readline()
            curl = shown_with("curl").replace("8000", port)
            answer = subprocess.run(["bash", "-c", curl], env=env, capture_output=True, text=True, timeout=60, check=True)
            run_id = json.loads(answer.stdout)["run_id"]
            listed = wonder(*shown_with("wonder runs --server").replace("8000", port).split()[1:], folder=tmp_path, api_key=key)
            assert run_id in listed.stdout
            told = wonder(
                *shown_with("wonder report cost --server").replace("8000", port).split()[1:], folder=tmp_path, api_key=key
            )
            assert (told.returncode, told.stdout.split()[:3]) == (0, ["workspace_id", "workflow_name", "node_id"]), told.stderr
            snippet = OVER_HTTP.replace("8000", port)
            result = subprocess.run(
                [sys.executable, "-c", snippet], env=env, capture_output=True, text=True, timeout=110, check=False
            )
            assert result.returncode == 0, result.stderr
            assert result.stdout.splitlines() == [
                "2 words, the longest is 'over'",
                "workflow.completed",
                "['workspace_id', 'workflow_name', 'node_id']",
            ]
        finally:
            served.terminate()
    assert served.returncode == 0


def shown_with(beginning: str) -> str:
    """The command that the README shows and that begins so."""
    (first, *_) = [str(command) for command in CONSOLE if command.startswith(beginning)]
    return first


def register_words(folder: Path) -> None:
    """What `client.register(flow)` does, without a Ray."""
    from wonder_ray.cli.flows import load_flow
    from wonder_ray.registration import put_definition, register
    from wonder_ray.resources.opening import open_service
    from wonder_ray.storage.layout import Layout

    layout = Layout(folder / "storage").prepare()
    service = open_service(layout)

    def call(method: str, *args: Any, **named: Any) -> Any:
        return getattr(service, method)(*args, **named)

    register(load_flow(folder / "words.py").startable(layout.root), partial(put_definition, call, layout.root), layout.root)
    service.close()
