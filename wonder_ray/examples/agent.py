"""An agent that looks things up until it can answer: it thinks, acts, looks at what came of it, and thinks again.

    wonder run wonder_ray/examples/agent.py --input '{"topic": "first program", "wanted": "born"}'

Each lookup is a child run of a workflow of its own, with its own history; those of one round go on side by side, and one that
fails is lost, not the round. The agent gives up after four rounds. (What stands for a language model here is a rule, and what
stands for the web is a handful of sentences, so that the example runs anywhere and always says the same.)

>>> think({"topic": "first program", "wanted": "born"}, [], [])["queries"]
['first program']
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

import wonder_ray as wonder

ROUNDS: Final = 4
LIBRARY: Final = MappingProxyType(
    {
        "first program": "The first published program was written by [Ada Lovelace] for the [Analytical Engine].",
        "Ada Lovelace": "Ada Lovelace was born in London in 1815, a daughter of [Lord Byron].",
        "Analytical Engine": "The Analytical Engine was designed by [Charles Babbage]; a [punched card] told it what to do.",
        "Charles Babbage": "Charles Babbage taught mathematics in Cambridge.",
    }
)


class Question(BaseModel):
    """What to find out: where to begin to read, and which word a sentence must have to be the answer."""

    topic: str
    wanted: str


# --- looking one thing up: a workflow of its own -------------------------------------------------------------------------


def read(term: str) -> str:
    """What the library has on a term.

    Raises:
        LookupError: Nothing.
    """
    if term not in LIBRARY:
        raise LookupError(f"the library has nothing on {term!r}")
    return LIBRARY[term]


def links(text: str) -> list[str]:
    """The terms that a text refers to.

    >>> links("[Ada Lovelace] met [Charles Babbage].")
    ['Ada Lovelace', 'Charles Babbage']
    """
    return [part.partition("]")[0] for part in text.split("[")[1:]]


lookup = wonder.Workflow(
    "lookup",
    input={"type": "object", "required": ["term"], "properties": {"term": {"type": "string"}}},
    output={"term": "input.term", "text": "state.text", "links": "state.links"},
)
lookup.node("read", read, input={"term": "input.term"}, output={"state.text": "result"})
lookup.node("links", links, input={"text": "state.text"}, output={"state.links": "result"})
lookup.transition("read", "links")


# --- the agent -----------------------------------------------------------------------------------------------------------


def think(question: dict[str, str], notes: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    """What is known now, and the answer, or else what to look up next."""
    notes = notes + [page for page in found if page not in notes]
    answer = next((page["text"] for page in notes if question["wanted"] in page["text"].split()), None)
    known = {page["term"] for page in notes}
    linked = [link for page in notes for link in page["links"]] if notes else [question["topic"]]
    return {"notes": notes, "answer": answer, "queries": [term for term in dict.fromkeys(linked) if term not in known]}


flow = wonder.Workflow("agent", input=Question, output={"answer": "state.answer", "read": "state.notes.map(page, page.term)"})
flow.node(
    "think",
    think,
    input={
        "question": "input",
        "notes": "has(state.notes) ? state.notes : []",
        "found": "has(state.found) ? state.found : []",
    },
    output={"state.notes": "result.notes", "state.answer": "result.answer"},
    start=True,
)
flow.subworkflow("look_up", lookup, input={"term": "term"}, timeout_s=60)
flow.compute("answer")
flow.compute("give_up", output={"state.answer": "'I do not know.'"})

flow.transition("think", "answer", when="result.answer != null")
flow.transition(
    "think",
    "look_up",
    priority=1,
    when="size(result.queries) > 0",
    foreach="result.queries",
    item="term",
    group="round",
    max_iterations=ROUNDS,
    tolerated_failures=0.5,
)
flow.transition("think", "give_up", priority=2)
flow.transition("think", "give_up", on="group_failed(round)")
flow.transition("look_up", "think", join=wonder.All("round", merge=wonder.Append("state.found")))
