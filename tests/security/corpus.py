"""Over a thousand hostile inputs, each with the door that it knocks at: whatever it is, a clear `WonderError` is the answer.

Each case is a name and a call that has to raise. They are made from lists, and by a seeded generator.
"""

from __future__ import annotations

import io
import random
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from typer.main import get_command

from tests.actions.test_policy import NO_URL, NOT_PUBLIC
from tests.actions.test_templates import ESCAPES
from tests.cli.prepared import COMPLETED
from tests.security.hostile import (
    ACTIONS,
    DATA,
    EVALUATED,
    EXPRESSIONS,
    IDS,
    JSON_TEXTS,
    NODE,
    QUESTIONS,
    SCHEMAS,
    SEGMENTS,
    SQL,
    TARGETS,
    VALUES,
    YAML_BOMBS,
    YAML_TEXTS,
)
from wonder_ray.actions.policy import Policy
from wonder_ray.actions.templates import render_header, render_json, render_text, render_url
from wonder_ray.bundles.store import BundleStore
from wonder_ray.cli.app import app
from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.files import definition_from_json, parse_definition
from wonder_ray.definitions.targets import parse_target
from wonder_ray.errors import WonderError
from wonder_ray.executor.secrets import Secret
from wonder_ray.ids import check_name, check_run_id
from wonder_ray.logs.query import LogReader
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.storage.layout import Layout
from wonder_ray.values import check_json, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wonder_ray.values import Json

RUN_ID: Final = "run_0192f0c1a2b3_0123456789abcdef"
CHARS_SHOWN: Final = 60
WORD_MAX: Final = 131_071
"""Bytes that Linux lets an argument of a process have; it can hold no NUL, either."""
COMMAND: Final = get_command(app)
OPTIONS: Final = (
    (("state", COMPLETED), "--at"),
    (("events", COMPLETED), "--after"),
    (("logs",), "--since"),
    (("logs",), "--level"),
    (("runs",), "--status"),
    (("runs",), "--limit"),
    (("report", "cost"), "--since"),
)
"""Commands with everything but the value of an option."""


class Case(NamedTuple):
    """One hostile input at one door."""

    door: str
    shown: str
    call: Callable[[], object]


# --- definitions and URLs that are made -----------------------------------------------------------------------------


def documents() -> Iterator[Any]:
    """Definitions that are none."""
    yield from (
        None,
        1,
        "x",
        [],
        {},
        {"name": "w"},
        {"name": "w", "nodes": []},
        {"name": "w", "nodes": None},
        {"name": 1, "nodes": [NODE]},
    )
    for name in IDS:
        yield {"name": name, "nodes": [NODE]}
        yield {"name": "w", "nodes": [NODE | {"id": name}]}
    for key in ("__class__", "__init__", "$where", "eval", "constructor", "__proto__", "model_config"):
        yield {"name": "w", "nodes": [NODE], key: 1}
        yield {"name": "w", "nodes": [NODE | {key: "x"}]}
    for action in ACTIONS:
        yield {"name": "w", "nodes": [NODE | {"action": action}]}
    for schema in SCHEMAS:
        yield {"name": "w", "nodes": [NODE], "input": schema}
    for text in [*EXPRESSIONS[:60], "x" * 100_000]:
        yield {"name": "w", "nodes": [NODE | {"input": {"x": text}}]}
    for target in TARGETS:
        yield {"name": "w", "nodes": [NODE | {"output": {target: "result"}}]}
    yield {"name": "w", "nodes": [NODE, NODE]}
    yield {"name": "w", "nodes": [NODE], "transitions": [{"from": "a", "to": "nowhere"}]}
    yield {"name": "w", "nodes": [NODE | {"timeout_s": -1}]}
    yield {"name": "w", "nodes": [NODE | {"timeout_s": 1e300}]}
    yield {"name": "w", "nodes": [NODE | {"retry": [{"max_attempts": 10**30}]}]}
    for count in (-1, 10**9, 10**4000, "1000 * 1001", "'a'"):
        yield {"name": "w", "nodes": [NODE, NODE | {"id": "b"}], "transitions": [{"from": "a", "to": "b", "spawn_count": count}]}


