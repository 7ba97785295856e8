"""What a run answers to what it is told: plain dictionaries, as they are stored, so that a repetition gets the same."""

from __future__ import annotations

from typing import TypedDict


class Reply(TypedDict):
    """The answer to every command that was accepted.

    Fields:
        ok: True: a command that is refused raises `CommandRefusedError`.
        run_id: Whose answer it is.
    """

    ok: bool
    run_id: str


class SignalReply(Reply):
    """The answer to a signal.

    Fields:
        delivered: Whether somebody waited for it.
        kept: Whether it waits for somebody.
    """

    delivered: bool
    kept: bool


class AnswerReply(Reply):
    """The answer to an answer.

    Fields:
        accepted: Whether an open gate took it.
        kept: Whether it waits for the gate to open, which then takes or refuses it.
        problems: What the gate's schema has against it; the gate then asks again.
    """

    accepted: bool
    kept: bool
    problems: list[str]
