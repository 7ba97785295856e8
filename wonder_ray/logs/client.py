"""How services, coordinators and executors write lines: buffered, never blocking, never raising.

>>> sent = []
>>> logs = LogClient(sent.extend, "coordinator")
>>> with log_context(run_id="run_1"):
...     logs.warning("db_query_slow", "loading tokens took long", duration_ms=1200)
>>> logs.close()
True
>>> sent[0].trace_id, sent[0].metadata
('run_1', '{"duration_ms":1200}')
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.logs.context import LogContext, current_log_context, handling, is_handling, log_context
from wonder_ray.logs.record import LEVELS, LogLine, bounded, dropped_line, hidden, is_severe, metadata_text, weight

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.clock import Clock
    from wonder_ray.logs.record import Level, Service

__all__ = ["ClientLimits", "LogClient", "LogHandler", "current_log_context", "line_of_record", "log_context"]

_COLUMNS_OF_CONTEXT = ("trace_id", "request_id", "workspace_id", "project_id", "node_id", "token_id", "attempt")
_PLAIN_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a `LogClient`.

    Attributes:
        buffer_lines_max: Lines that may wait to be sent; more are dropped and counted.
        buffer_bytes_max: Memory that they may take, roughly.
        reserve: Fraction of both that only warnings and worse may use.
        batch_lines_max: Lines in one call of `send`; as soon as there are so many, they are sent.
        age_s_max: How long a line may wait for company; errors do not wait.
    """

    buffer_lines_max: int = 10_000
    buffer_bytes_max: int = 16 * 1024 * 1024
    reserve: float = 0.1
    batch_lines_max: int = 500
    age_s_max: float = 0.5


