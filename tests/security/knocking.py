"""Knocks at every door with every hostile input, in a process of its own, and prints what happened as one line of JSON.

python -m tests.security.knocking
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.cli.prepared import prepare
from tests.security.corpus import cases
from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from tests.security.corpus import Case

STATUS: Final = Path("/proc/self/status")
CLEAR: Final = Path("/proc/self/clear_refs")
ROUNDS: Final = 3
READERS: Final = ("-shm", "-wal")
"""What SQLite makes for who reads a database."""
MESSAGE_MAX: Final = 25_000
SECONDS_MAX: Final = 3.0


def memory(name: str) -> int:
    """Kilobytes: `VmRSS` is what is held now, `VmHWM` the most since the mark."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])


def knock(case: Case) -> str | None:
    """What is wrong with the answer to one input, if something is."""
    began = time.process_time()
    try:
        answer = case.call()
    except WonderError as error:
        said = str(error)
        if not said.strip() or len(said) > MESSAGE_MAX:
            return f"a message of {len(said)} characters"
    except BaseException as error:  # noqa: BLE001 - what else there may be is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    else:
        return f"accepted: {str(answer)[:200]}"
    took = time.process_time() - began
    return f"took {took:.1f} s" if took > SECONDS_MAX else None


def main() -> None:
    """All rounds; the later ones show whether the first has left anything behind."""
    problems: list[str] = []
    doors: Counter[str] = Counter()
    peaks: list[tuple[int, str]] = []
    held: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        known = set(folder.rglob("*"))
        for number in range(ROUNDS):
            for case in cases(folder):
                before = memory("VmRSS")
                with suppress(OSError):  # without it the mark is the process's, and the test is only stricter
                    CLEAR.write_text("5")
                problem = knock(case)
                if number == 0:
                    doors[case.door] += 1
                    peaks.append((memory("VmHWM") - before, f"{case.door} {case.shown}"))
                    if problem is not None:
                        problems.append(f"{case.door} {case.shown}: {problem}")
            held.append(memory("VmRSS"))
        left = [str(path) for path in set(folder.rglob("*")) - known if not path.name.endswith(READERS)]
    told: dict[str, Any] = {"cases": sum(doors.values()), "doors": doors, "problems": problems, "left": left}
    told |= {"peaks_kb": sorted(peaks, reverse=True)[:10], "held_kb": held, "cpu_s": round(time.process_time(), 2)}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
