"""The client: marks lines with their context, sends them in batches, and never blocks, raises or loops."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from wonder_ray.clock import SimulatedClock
from wonder_ray.logs.client import ClientLimits, LogClient, LogHandler, log_context
from wonder_ray.logs.context import current_log_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.logs.record import LogLine

SLOW = ClientLimits(age_s_max=3600)  # nothing is sent because of its age


class Gate:
    """A `send` that waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[LogLine]] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, lines: list[LogLine]) -> None:
        self.entered.set()
        assert self.open.wait(30)
        self.batches.append(lines)


@pytest.fixture
def sent() -> list[LogLine]:
    return []


@pytest.fixture
def client(sent: list[LogLine]) -> Iterator[LogClient]:
    client = LogClient(sent.extend, "coordinator", "h", 7, SimulatedClock(5), limits=SLOW)
    yield client
    client.close()


@pytest.fixture
def logger(client: LogClient) -> logging.Logger:
    logger = logging.Logger("tests.logs.client")  # noqa: LOG001 - outside the tree, so that pytest's handlers stay away
    logger.addHandler(LogHandler(client))
    return logger


def test_a_line_carries_who_when_where_and_what(client: LogClient, sent: list[LogLine]) -> None:
    client.warning("db_query_slow", "loading took long", duration_ms=1200, trace_id="run_1", where={"table": "tokens"})
    assert client.flush()
    (line,) = sent
    assert (line.timestamp, line.level, line.service, line.event_type) == (5, "warning", "coordinator", "db_query_slow")
    assert (line.host, line.pid, line.trace_id, line.message) == ("h", 7, "run_1", "loading took long")
    assert json.loads(line.metadata or "") == {"duration_ms": 1200, "where": {"table": "tokens"}}


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_there_is_a_method_per_level(client: LogClient, sent: list[LogLine], level: str) -> None:
    getattr(client, level)("x")
    assert client.flush()
    assert [line.level for line in sent] == [level]


def test_lines_below_the_least_level_are_left_out(sent: list[LogLine], make_line: Any) -> None:
    client = LogClient(sent.extend, "http", level_min="warning")
    client.info("x")
    client.emit(make_line())
    client.error("y")
    assert client.close()
    assert [line.event_type for line in sent] == ["y"]
    assert client.dropped == 0


def test_contexts_nest_and_end(client: LogClient, sent: list[LogLine]) -> None:
    with log_context(run_id="run_1", request_id="r", workspace_id="w", project_id="p"):
        with log_context(node_id="n", token_id="t", attempt=0):
            client.info("inner")
        with log_context(run_id="run_2"):
            client.info("other", token_id="mine")
    client.info("outside")
    assert client.flush()
    seen = [(line.trace_id, line.request_id, line.workspace_id, line.node_id, line.token_id, line.attempt) for line in sent]
    assert seen == [
        ("run_1", "r", "w", "n", "t", 0),
        ("run_2", "r", "w", None, "mine", None),
        (None, None, None, None, None, None),
    ]
    assert current_log_context().run_id is None


def test_an_error_becomes_a_stack(client: LogClient, sent: list[LogLine]) -> None:
    error = KeyError("k")
    error.__cause__ = ValueError("cause")
    client.error("failed", "it failed", error=error)
    assert client.flush()
    stack = sent[0].error_stack or ""
    assert "ValueError: cause" in stack
    assert stack.endswith("KeyError: 'k'")


def test_errors_leave_at_once_and_full_batches_too(sent: list[LogLine], wait_until: Any) -> None:
    client = LogClient(sent.extend, "http", limits=ClientLimits(age_s_max=3600, batch_lines_max=10))
    client.info("waits")
    client.error("hurries")
    wait_until(lambda: len(sent) == 2, what="the error")
    for _ in range(10):
        client.info("many")
    wait_until(lambda: len(sent) == 12, what="the full batch")
    assert client.close()


def test_old_lines_leave_by_themselves(sent: list[LogLine], wait_until: Any) -> None:
    client = LogClient(sent.extend, "http", limits=ClientLimits(age_s_max=0.01))
    client.info("x")
    wait_until(lambda: sent, what="the old line")
    assert client.close()


def test_batches_are_bounded_and_in_order(make_line: Any) -> None:
    batches: list[list[LogLine]] = []
    client = LogClient(batches.append, "http", limits=ClientLimits(batch_lines_max=10, age_s_max=3600))
    for n in range(95):
        client.emit(make_line(n))
    assert client.close()
    assert [line.timestamp for batch in batches for line in batch] == list(range(95))
    assert max(map(len, batches)) <= 10


def test_a_hanging_service_blocks_nobody_and_what_is_dropped_is_reported(make_line: Any) -> None:
    gate = Gate()
    client = LogClient(gate, "http", limits=ClientLimits(buffer_lines_max=100, batch_lines_max=1000, age_s_max=0.001))
    client.error("first")
    assert gate.entered.wait(10)
    for n in range(1000):
        client.emit(make_line(n))  # 90 fit, ten places are kept for what is worse
    for _ in range(15):
        client.error("severe")
    assert client.dropped == 910 + 5
    assert not client.flush(0.01)
    gate.open.set()
    assert client.close()
    lines = [line for batch in gate.batches for line in batch]
    assert len(lines) == 1 + 100 + 1
    (report,) = [line for line in lines if line.event_type == "log_lines_dropped"]
    assert json.loads(report.metadata or "")["dropped"] == 915
    assert report.service == "http"


