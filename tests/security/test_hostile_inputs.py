"""At least a thousand hostile inputs: each is refused with a clear error, soon, and memory stays flat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[2]
PEAK_KB_MAX: Final = 64 * 1024
"""Of one input, beyond what was held before it."""
MAP_PEAK_KB_MAX: Final = 256 * 1024
"""Of one evaluation: what it may cost is told before, and bounded there."""
LEFT_KB_MAX: Final = 16 * 1024
"""What further rounds over all of them may add, in the best of them: caches come and go, what is kept for good stays."""


def test_every_hostile_input_is_refused_and_memory_stays_flat() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.knocking"],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["left"] == [], "files were made"
    assert told["cases"] >= 1000
    assert len(told["doors"]) >= 20
    for peak_kb, case in told["peaks_kb"]:
        assert peak_kb < (MAP_PEAK_KB_MAX if case.startswith("evaluation ") else PEAK_KB_MAX), case
    first_kb, *later_kb = told["held_kb"]
    assert min(later_kb) - first_kb < LEFT_KB_MAX
    assert told["cpu_s"] < 30
