"""The README's snippets run, its commands exist, and the output it shows is the real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

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
DEFINING: Final = tuple(snippet for snippet in PYTHON if snippet not in {CLIENT, DUCKDB})


def wonder(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One command, as a user types it, in `folder` and with a storage there."""
    env = {**os.environ, "WONDER_STORAGE": str(folder / "storage")}
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
    assert len(shown) == 4
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
        if words[0] == "wonder" and words[1] in {"runs", "show", "events", "logs", "state", "trace"}:
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
