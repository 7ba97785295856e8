#!/usr/bin/env python
"""Knocks at the doors for expressions, templates, definitions, ids and URLs with inputs that are mutated towards new code paths.

    pip install atheris                                       (libFuzzer for Python; not among the pinned requirements)
    scripts/fuzz.py --seconds 900 [--door expression] [--seed 7]     all doors in turn, each in a process of its own
    scripts/fuzz.py --door expression --again FILE            one input that was found

What raises something else than a `WonderError`, takes over 5 s or 1 GB, or gives what is no data, is a finding: its input is kept
in the folder that is told, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

SECONDS_EACH = 5
MEGABYTES = 1024
LENGTH_MAX = 4096
DONE = re.compile(r"Done (\d+) runs|stat::number_of_executed_units: *(\d+)")


def main() -> int:
    """Do what the command line says."""
    options = parse()
    if options.again:
        return again(options.door, options.again)
    if options.inside:
        inside(options.door, options.inside)
    from tests.security.fuzzing import DOORS

    doors = [options.door] if options.door else list(DOORS)
    kept = Path(tempfile.mkdtemp(prefix="wonder-fuzz-"))
    told = [hunt(door, kept / door, options.seconds / len(doors), options.seed) for door in doors]
    found = sum(len(each.found) for each in told)
    doors_told = [each._asdict() for each in told]
    print(json.dumps({"executions": sum(each.executions for each in told), "found": found, "doors": doors_told}, indent=1))
    return int(found > 0)


class Hunted(NamedTuple):
    """What came of one door."""

    door: str
    executions: int
    corpus: int
    found: list[str]


def hunt(door: str, folder: Path, seconds: float, seed: int) -> Hunted:
    """Fuzz one door; a finding ends libFuzzer, so it is begun again until the time is over."""
    from tests.security.fuzzing import DICTIONARY, seeds

    corpus, found = folder / "corpus", folder / "found"
    for made in (corpus, found):
        made.mkdir(parents=True)
    for number, text in enumerate(seeds(door)):
        (corpus / f"seed-{number}").write_bytes(text.encode("utf-8", "surrogatepass"))
    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in (json.dumps(word)[1:-1] for word in DICTIONARY) if "\\u" not in word))
    executions, began = 0, time.monotonic()
    while (left := seconds - (time.monotonic() - began)) > 1:
        arguments = [
            f"-max_total_time={int(left)}",
            f"-timeout={SECONDS_EACH}",
            f"-rss_limit_mb={MEGABYTES}",
            f"-max_len={LENGTH_MAX}",
            f"-dict={words}",
            f"-artifact_prefix={found}/",
            f"-seed={seed + executions}",
            "-print_final_stats=1",
            str(corpus),
        ]
        command = [sys.executable, __file__, "--door", door, "--inside", json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        counts = [int(one or other) for one, other in DONE.findall(done.stderr)]
        executions += max(counts, default=0)
        if done.returncode != 0:
            print(f"{door}: {_last(done.stderr)}", file=sys.stderr)
            if not counts and not list(found.iterdir()):
                sys.exit(done.stderr[-2000:])
    return Hunted(door, executions, len(list(corpus.iterdir())), sorted(map(str, found.iterdir())))


def inside(door: str, arguments: str) -> None:
    """Become libFuzzer."""
    atheris = import_module("atheris")  # who fuzzes installs it: nothing else needs it

    with atheris.instrument_imports(include=["wonder_ray"]):
        from tests.security.fuzzing import knock

    def one(data: bytes) -> None:
        knock(door, data.decode("utf-8", "surrogateescape"))

    atheris.Setup([sys.argv[0], *json.loads(arguments)], one)
    atheris.Fuzz()
    sys.exit(0)


def again(door: str, path: Path) -> int:
    """One input; its traceback, if it has one."""
    from tests.security.fuzzing import knock

    began = time.process_time()
    print(knock(door, path.read_bytes().decode("utf-8", "surrogateescape")), f"in {time.process_time() - began:.3f} s")
    return 0


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if re.match(r"\S*(Error|Exception)\b|==\d+== ?ERROR|ALARM", line)]
    return lines[0][:300] if lines else text[-300:]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--door", help="one only: expression, template, json, definition, yaml, target, pattern, id, url")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", type=Path, help="an input that was found")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