def urls(chance: random.Random) -> Iterator[str]:
    """URLs that lead where they should not, or are none; half of them made at random."""
    yield from NO_URL
    for scheme, host in product(("http", "https"), NOT_PUBLIC):
        yield f"{scheme}://[{host}]/" if ":" in host else f"{scheme}://{host}/latest/meta-data/"
    for scheme in (
        "file",
        "ftp",
        "gopher",
        "dict",
        "ldap",
        "ssh",
        "tftp",
        "jar",
        "ws",
        "data",
        "javascript",
        "about",
        "blob",
        "view-source",
    ):
        yield f"{scheme}://127.0.0.1:{chance.randrange(1, 65536)}/"
    for _ in range(120):
        parts = [chance.randrange(256) for _ in range(3)]
        first = chance.choice(("127", "10", "169.254", "192.168", "0", "172.16"))
        address = ".".join([first, *map(str, parts)][: 4 - first.count(".")])
        value = sum(int(part) << (24 - 8 * i) for i, part in enumerate(address.split(".")))
        form = chance.choice(
            (address, str(value), hex(value), f"0{value:o}", f"[::ffff:{address}]", f"user@{address}", f"{address}.")
        )
        yield f"{chance.choice(('http', 'https'))}://{form}/{chance.choice(SEGMENTS[:5])}"


# --- the doors -------------------------------------------------------------------------------------------------------


def cases(folder: Path, seed: int = 7) -> Iterator[Case]:
    """All of them; `folder` is a storage folder with runs in it (`tests.cli.prepared`)."""
    chance = random.Random(seed)
    yield from _ids(folder, chance)
    yield from registry_cases(ResourcesService(":memory:"))
    yield from _of("logs: SQL", SQL, LogReader(folder).sql)
    yield from _texts()
    yield from _json(folder)
    yield from _urls(chance)
    yield from _commands(folder)


def _of(door: str, inputs: Any, call: Callable[[Any], object]) -> Iterator[Case]:
    for given in inputs:
        yield Case(door, repr(given)[:CHARS_SHOWN], partial(call, given))


def _ids(folder: Path, chance: random.Random) -> Iterator[Case]:
    layout, bundles = Layout(folder), BundleStore(folder)
    paths = ["/".join(chance.choices(SEGMENTS, k=chance.randrange(1, 6))) for _ in range(60)]
    near = [RUN_ID + tail for tail in ("\n", " ", "/", "/..", ".sqlite", "\0", "%00")] + [
        RUN_ID.upper(),
        RUN_ID[:-1],
        RUN_ID + "0",
    ]
    for door, call in (("run id", check_run_id), ("run file", layout.run_file), ("lock file", layout.lock_file)):
        yield from _of(door, [*IDS, *paths, *near], call)
    yield from _of("name", IDS, lambda name: check_name(name, "workspace"))
    yield from _of("secret", IDS, Secret)
    yield from _of("bundle", [*IDS, *paths[:20], "A" * 64, "g" * 64, "a" * 63], bundles.path)


def registry_cases(service: ResourcesService) -> Iterator[Case]:
    """At the doors of a registry that is empty."""
    service.put_definition(b'{"name":"w","nodes":[]}')
    names = [name for name in IDS if name]  # an empty run means nothing, and finds nothing
    yield from _of("registry: run", names, service.get_run)
    yield from _of("registry: workflow", IDS, lambda name: service.start_run(StartRequest(workflow_name=name)))
    yield from _of("registry: workspace", IDS, lambda name: service.start_run(StartRequest(workflow_name="w", workspace_id=name)))
    yield from _of("registry: project", IDS, lambda name: service.start_run(StartRequest(workflow_name="w", project_id=name)))
    yield from _of("registry: new workspace", IDS, service.create_workspace)
    yield from _of("registry: new secret", IDS, lambda name: service.put_secret(name, value="a-long-enough-value"))
    yield from _of("registry: key", IDS, service.authorize)
    keys = ["", "a\nb", "\0", "\x1b[31m", "a" * 257, "\ud800", "a\u202e"]
    yield from _of("registry: run key", keys, lambda key: service.start_run(StartRequest(workflow_name="w", key=key)))
    labels = [{"a": "\0"}, {"\0": "a"}, {"a": "\ud800"}, {"a": "x" * 300}, {f"l{n}": "" for n in range(100)}]
    yield from _of("registry: labels", labels, lambda given: service.start_run(StartRequest(workflow_name="w", labels=given)))
    yield from _of("registry: cursor", [name for name in IDS if name], lambda cursor: service.list_runs(cursor=cursor))