class LogClient:
    """Collects lines and hands them to `send` in batches, on a thread of its own. Thread-safe.

    Args:
        send: Takes a batch: `RemoteSender` for a cluster, `LogService.write` in one process. When it raises, the batch
            is counted as dropped; it is not tried again.
        service: Whose lines these are.
        host: This machine's name by default.
        pid: This process by default.
        clock: Where lines get their time from.
        limits: Bounds.
        level_min: Lines below it are left out.
        hide: Takes secrets out of every text; called before a line is shortened, and before it is kept.

    Attributes:
        service: Whose lines these are.
        dropped: Lines lost so far; each loss is reported with the next batch, as `log_lines_dropped`.
    """

    def __init__(
        self,
        send: Callable[[list[LogLine]], object],
        service: Service,
        host: str | None = None,
        pid: int | None = None,
        clock: Clock | None = None,
        *,
        limits: ClientLimits | None = None,
        level_min: Level = "debug",
        hide: Callable[[str], str] | None = None,
    ) -> None:
        self._send = send
        self._hide = hide
        self.service: Service = service
        self._host = host or socket.gethostname()
        self._pid = os.getpid() if pid is None else pid
        self._process = os.getpid()
        self._clock = clock or SystemClock()
        self._limits = limits or ClientLimits()
        self._levels = frozenset(LEVELS[LEVELS.index(level_min) :])
        self._changed = threading.Condition()  # guards everything below
        self._buffer: deque[LogLine] = deque()
        self._buffer_bytes = 0
        self._accepted = self._settled = 0
        self.dropped = self._reported = 0
        self._urgent = self._closing = False
        self._thread: threading.Thread | None = None

    def debug(self, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line of level debug; see `log`."""
        self.log("debug", event_type, message, error=error, **fields)

    def info(self, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line of level info; see `log`."""
        self.log("info", event_type, message, error=error, **fields)

    def warning(self, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line of level warning; see `log`."""
        self.log("warning", event_type, message, error=error, **fields)

    def error(self, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line of level error; see `log`."""
        self.log("error", event_type, message, error=error, **fields)

    def critical(self, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line of level critical; see `log`."""
        self.log("critical", event_type, message, error=error, **fields)

    def log(self, level: Level, event_type: str, message: str = "", *, error: BaseException | None = None, **fields: Any) -> None:
        """Write a line. Never blocks, never raises.

        Args:
            level: How bad it is.
            event_type: What happened, in snake case.
            message: The same for people.
            error: Its traceback becomes the line's error stack.
            fields: Columns of `LogLine` (`trace_id`, `node_id`, ...) go there, before what the log context says; all
                others into the metadata, whatever they are.
        """
        if level not in self._levels:  # before anything is formatted
            return
        try:
            columns = {name: fields.pop(name) for name in _COLUMNS_OF_CONTEXT if name in fields}
            stack = fields.pop("error_stack", None)
            line = LogLine(
                timestamp=self._clock.now_us(),
                level=level,
                service=self.service,
                event_type=event_type,
                message=message,
                error_stack=stack_of(error) if error is not None else stack,
                metadata=metadata_text(fields),
                **{**columns_of(current_log_context()), **columns},
            )
        except Exception:  # noqa: BLE001 - an argument that cannot even be shown costs its line, not the run
            self._count_dropped(1)
            return
        self.emit(line)

    def emit(self, line: LogLine) -> None:
        """Write a line that was made elsewhere; host and pid are added. Never blocks, never raises.

        Lines that are written while another is being handled on the same thread (by a `__del__`, say, that runs within)
        are dropped: taking the lock again would deadlock.
        """
        if os.getpid() != self._process or line.level not in self._levels:
            return  # a forked child: its copy of the lock may be held for ever, and it has no sender
        if is_handling():
            self.dropped += 1  # without the lock: the count may be off by one, the process lives
            return
        with handling():
            try:
                whole = line if line.host else msgspec.structs.replace(line, host=self._host, pid=self._pid)
                self._add(bounded(whole if self._hide is None else hidden(whole, self._hide)))
            except Exception:  # noqa: BLE001 - logging fails no run
                self.dropped += 1

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until `send` has been called with everything written so far; False when it has not in time."""
        with handling(), self._changed:
            wanted = self._accepted
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= wanted, timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Send what is buffered and end; False when that took too long. Lines written afterwards are dropped."""
        with handling(), self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _add(self, line: LogLine) -> None:
        severe = is_severe(line)
        share = 1.0 if severe else 1.0 - self._limits.reserve
        size = weight(line)
        with self._changed:
            if (
                self._closing
                or len(self._buffer) >= self._limits.buffer_lines_max * share
                or self._buffer_bytes + size > self._limits.buffer_bytes_max * share
            ):
                self.dropped += 1
                self._reported += self._closing  # then nobody is left to be told
                return
            self._buffer.append(line)
            self._buffer_bytes += size
            self._accepted += 1
            self._urgent = self._urgent or line.level in {"error", "critical"}
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wonder-logs-sender", daemon=True)
                self._thread.start()
            if len(self._buffer) == 1 or self._is_due():
                self._changed.notify_all()

    def _count_dropped(self, count: int) -> None:
        with handling(), self._changed:
            self.dropped += count

    def _is_due(self) -> bool:
        return self._urgent or self._closing or len(self._buffer) >= self._limits.batch_lines_max

    # --------------------------------------------------------------------------------------------- the sender thread

    def _run(self) -> None:
        with handling():  # what `send` logs or prints would breed a further batch, and that the next
            while True:
                lines, missing = self._next_batch()
                if not lines and not missing:
                    return
                try:
                    self._send([*lines, self._report(missing)] if missing else lines)
                except Exception:  # noqa: BLE001 - a service that is away costs lines, not the run
                    self._settle(len(lines), lost=len(lines), unreported=missing)
                else:
                    self._settle(len(lines), lost=0, unreported=0)

    def _next_batch(self) -> tuple[list[LogLine], int]:
        """Wait for a batch that is full, old or urgent, and the number of lost lines to report; all empty: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._buffer or self._closing)
            self._changed.wait_for(self._is_due, self._limits.age_s_max)
            lines = [self._buffer.popleft() for _ in range(min(len(self._buffer), self._limits.batch_lines_max))]
            self._buffer_bytes -= sum(map(weight, lines))
            if not self._buffer:
                self._urgent = False
            missing = self.dropped - self._reported
            self._reported += missing
            return lines, missing

    def _settle(self, count: int, *, lost: int, unreported: int) -> None:
        with self._changed:
            self._settled += count
            self.dropped += lost
            self._reported -= unreported
            if self._closing and lost + unreported:  # `send` fails and nobody is left to be told: closing must end
                self._reported = self.dropped
            self._changed.notify_all()

    def _report(self, missing: int) -> LogLine:
        origin = LogLine(
            timestamp=self._clock.now_us(),
            level="warning",
            service=self.service,
            event_type="",
            host=self._host,
            pid=self._pid,
        )
        return dropped_line(origin, {self.service: missing}, "the buffer of the log client was full, or could not be sent")


class LogHandler(logging.Handler):
    """Makes lines of what the stdlib's `logging` is told: `logging.getLogger("wonder_ray").addHandler(LogHandler(logs))`.

    `exc_info` becomes the error stack, `extra` goes into the metadata beside logger, function and line. What is logged
    while a line is being made or sent is ignored: it would never end.

    Example:
        >>> sent = []
        >>> logs = LogClient(sent.extend, "http")
        >>> logger = logging.getLogger("doc_example")
        >>> handler = LogHandler(logs)
        >>> logger.addHandler(handler)
        >>> logger.warning("%s is slow", "disk", extra={"duration_ms": 7})
        >>> logger.removeHandler(handler)
        >>> logs.close()
        True
        >>> sent[0].level, sent[0].message
        ('warning', 'disk is slow')
    """

    def __init__(self, client: LogClient, event_type: str = "log", level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._client = client
        self._event_type = event_type

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`; never raises."""
        if is_handling():
            return
        with handling():
            line = line_of_record(record, self._client.service, self._event_type)
        self._client.emit(line)


def line_of_record(record: logging.LogRecord, service: Service, event_type: str) -> LogLine:
    """A record of the stdlib's `logging` as a line, marked with the log context; never raises."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - "%d" % "x": what was meant is still worth a line
        message = metadata_text({"msg": record.msg, "args": record.args}) or ""
    extra = {name: value for name, value in record.__dict__.items() if name not in _PLAIN_RECORD}
    where = {"logger": record.name, "function": record.funcName, "line": record.lineno}
    stacks = [stack_of(record.exc_info[1])] if record.exc_info and record.exc_info[1] else []
    stacks += [text for text in (record.exc_text if not stacks else None, record.stack_info) if text]
    return LogLine(
        timestamp=int(record.created * 1_000_000),
        level=_level_of(record.levelno),
        service=service,
        event_type=event_type,
        message=message,
        error_stack="\n".join(stacks) or None,
        metadata=metadata_text({**extra, **where}),
        **columns_of(current_log_context()),
    )


def columns_of(context: LogContext) -> dict[str, Any]:
    """A log context under the names of the columns."""
    return {
        "trace_id": context.run_id,
        "request_id": context.request_id,
        "workspace_id": context.workspace_id,
        "project_id": context.project_id,
        "node_id": context.node_id,
        "token_id": context.token_id,
        "attempt": context.attempt,
    }


def stack_of(error: BaseException) -> str:
    """The traceback as text, as Python prints it."""
    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except Exception:  # noqa: BLE001 - exceptions of users may fail in any of their methods
        return f"<{type(error).__name__}, whose traceback cannot be shown>"


def _level_of(levelno: int) -> Level:
    if levelno >= logging.ERROR:
        return "critical" if levelno >= logging.CRITICAL else "error"
    if levelno >= logging.INFO:
        return "warning" if levelno >= logging.WARNING else "info"
    return "debug"
