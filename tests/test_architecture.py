"""The rules that keep the package in the shape its design gives it; each is also shown a breach that it must find."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests import _architecture as rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TOP: Final = Path(__file__).parents[1]

BASE: Final = frozenset(
    {"addresses", "errors", "ids", "clock", "clock_guard", "keeper", "presence", "redaction", "settings", "values"}
)
MODEL: Final = frozenset(
    {"definitions", "state", "decisions", "workflow_events", "run_index", "run_limits", "run_places", "run_state", "fold"}
)
AUTHORING: Final = frozenset({"definitions.authoring", "definitions.builder", "definitions.parameters"})
SERVICES: Final = frozenset({"blobs", "bundles", "events", "executor", "logs", "resources", "storage"})
LOOKING: Final = frozenset({"analytics", "reading", "replay"})
STARTING: Final = frozenset({"registration", "services"})
DRIVING: Final = frozenset(
    {"__init__", "client", "cluster", "http", "interop", "jobs", "planning", "remote", "soundness", "upkeep"}
)

ARROWS: Final = {
    # The ground: knows nothing of workflows.
    "errors": frozenset[str](),  # the names of what can go wrong
    "clock": frozenset[str](),  # time is an interface
    "ids": frozenset({"errors"}),  # ids are made and checked here
    "values": frozenset({"errors"}),  # JSON in and out
    "given": frozenset({"errors", "values"}),  # what callers pass
    "addresses": frozenset({"errors"}),  # where a Ray may be
    "problems": frozenset({"errors"}),  # their names over HTTP
    "redaction": frozenset({"errors"}),  # what no text may show
    "settings": frozenset({"errors", "values"}),  # what an installation chooses
    "clock_guard": frozenset({"errors"}),  # whether those who delete may believe the clock
    "keeper": frozenset[str](),  # a chore now and then
    "confined": frozenset({"errors", "values"}),  # work in a process of its own, in bounds
    "presence": frozenset[str](),  # where a service actor lives
    # The model: pure data and pure functions. None of it may see a clock.
    "definitions": frozenset({"errors", "ids", "values"}),  # a definition knows no run
    "state": frozenset({"errors", "ids", "values"}),  # tokens and groups know neither events nor planners
    "decisions": frozenset({"errors", "state", "values"}),  # what to do, in terms of state
    "workflow_events": frozenset({"decisions", "errors", "state", "values"}),  # what happened
    "run_places": frozenset({"state"}),  # parts of that
    "run_limits": frozenset({"run_places", "state"}),
    "run_index": frozenset({"run_limits", "run_places", "state"}),  # what is derived from a run's state
    "run_state": frozenset({"errors", "run_index", "run_places", "state", "values"}),  # one run's state, indexed for planners
    "fold": (MODEL | {"errors", "ids", "values"}) - {"fold"},  # events to state
    "planning": MODEL | {"errors", "ids", "values"},  # state and facts to decisions
    # The services: each owns one thing, and they meet only in the coordinator and above.
    "blobs": BASE,  # bytes by their hash
    "bundles": BASE,  # user code by its hash
    "storage": BASE | MODEL,  # one run's file: it stores what the model says
    "events": BASE | {"logs", "storage", "workflow_events"},  # what happened, in Parquet
    "logs": BASE,  # what went wrong
    "resources": BASE | {"definitions", "logs", "state", "storage"},  # which runs and definitions exist, in which folder
    "executor": BASE | {"blobs", "bundles", "definitions", "logs"},  # user code runs here; it knows nothing of runs' state
    "actions": BASE | {"definitions", "executor"},  # ready actions: user code that comes with the package
    # The author's side: above the executor, whose registry knows the actions that a builder names.
    "definitions.parameters": BASE | {"definitions", "executor"},
    "definitions.authoring": BASE | {"definitions", "definitions.parameters", "executor"},
    "definitions.builder": BASE | {"definitions", "definitions.authoring", "executor"},
    "actors": BASE | {"logs", "storage"},  # durable actors in general: the coordinator is one, not the reverse
    # Where they meet.
    "coordinator": BASE | MODEL | SERVICES | {"actors", "planning"},  # one run
    "replay": MODEL | {"coordinator", "errors", "planning", "storage"},  # a recorded run as a test of the planners
    "registration": BASE | AUTHORING | {"bundles", "definitions", "resources"},  # from the author to the registry
    "services": BASE | {"coordinator", "events", "logs", "resources"},  # the service actors, made and asked
    # The one way in.
    "analytics": BASE | MODEL | {"events"},  # SQL over what has happened
    "client": BASE
    | MODEL
    | SERVICES
    | AUTHORING
    | STARTING
    | {"__init__", "actors", "analytics", "coordinator", "given", "interop", "planning", "remote"},
    "cluster": BASE | {"client", "http", "resources", "services"},  # all services at once
    "soundness": MODEL | {"coordinator", "errors", "planning"},  # what can happen in any run of a definition
    "upkeep": BASE | SERVICES | {"coordinator"},  # all that is kept, and for how long
    # The edges: nobody below imports them.
    "jobs": frozenset({"errors", "values"}),  # a workflow file on its way to a cluster
    "interop": BASE | AUTHORING | {"definitions"},  # other formats become definitions
    "reading": BASE | MODEL | SERVICES | {"analytics", "planning", "replay"},  # what a storage folder tells without a cluster
    # The client without Ray.
    "remote": BASE | MODEL | SERVICES | AUTHORING | LOOKING | {"coordinator", "given", "planning", "problems", "registration"},
    "http": BASE | MODEL | SERVICES | AUTHORING | LOOKING | {"__init__", "client", "confined", "interop", "planning", "problems"},
    "cli": BASE | MODEL | SERVICES | AUTHORING | LOOKING | DRIVING,
    "examples": BASE | MODEL | SERVICES | AUTHORING | {"__init__", "analytics", "cli", "client", "interop"},
    # The public names.
    "__init__": BASE | AUTHORING | {"actors", "client", "definitions", "events", "executor", "logs", "reading"},
}

SQL_OF_LOGS: Final = ("logs/files.py", "logs/lines.py", "logs/query.py", "logs/store.py")
SQL: Final = ("storage/*", "events/commit_log.py", "events/log_*.py", *SQL_OF_LOGS, "resources/*")
ANALYSIS: Final = ("analytics/*", "events/*", "logs/query.py", "examples/*")
WITH_RAY: Final = (
    "*/actor.py",
    "executor/remote.py",
    "client/*",
    "cluster.py",
    "jobs/sending.py",
    "presence.py",
    "services.py",
    "http/*",
)
"""All else is tested without Ray."""
LIBRARY_PLACES: Final = {
    "ray": WITH_RAY,
    "pyarrow": ("analytics/*", "events/*", "blobs/*", "logs/archive.py"),  # its import costs every process that does it 130 ms
    "apsw": SQL,
    "sqlite3": SQL,
    "sqlalchemy": SQL,
    "sqlmodel": SQL,
    "alembic": ("resources/*",),
    "psycopg": ("resources/*",),
    "cryptography": ("resources/*",),  # secrets that the registry keeps; everybody else only names them
    "cel_expr_python": ("definitions/*",),  # one wrapper bounds size and cost of every expression
    "cloudpickle": ("bundles/*", "executor/*"),  # only user code is ever pickled
    "pickle": ("bundles/pickling.py",),
    "marshal": (),
    "pydantic": ("definitions/*", "http/*", "resources/*", "settings.py", "cli/*", "examples/*"),  # edges, never hot paths
    "fastapi": ("http/*",),
    "starlette": ("http/*",),
    "urllib3": ("remote/*",),
    "typer": ("cli/*", "examples/*"),
    "rich": ("cli/*", "examples/*"),
    "duckdb": ANALYSIS,
    "pandas": ANALYSIS,
    "polars": ANALYSIS,
    "sklearn": ("examples/*",),
}

PURE: Final = (
    "planning/*",
    "state.py",
    "run_*.py",
    "decisions/*",
    "workflow_events/*",
    "fold*",
    "replay/*",
    "soundness/*",
    "definitions/graph.py",
)
CHANCE_AND_TIME: Final = frozenset({"time", "random", "uuid", "secrets"})
THE_WORLD: Final = frozenset({"os", "io", "pathlib", "tempfile", "shutil", "socket", "subprocess", "logging"})
CONCURRENCY: Final = frozenset({"threading", "asyncio", "multiprocessing", "concurrent", "ray"})
STORES: Final = frozenset({"sqlite3", "apsw", "sqlalchemy", "sqlmodel", "pyarrow"})
IMPURE_IMPORTS: Final = CHANCE_AND_TIME | THE_WORLD | CONCURRENCY | STORES
IMPURE_NAMES: Final = frozenset({"open", "print", "input", "eval", "exec", "__import__", "new_run_id"})
IMPURE_METHODS: Final = frozenset({"now", "utcnow", "today", "new_run_id"})

ENTRY_POINTS: Final = (
    "wonder_ray",
    "wonder_ray.__main__",
    "wonder_ray.cli",
    "wonder_ray.cli.__main__",
    "wonder_ray.examples.*",
    "wonder_ray.resources.migrations.*",
)
LENGTHS: Final = {"file_lines": 400, "function_lines": 70, "actor_method_lines": 20}

TOP_LEVEL_FOLDERS: Final = frozenset({"wonder_ray", "tests", "notebooks", "scripts", ".ci", ".git"})
TOP_LEVEL_FILES: Final = frozenset({"pyproject.toml", "cluster.yaml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"})
UNWANTED: Final = {
    "a package registry's host": re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|rubygems|crates|golang)\.(?:org|com|io)\b"),
    "a path of one machine": re.compile(r"(?<![\w.$}])/(?:work|root|opt|Users/\w+|home/(?!(?:ray|me|user)/)\w+|tmp/[a-z])/"),
    "a tool of one workplace": re.compile(r"\bfarm-\w+"),
}

package = rules.load(TOP, "wonder_ray")
tests = rules.load(TOP, "tests")
scripts = rules.load(TOP, "scripts")
everything = (*package, *tests, *scripts)


def wrong_arrows(modules: Sequence[rules.Module]) -> list[str]:
    return rules.wrong_arrows(modules, ARROWS)


def misplaced_libraries(modules: Sequence[rules.Module]) -> list[str]:
    return rules.misplaced_libraries(modules, LIBRARY_PLACES)


def impurities(modules: Sequence[rules.Module]) -> list[str]:
    return rules.impurities(modules, PURE, IMPURE_IMPORTS, IMPURE_NAMES, IMPURE_METHODS)


def too_long(modules: Sequence[rules.Module]) -> list[str]:
    return rules.too_long(modules, **LENGTHS)


def dead_modules(modules: Sequence[rules.Module]) -> list[str]:
    return rules.dead_modules(modules, tests, ENTRY_POINTS)


def report(findings: Sequence[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


def test_imports_follow_the_arrows() -> None:
    report(wrong_arrows(package))


def test_no_arrow_closes_a_circle() -> None:
    done: set[str] = set()
    while ready := {part for part in ARROWS if part not in done and ARROWS[part] - {"__init__"} <= done}:
        done |= ready
    assert set(ARROWS) - done == set()


def test_libraries_are_imported_only_in_their_places() -> None:
    report(misplaced_libraries(package))


def test_pure_modules_see_no_clock_no_chance_and_no_world() -> None:
    report(impurities(package))


def test_no_import_cycles() -> None:
    report(rules.import_cycles(package))


def test_files_and_functions_are_short() -> None:
    report(too_long(everything))


def test_modules_hold_no_mutable_state() -> None:
    report(rules.mutable_state((*package, *scripts)))


def test_every_module_is_used() -> None:
    report(dead_modules(package))


def test_no_error_vanishes() -> None:
    report(rules.swallowed_errors(everything))


def test_tests_do_not_sleep() -> None:
    """Except in files named `...actions.py`, which executors run: work of users, which takes its time."""
    report(rules.sleeps([module for module in tests if not module.path.endswith("actions.py")]))


def test_exemptions_name_a_code_and_a_reason() -> None:
    report(rules.bare_exemptions(everything))


def test_no_file_names_a_registry_or_a_machine() -> None:
    report(rules.unwanted_text(dict(texts(TOP)), UNWANTED))


def test_the_top_level_holds_only_what_belongs_there() -> None:
    ignored = ignore_patterns()
    assert {path.name for path in TOP.iterdir() if not is_ignored(path, ignored)} <= TOP_LEVEL_FOLDERS | TOP_LEVEL_FILES


def ignore_patterns() -> list[str]:
    lines = (TOP / ".gitignore").read_text(encoding="utf-8").splitlines()
    return [line.strip("/") for line in lines if line and not line.startswith("#")]


def is_ignored(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in patterns)


def texts(top: Path) -> Iterator[tuple[str, str]]:
    """Path and text of every file that is not ignored by git and is text; works where there is no git, too."""
    ignored = [*ignore_patterns(), ".git"]
    folders = [top]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if is_ignored(path, ignored):
                continue
            if path.is_dir():
                folders.append(path)
            elif b"\0" not in (content := path.read_bytes()):
                yield path.relative_to(TOP).as_posix(), content.decode("utf-8", errors="replace")


# ------------------------------------------------------------------------------------------- every rule can find a breach

BREACHES: Final = [
    (wrong_arrows, "planning/routing.py", "from wonder_ray.storage import rows", "`planning` may not import `storage`"),
    (wrong_arrows, "state.py", "def f():\n    import wonder_ray.client", "state.py:2: `state` may not import `client`"),
    (wrong_arrows, "planning/routing.py", "from ..clock import SystemClock", "`planning` may not import `clock`"),
    (wrong_arrows, "storage/rows.py", "from wonder_ray import client", "`storage` may not import `client`"),
    (wrong_arrows, "definitions/graph.py", "import wonder_ray.definitions.builder", "may not import `definitions.builder`"),
    (
        wrong_arrows,
        "definitions/graph.py",
        "import wonder_ray.definitions.authoring.tasks",
        "may not import `definitions.authoring`",
    ),
    (wrong_arrows, "novelty.py", "", "`novelty` has no row"),
    (misplaced_libraries, "coordinator/turn.py", "import ray", "`ray` may be imported only in"),
    (misplaced_libraries, "logs/record.py", "def f():\n    from pyarrow import parquet", "`pyarrow` may be imported only in"),
    (misplaced_libraries, "planning/merging.py", "import apsw", "`apsw` may be imported only in"),
    (misplaced_libraries, "events/writer.py", "import sqlite3", "`sqlite3` may be imported only in"),
    (impurities, "planning/routing.py", "import time", "may not import `time`"),
    (impurities, "planning/routing.py", "from os import path", "may not import `os`"),
    (impurities, "fold.py", "import datetime\nx = datetime.datetime.now()", "fold.py:2: pure code may not use `.now`"),
    (impurities, "state.py", "def f():\n    print(1)", "may not use `print`"),
    (impurities, "definitions/graph.py", "text = open('x')", "may not use `open`"),
    (impurities, "planning/routing.py", "from wonder_ray.ids import new_run_id\nnew_run_id(1)", "may not use `new_run_id`"),
    (
        rules.import_cycles,
        "clock.py",
        "import wonder_ray.clock\nfrom wonder_ray.logs import store",
        "wonder_ray.clock -> wonder_ray.logs.store",
    ),
    (too_long, "fold.py", "x = 1\n" * 401, "the file has 401 lines"),
    (too_long, "fold.py", "def f():\n" + "    x = 1\n" * 70, "`f` has 71 lines"),
    (too_long, "logs/actor.py", "class A:\n    async def f():\n" + "        x = 1\n" * 20, "`f` has 21 lines, more than 20"),
    (rules.mutable_state, "fold.py", "cache = {}", "`cache` is mutable state"),
    (rules.mutable_state, "fold.py", "CACHE: Final = {}", "`CACHE` is mutable state"),
    (rules.mutable_state, "fold.py", "NAMES = ['a']", "`NAMES` is mutable state"),
    (rules.mutable_state, "fold.py", "seen: Final = collections.defaultdict[str, int](int)", "`seen` is mutable state"),
    (rules.mutable_state, "fold.py", "def f():\n    global x\n    x = 1", "`global x`"),
    (dead_modules, "novelty.py", "from wonder_ray import novelty", "nothing imports this module"),
    (rules.swallowed_errors, "fold.py", "try:\n    f()\nexcept Exception:\n    pass", "fold.py:3: an error of any kind vanishes"),
    (
        rules.swallowed_errors,
        "fold.py",
        "try:\n    f()\nexcept (KeyError, BaseException):\n    ...",
        "an error of any kind vanishes",
    ),
    (rules.swallowed_errors, "fold.py", "with contextlib.suppress(Exception):\n    f()", "an error of any kind vanishes"),
    (rules.sleeps, "fold.py", "import time\ntime.sleep(1)", "fold.py:2: wait for a condition"),
    (rules.sleeps, "fold.py", "from time import sleep as nap\nnap(1)", "fold.py:2: wait for a condition"),
    (rules.sleeps, "fold.py", "import time as t\nt.sleep(1)", "fold.py:2: wait for a condition"),
    (rules.bare_exemptions, "fold.py", "import x  # noqa", "names no code"),
    (rules.bare_exemptions, "fold.py", "import x  # noqa: F401", "gives no reason"),
    (rules.bare_exemptions, "fold.py", "x = 1  # type: ignore[assignment]  # noqa: E501", "gives no reason"),
    (rules.bare_exemptions, "fold.py", "x = 1  # type: ignore", "names no code"),
]


@pytest.mark.parametrize(("check", "below", "source", "finding"), BREACHES)
def test_a_breach_is_found(check: Callable[..., list[str]], below: str, source: str, finding: str) -> None:
    planted = {"wonder_ray/logs/store.py": "from wonder_ray import clock", "wonder_ray/clock.py": "", "wonder_ray/client.py": ""}
    modules = rules.modules_of({**planted, f"wonder_ray/{below}": source})
    assert [found for found in check(modules) if finding in found], check(modules)


INNOCENT: Final = [
    (wrong_arrows, "client.py", "import wonder_ray\nfrom wonder_ray import ids\nfrom wonder_ray.fold import fold"),
    (misplaced_libraries, "logs/actor.py", "import ray"),
    (misplaced_libraries, "events/log_segments.py", "import apsw"),
    (impurities, "planning/routing.py", "import re\ndef f(now: int) -> int:\n    return now"),
    (
        rules.import_cycles,
        "clock.py",
        "def f():\n    import wonder_ray.logs.store\nif TYPE_CHECKING:\n    import wonder_ray.logs.store",
    ),
    (too_long, "fold.py", "def f():\n" + "    x = 1\n" * 69),
    (
        rules.mutable_state,
        "fold.py",
        "A: Final = {'a': 1}\nB = MappingProxyType({})\nC = ('a',)\nD = frozenset({1})\n__all__ = ['A']",
    ),
    (rules.swallowed_errors, "fold.py", "with suppress(Exception):  # logging fails no task\n    f()"),
    (rules.swallowed_errors, "fold.py", "try:\n    f()\nexcept KeyError:\n    pass\ntry:\n    f()\nexcept Exception:\n    log()"),
    (rules.sleeps, "fold.py", "text = 'time.sleep(1)'\nclock.sleep(1)"),
    (rules.bare_exemptions, "fold.py", "import x  # noqa: F401 - imported for its side effect\nx = '# noqa'"),
    (rules.bare_exemptions, "fold.py", "x = 1  # type: ignore[assignment]  # the stub is wrong"),
]


@pytest.mark.parametrize(("check", "below", "source"), INNOCENT)
def test_what_is_allowed_passes(check: Callable[..., list[str]], below: str, source: str) -> None:
    planted = {"wonder_ray/logs/store.py": "from wonder_ray import clock", "wonder_ray/clock.py": "", "wonder_ray/fold.py": ""}
    assert check(rules.modules_of({**planted, f"wonder_ray/{below}": source})) == []


@pytest.mark.parametrize(
    "line", ["pip install -i " + "pypi" + ".org/simple", "cd " + "/work" + "/main", "see " + "farm" + "-jobs"]
)
def test_unwanted_text_is_found(line: str) -> None:
    assert len(rules.unwanted_text({"README.md": f"first\n{line}\n"}, UNWANTED)) == 1


def test_wanted_text_passes() -> None:
    harmless = "https://docs.ray.io/en/latest/work/root.html\n$HOME/work/x\n/home/ray/anaconda3\n/tmp/ray/session\n"
    assert rules.unwanted_text({"README.md": harmless}, UNWANTED) == []


def test_the_scan_reads_what_is_committed_and_skips_what_is_ignored() -> None:
    paths = {path for path, _ in texts(TOP)}
    assert {"pyproject.toml", ".ci/run", "tests/test_architecture.py", "scripts/requirements.txt"} <= paths
    assert not [path for path in paths if path.startswith((".git/", ".venv/")) or "__pycache__" in path]
