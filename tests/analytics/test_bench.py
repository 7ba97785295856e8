"""The benchmark `query` measures what it says, and prints what every benchmark prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

BENCH: Final = Path(__file__).parents[2] / "scripts" / "bench.py"
KEYS: Final = {
    "name", "n", "wonder", "baseline", "ratio", "unit", "runs", "durability", "events_expected", "events_in_parquet", "cpu_count",
    "ray", "python",
}  # fmt: skip


def test_the_query_benchmark_counts_every_event_and_checks_every_answer() -> None:
    command = [sys.executable, str(BENCH), "query", "--n", "2500", "--repeat", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) >= KEYS
    assert (found["name"], found["n"], found["events_expected"], found["events_in_parquet"]) == ("query", 3000, 3000, 3000)
    assert [set(figures) for figures in found["runs"]] == [
        {"wonder", "baseline", "wonder_opened_anew", "baseline_opened_anew"}
    ] * 2


@pytest.mark.parametrize(("name", "n"), [("events", "20000"), ("replay", "3000")])
def test_the_benchmarks_of_histories_count_every_event(name: str, n: str) -> None:
    command = [sys.executable, str(BENCH), name, "--n", n, "--repeat", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) >= KEYS
    assert found["events_expected"] == found["events_in_parquet"] >= found["n"] > int(n) / 2
    assert [set(figures) for figures in found["runs"]] == [{"wonder", "baseline"}] * 2
    assert all(figure > 0 for figures in found["runs"] for figure in figures.values())
