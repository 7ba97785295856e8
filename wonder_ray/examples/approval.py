"""A purchase that somebody has to approve: a gate that asks the next one in time, a deadline, and work that is taken back.

The budget is reserved first, and given back when the purchase is refused, comes too late, or cannot be delivered; an order that
was placed is called off before that.

>>> with wonder.connect() as client:  # doctest: +SKIP
...     run = client.start(flow, Purchase(item="GPU", price=1800, manager="ada"))
...     run.gates()[0].assignee
...     run.answer("approve", {"approved": True}, by="ada")
...     run.result(timeout=60)
>>> reserve("GPU", 1800.0)
{'reservation': 'R-GPU', 'amount': 1800.0}
"""

from __future__ import annotations

from pydantic import BaseModel, Field

import wonder_ray as wonder

DAY_S = 86_400.0


class Purchase(BaseModel):
    """What is to be bought, and whom to ask."""

    item: str
    price: float = Field(gt=0)
    manager: str
    deadline_s: float = Field(7 * DAY_S, gt=0, description="seconds until the purchase is off")


class Verdict(BaseModel):
    """What the manager answers."""

    approved: bool
    reason: str = ""


def reserve(item: str, price: float) -> dict[str, object]:
    """Set the money aside."""
    return {"reservation": f"R-{item}", "amount": price}


def release(reservation: str) -> str:
    """Give the money back: what undoes `reserve`."""
    return f"{reservation} released"


def order(item: str, reservation: str) -> str:
    """Place the order; gives its number."""
    return f"O-{item}-{reservation}"


def call_off(number: str) -> str:
    """Call the order off: what undoes `order`."""
    return f"{number} called off"


@wonder.action(retry=wonder.Retry(max_attempts=3, backoff_s=1.0, non_retryable=("LookupError",)))
def deliver(number: str, item: str) -> str:
    """Have it delivered.

    Raises:
        LookupError: Nobody sells such a thing.
    """
    if item == "unobtainium":
        raise LookupError(f"{number}: nobody sells {item}")
    return f"{item} delivered"


flow = wonder.Workflow("approval", input=Purchase, output={"delivery": "state.delivery", "verdict": "state.verdict"})
flow.node(
    "reserve",
    reserve,
    input={"item": "input.item", "price": "input.price"},
    output={"state.reservation": "result.reservation"},
    undo=wonder.undo(release, input={"reservation": "result.reservation"}),
)
flow.gate(
    "approve",
    Verdict,
    assignee="input.manager",
    input={"item": "input.item", "price": "input.price"},
    output={"state.verdict": "result"},
    escalate=[wonder.Escalate(1 * DAY_S, "'the director'"), wonder.Escalate(3 * DAY_S, "'the board'")],
)
flow.timer("deadline", "has(input.deadline_s) ? input.deadline_s : 604800.0")
flow.node(
    "order",
    order,
    input={"item": "input.item", "reservation": "state.reservation"},
    output={"state.order": "result"},
    undo=wonder.undo(call_off, input={"number": "result"}),
)
flow.node("deliver", deliver, input={"number": "state.order", "item": "input.item"}, output={"state.delivery": "result"})
flow.terminate("refused", "failed", error_type="Refused", message="the purchase was not approved")
flow.terminate("too_late", "failed", error_type="TooLate", message="nobody decided in time")

flow.transition("reserve", ["approve", "deadline"], race="decision")
flow.transition("deadline", "too_late")
flow.transition("approve", "order", when="result.approved")
flow.transition("approve", "refused", priority=1)
flow.transition("order", "deliver")
