"""Small workflows that between them need every decision of the specification's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from tests.cases.words import all_of, append, edge, node, workflow
from wonder_ray.definitions.models import ComputeNode

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

PAGES = ["a", "b", "c"]


def crawl(**rest: Any) -> WorkflowDefinition:
    """List pages, count them inside the coordinator, fetch each in a branch, report all."""
    return workflow(
        [
            node("list", input={"value": "input"}, output={"state.urls": "result"}),
            ComputeNode(id="count", output={"state.n": "size(state.urls)"}),
            node("fetch", input={"value": "item"}),
            node("report", input={"value": "state.pages"}),
        ],
        edge("list", "count"),
        edge("count", "fetch", foreach="state.urls", group="pages"),
        edge("fetch", "report", join=all_of("pages", append("state.pages"))),
        name="crawl",
        output={"pages": "state.pages", "n": "state.n"},
        **rest,
    )


def one_node(**rest: Any) -> WorkflowDefinition:
    """A single action."""
    return workflow([node("work", "work", input={"value": "input"}, **rest)], name="single")


def compute_only() -> WorkflowDefinition:
    """A single compute node: the run needs no executor."""
    return workflow([ComputeNode(id="set", output={"state.name": "'Alice'"})], name="compute")


def boom(**_given: Any) -> NoReturn:
    """An action that fails."""
    msg = "out of disk"
    raise RuntimeError(msg)