def _texts() -> Iterator[Case]:
    yield from _of("expression", EXPRESSIONS, compile_expression)
    yield from _of("evaluation", EVALUATED, lambda text: compile_expression(text).evaluate({"input": DATA}))
    yield from _of("target", TARGETS, parse_target)
    holes = [f"{{{{ {escape} }}}}" for escape in ESCAPES]
    more = ["{{", "{{ x", "{{ x }} {{", "{{ 1 }}" * 200, "x" * 100_000, "{{ big }}" * 50, "{{ null }}"]
    values: dict[str, Json] = {"x": {"y": 1}, "big": "x" * 100_000}
    for door, render in (("text", render_text), ("header", render_header)):
        yield from _of(f"template: {door}", [*holes, *more], partial(render, values=values))
    yield from _of("template: json", [*holes, *more[1:-1]], lambda text: render_json({"a": [text] * 3}, values))
    yield from _of("template: url", holes, lambda text: render_url("https://example.com/" + text, values))
    yield from _of("template: host", holes, lambda text: render_url(f"https://{text}/", values))


def _json(folder: Path) -> Iterator[Case]:
    yield from _of("json", JSON_TEXTS, lambda text: check_json(decode(text)))
    yield from _of("value", VALUES, encode)
    as_text = [text if isinstance(text, str) else text.decode("latin-1") for text in JSON_TEXTS]
    yield from _of("definition: json", as_text, lambda text: parse_definition(text, "json"))
    yield from _of("definition: yaml", [*YAML_TEXTS, *YAML_BOMBS], lambda text: parse_definition(text, "yaml"))
    yield from _of("definition", documents(), lambda document: definition_from_json(document, source="the test"))
    service = ResourcesService(":memory:")
    service.put_definition(b'{"name":"w","nodes":[],"input":{"type":"object","additionalProperties":false}}')
    inputs = [text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text for text in JSON_TEXTS]
    yield from _of("registry: input", inputs, lambda text: service.start_run(StartRequest(workflow_name="w", input=text)))
    yield from _of("registry: definition", inputs, service.put_definition)


def _urls(chance: random.Random) -> Iterator[Case]:
    policy = Policy()

    def ask(url: str) -> None:
        target = policy.check(url)
        policy.judge(target.host)

    yield from _of("url", urls(chance), ask)


def _commands(folder: Path) -> Iterator[Case]:
    words = [word for word in IDS if "\0" not in word and "\ud800" not in word and len(word) <= WORD_MAX] + ["a" * 10_000]
    storage = ("--storage", str(folder))
    for name in ("show", "events", "trace", "state", "replay"):
        yield from _of(f"wonder {name}", words, partial(_wonder, (name, *storage, "--")))
    for before, option in OPTIONS:
        yield from _of(f"wonder {before[0]} {option}", words, partial(_wonder, (*before, *storage, option)))
    for command in (("validate",), ("import", "wfformat")):
        yield from _of(f"wonder {command[0]}", words, partial(_wonder, (*command, "--")))
    yield from _of("wonder logs --where", SQL, partial(_wonder, ("logs", *storage, "--where")))
    yield from _of("wonder sql", [*SQL, *QUESTIONS], partial(_wonder, ("sql", *storage, "--")))


def _wonder(before: tuple[str, ...], word: str) -> str:
    """A command; what it says on stderr is its error, unless nobody expected that."""
    said, told = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(told):
        try:
            COMMAND.main([*before, word], prog_name="wonder")
        except SystemExit as end:
            if end.code in {1, 2} and "not expected" not in told.getvalue():
                raise WonderError(told.getvalue()) from None
            return f"exit {end.code}: {told.getvalue()}{said.getvalue()}"
    return said.getvalue()