def test_what_a_service_refuses_is_reported_when_it_is_back(sent: list[LogLine], wait_until: Any) -> None:
    away = True

    def send(lines: list[LogLine]) -> None:
        if away:
            raise ConnectionError("away")
        sent.extend(lines)

    client = LogClient(send, "http")
    for n in range(3):
        client.error("lost", n=n)
        assert client.flush()
    assert client.dropped == 3
    away = False
    client.error("back")
    assert client.close()
    assert [line.event_type for line in sent] == ["back", "log_lines_dropped"]
    assert json.loads(sent[1].metadata or "")["dropped"] == 3


def test_closing_with_a_service_that_is_away_ends(make_line: Any) -> None:
    def send(lines: list[LogLine]) -> None:
        raise ConnectionError("away")

    client = LogClient(send, "http", limits=ClientLimits(batch_lines_max=2, age_s_max=3600))
    for n in range(9):
        client.emit(make_line(n))
    assert client.close(10)
    assert client.dropped == 9
    client.error("too late")
    assert client.dropped == 10


def test_arguments_that_cannot_be_shown_cost_no_more_than_themselves(client: LogClient, sent: list[LogLine]) -> None:
    class Broken(Exception):  # noqa: N818 - it is the breaking that matters
        def __repr__(self) -> str:
            raise RuntimeError("no")

        __str__ = __repr__

    broken: Any = Broken()
    client.info("x", broken, value=broken, error=broken, trace_id=broken)
    client.error(broken)
    assert client.flush()
    assert [line.event_type for line in sent] == ["x", "<unprintable Broken>"]
    assert "Broken" in (sent[0].error_stack or "")


def test_a_line_written_while_one_is_being_handled_is_dropped_not_a_deadlock(make_line: Any) -> None:
    sent: list[LogLine] = []
    client = LogClient(sent.extend, "http", limits=SLOW)
    add = client._add

    def nosy_add(line: LogLine) -> None:
        """Logs while the client holds its lock, as a `__del__` that the collector runs there would."""
        with client._changed:
            client.error("from within")
        add(line)

    client._add = nosy_add  # type: ignore[method-assign] # the moment that is hard to hit
    client.info("outer")
    assert client.dropped == 1
    assert client.close()
    assert [line.event_type for line in sent] == ["outer", "log_lines_dropped"]


def test_a_forked_child_writes_nothing_and_does_not_hang(client: LogClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.info("x")
    with client._changed, monkeypatch.context() as patch:  # held, as it may be at the moment of a fork
        patch.setattr(os, "getpid", lambda: -1)
        client.error("in the child")
    assert client.flush()


# ------------------------------------------------------------------------------------------------------ the handler


def test_records_become_lines(logger: logging.Logger, client: LogClient, sent: list[LogLine]) -> None:
    with log_context(run_id="run_1", token_id="t"):
        logger.warning("%s is slow", "disk", extra={"duration_ms": 12, "odd": object})
    assert client.flush()
    (line,) = sent
    assert (line.level, line.event_type, line.message) == ("warning", "log", "disk is slow")
    assert (line.trace_id, line.token_id, line.service, line.host) == ("run_1", "t", "coordinator", "h")
    metadata = json.loads(line.metadata or "")
    assert (metadata["duration_ms"], metadata["logger"]) == (12, "tests.logs.client")
    assert metadata["function"] == "test_records_become_lines"
    assert "taskName" not in metadata


@pytest.mark.parametrize(
    ("levelno", "level"),
    [(5, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (60, "critical")],
)
def test_levels_of_records_are_mapped(
    logger: logging.Logger, client: LogClient, sent: list[LogLine], levelno: int, level: str
) -> None:
    logger.setLevel(1)
    logger.log(levelno, "x")
    assert client.flush()
    assert [line.level for line in sent] == [level]


def test_exceptions_of_records_become_stacks(logger: logging.Logger, client: LogClient, sent: list[LogLine]) -> None:
    logger.error("outer", exc_info=ValueError("inner"))
    logger.error("here", stack_info=True)
    logger.error("nothing", exc_info=True)  # noqa: LOG014 - as users write it
    assert client.flush()
    assert (sent[0].error_stack or "").endswith("ValueError: inner")
    assert "Stack (most recent call last)" in (sent[1].error_stack or "")
    assert sent[2].error_stack is None


def test_badly_formatted_records_are_kept(logger: logging.Logger, client: LogClient, sent: list[LogLine]) -> None:
    logger.info("%d apples", "many")
    assert client.flush()
    assert json.loads(sent[0].message) == {"msg": "%d apples", "args": ["many"]}


def test_logging_inside_of_logging_ends(logger: logging.Logger, client: LogClient, sent: list[LogLine]) -> None:
    class Chatty:
        def __str__(self) -> str:
            logger.error("chatter %s", self)
            return "me"

    logger.info("%s", Chatty())
    assert client.flush()
    assert [line.message for line in sent] == ["me"]


def test_what_the_sender_logs_breeds_no_further_lines(wait_until: Any) -> None:
    sent: list[LogLine] = []
    logger = logging.Logger("tests.logs.client.sender")  # noqa: LOG001 - outside the tree, as above

    def send(lines: list[LogLine]) -> None:
        sent.extend(lines)
        logger.error("sent %d", len(lines))

    client = LogClient(send, "http")
    logger.addHandler(LogHandler(client))
    client.error("x")
    assert client.close()
    assert [line.event_type for line in sent] == ["x"]
