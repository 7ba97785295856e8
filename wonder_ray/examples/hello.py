"""The smallest workflow with a fan-out: list some names, greet each in a branch of its own, and report.

    wonder run wonder_ray/examples/hello.py --input '{"names": ["Ada", "Grace"]}'

>>> greet("Ada", "Hello")
'Hello, Ada!'
"""

from __future__ import annotations

import wonder_ray as wonder

NAMES = ("Ada", "Grace", "Barbara")


def list_names(names: list[str]) -> list[str]:
    """Whom to greet: the names given, each once; a few known ones when none are given."""
    return list(dict.fromkeys(names)) or list(NAMES)


def greet(name: str, word: str) -> str:
    """One greeting."""
    return f"{word}, {name}!"


def report(greetings: list[str]) -> dict[str, object]:
    """All greetings, in the order of the names, however they came in."""
    return {"greetings": greetings, "count": len(greetings)}


flow = wonder.Workflow("hello", output={"greetings": "state.report.greetings", "count": "state.report.count"})
flow.node(
    "list",
    list_names,
    input={"names": "input != null && has(input.names) ? input.names : []"},
    output={"state.names": "result"},
)
flow.node("greet", greet, input={"name": "name", "word": "'Hello'"})
flow.node("report", report, input={"greetings": "state.greetings"}, output={"state.report": "result"})
flow.transition("list", "greet", foreach="state.names", item="name", group="greetings")
flow.transition("greet", "report", join=wonder.All("greetings", merge=wonder.Append("state.greetings")))
