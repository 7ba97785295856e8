"""Digest documents with a language model that is paid by the token: what each call has used stands in the history.

    wonder run wonder_ray/examples/digest.py --trace --input '{"documents": 24}'
    wonder run wonder_ray/examples/digest.py --trace --input '{"documents": 24, "damaged": 5}'     # an incident

::

    collect --each document, eight at a time--> summarize ==all==> combine

The notebooks look at runs of it. **The model is simulated**, so that the example runs anywhere: it takes its time, a
millisecond for two words, it is paid, and it turns away one in five first attempts with a `RateLimited`, after having read
the prompt, which has to be paid all the same. Which ones follows from their token ids, so it is the same in every run.
"""

from __future__ import annotations

import time
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

import wonder_ray as wonder

USD_PER_TOKEN: Final = 0.000_02
WORDS_PER_MS: Final = 2
TURNED_AWAY_ONE_IN: Final = 5
SHARE_KEPT: Final = 0.1

Document = dict[str, Any]
"""`{"title": ..., "words": how many, or None where the file is damaged}`"""


class DigestInput(BaseModel):
    """What a run may be given; every field has a default."""

    model_config = ConfigDict(extra="forbid")

    documents: int = Field(24, ge=0, le=10_000)
    damaged: int | None = Field(None, ge=0, description="which of the documents cannot be read; none by default")


def collect(settings: dict[str, Any] | None) -> list[Document]:
    """The documents, most of them short and a few long.

    >>> [document["words"] for document in collect({"documents": 4, "damaged": 2})]
    [600, 109, None, 127]
    """
    given = DigestInput.model_validate(settings or {})
    words = [600 if n % 12 == 0 else 100 + 9 * n % 80 for n in range(given.documents)]
    return [{"title": f"document {n}", "words": None if n == given.damaged else words[n]} for n in range(given.documents)]


@wonder.action(retry=wonder.Retry(max_attempts=4, backoff_s=0.05, retry_on=("RateLimited",)), num_cpus=1, batch=False)
def summarize(document: Document) -> dict[str, Any]:
    """Ask the model for a summary.

    Raises:
        ActionError: `RateLimited`, where the model turns the call away; `UnreadableDocument`, which no further attempt mends.
    """
    print(f"reading {document['title']!r}: {document['words']} words")
    if document["words"] is None:
        raise wonder.ActionError("UnreadableDocument", f"{document['title']!r} has no text in it", retryable=False)
    wonder.report_usage(tokens=document["words"], cost_usd=document["words"] * USD_PER_TOKEN)
    time.sleep(document["words"] / WORDS_PER_MS / 1000)
    _maybe_turn_away()
    kept = round(document["words"] * SHARE_KEPT)
    wonder.report_usage(tokens=kept, cost_usd=2 * kept * USD_PER_TOKEN)
    return {"title": document["title"], "words": kept}


def combine(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """One digest of all summaries."""
    return {"documents": len(summaries), "words": sum(summary["words"] for summary in summaries)}


def _maybe_turn_away() -> None:
    task = wonder.current()
    if task.attempt == 1 and int(task.token_id.rpartition("_")[2], 16) % TURNED_AWAY_ONE_IN == 0:
        raise wonder.ActionError("RateLimited", "429: too many requests (simulated)")


flow = wonder.Workflow(
    "digest",
    description="Summaries of documents, and what they have cost",
    input={"anyOf": [{"type": "null"}, DigestInput.model_json_schema()]},
    output={"digest": "state.digest"},
)
flow.node("collect", collect, input={"settings": "input"}, output={"state.documents": "result"})
flow.node("summarize", summarize, input={"document": "item"})
flow.node("combine", combine, input={"summaries": "state.summaries"}, output={"state.digest": "result"})
flow.transition("collect", "summarize", foreach="state.documents", group="documents", max_concurrency=8)
flow.transition("summarize", "combine", join=wonder.All("documents", merge=wonder.Append("state.summaries")))
