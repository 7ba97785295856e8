"""The benchmark `streams`: a hundred streams of a hundred runs, each with each event once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

BENCH: Final = Path(__file__).parents[2] / "scripts" / "bench.py"
LATE_MS: Final = 5_000
"""How late the last event may be told on two busy cores."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_streams_of_a_hundred_runs_cost_little_and_are_told_soon() -> None:
    command = [sys.executable, str(BENCH), "streams", "--n", "100", "--seconds", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["name"], found["n"], found["events"]) == ("streams", 100, 700)
    assert max(found["delay_ms_max"], found["end_ms_max"]) < LATE_MS
    assert found["silent_cpu"]["events"] + found["silent_cpu"]["replica"] < 0.5
