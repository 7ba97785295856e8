"""What user code prints and logs, as lines: used by the executor around every action.

Caught are writes to `sys.stdout` and `sys.stderr` at the level of Python, and records of `logging` that pass the levels
which the user has set. Not caught is what goes to the file descriptors directly (C libraries, subprocesses): that is in
the files that Ray keeps of each worker's output, as is what threads print that belong to no capture.

Who a write belongs to is decided by a context variable, so that async actions that run at the same time in one process
each get their own lines. `asyncio.to_thread` and tasks inherit it; a thread started by hand does not, and is taken to
belong to the only capture that is open, if it is younger than that, and otherwise to none.

Memory stays flat whatever is printed: a line is kept up to its limit, a token up to its limits, and the rest is counted.

>>> lines = []
>>> with capture_output(lines.append):
...     print("hello")
>>> lines[0].event_type, lines[0].message
('stdout', 'hello')
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.logs._streams import LineAssembler, RoutedStream
from wonder_ray.logs.client import columns_of, line_of_record
from wonder_ray.logs.context import current_log_context, handling, is_handling
from wonder_ray.logs.record import LogLine, bounded, hidden, metadata_text
from wonder_ray.redaction import FORM_CHARS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from wonder_ray.clock import Clock
    from wonder_ray.logs.record import Level, Service

_THREADS_MAX = 128  # threads of one capture that have unfinished lines of their own; further ones share


class CaptureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one token: of stdout and stderr together, and once more of its `logging` records.

    Attributes:
        lines_max: Lines.
        line_chars_max: Characters of one line; the line is kept, with a note of how much was cut.
        bytes_max: UTF-8 bytes of all lines.
    """

    lines_max: int = 5_000
    line_chars_max: int = 8_192
    bytes_max: int = 1024 * 1024


_DEFAULT_LIMITS = CaptureLimits()
_SYSTEM_CLOCK = SystemClock()


def capture_output(
    emit: Callable[[LogLine], object],
    *,
    clock: Clock | None = None,
    limits: CaptureLimits | None = None,
    service: Service = "executor",
    hide: Callable[[str], str] | None = None,
) -> Capture:
    r"""Capture what the code in the `with` block (one attempt of one token) prints and logs.

    Args:
        emit: Takes each line (`LogClient.emit`), marked with the log context in which the block was entered. Called on the
            thread that wrote it; may not block. What it raises is counted, what it prints passes through.
        clock: Where lines get their time from.
        limits: What is over them is dropped, counted, and reported as one `output_truncated` line at the end.
        service: Whose lines these are.
        hide: Takes secrets out of a text; called before a line is shortened.

    Example:
        >>> lines = []
        >>> with capture_output(lines.append, limits=CaptureLimits(lines_max=1)) as capture:
        ...     print("one", "two", sep="\n")
        >>> [line.event_type for line in lines], capture.lines_dropped
        (['stdout', 'output_truncated'], 1)
    """
    return Capture(emit, clock or _SYSTEM_CLOCK, limits or _DEFAULT_LIMITS, service, hide)


class Capture:
    """One `with capture_output(...)` block; not to be entered twice.

    Attributes:
        closed: True once the block has been left; late writes pass through.
        lines_dropped: Lines over the limits.
        chars_dropped: Their characters, and those cut from long lines; line ends not counted.
        emit_errors: How often `emit` raised.
    """

    def __init__(
        self,
        emit: Callable[[LogLine], object],
        clock: Clock,
        limits: CaptureLimits,
        service: Service,
        hide: Callable[[str], str] | None = None,
    ) -> None:
        self._emit = emit
        self._hide = hide
        self._clock = clock
        self._limits = limits
        self._service: Service = service
        self._context = current_log_context()
        self._lock = threading.Lock()  # guards everything below
        self._assemblers: dict[tuple[str, int], LineAssembler] = {}
        self._printed = _Budget(limits)
        self._logged = _Budget(limits)
        self.closed = False
        self.lines_dropped = 0
        self.chars_dropped = 0
        self.emit_errors = 0
        self.older_threads: tuple[threading.Thread, ...] = ()
        self._token: Token[Capture | None] | None = None

    def __enter__(self) -> Self:
        self.older_threads = tuple(threading.enumerate())
        _PROCESS.enter(self)
        self._token = _current.set(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._token is not None:
            with suppress(ValueError):  # left in another context than it was entered in
                _current.reset(self._token)
        _PROCESS.leave(self)
        self._give(self._close())
        self.older_threads = ()

    def feed(self, stream: str, text: str) -> None:
        """Take what was written to `stream`."""
        assembler = self._assemblers.get((stream, threading.get_ident()))
        if assembler is not None and self._printed.spent:
            assembler.skip(text)  # the path of a flood: this thread's own counters, no lock
            return
        with handling(), self._lock:
            lines = self._assemble(stream, text)
        self._give(lines)

    def feed_bytes(self, stream: str, data: memoryview) -> None:
        """Take what was written to the buffer of `stream`."""
        with handling(), self._lock:
            assembler = self._assembler(stream)
        for text in assembler.decode(data):
            self.feed(stream, text)

    def feed_record(self, record: logging.LogRecord) -> None:
        """Take a record of `logging`."""
        if self._logged.spent:
            self.lines_dropped += 1  # not even formatted; without the lock, for the same reason as above
            return
        with handling():
            line = msgspec.structs.replace(line_of_record(record, self._service, "log"), **columns_of(self._context))
            line = bounded(line if self._hide is None else hidden(line, self._hide))
            with self._lock:
                kept = self._logged.take(line.message + (line.error_stack or ""))
                if not kept:
                    self.lines_dropped += 1
                    self.chars_dropped += len(line.message)
        if kept:
            self._give([line])

    def _assemble(self, stream: str, text: str) -> list[LogLine]:
        """The lines that end in this text, as far as the limits go. Runs under the lock."""
        assembler = self._assembler(stream)
        lines: list[LogLine] = []
        seen = 0
        for message in assembler.lines(text):
            seen = text.find("\n", seen) + 1
            if not self._printed.take(message):
                self._drop(message)
                assembler.skip(text, seen)
                break
            lines.append(self._line(stream, message))
        return lines

    def _assembler(self, stream: str) -> LineAssembler:
        thread = threading.get_ident() if len(self._assemblers) < _THREADS_MAX else 0
        key = (stream, thread)
        found = self._assemblers.get((stream, threading.get_ident())) or self._assemblers.get(key)
        if found is None:
            found = self._assemblers[key] = LineAssembler(self._limits.line_chars_max, self._hide, FORM_CHARS_MAX)
        return found

    def _close(self) -> list[LogLine]:
        """What is left to say: unfinished lines, and how much was dropped."""
        lines: list[LogLine] = []
        with handling(), self._lock:
            self.closed = True
            for (stream, _), assembler in self._assemblers.items():
                rest = assembler.rest()
                if rest is not None and self._printed.take(rest):
                    lines.append(self._line(stream, rest))
                elif rest is not None:
                    self._drop(rest)
                self.lines_dropped += assembler.lines_dropped
                self.chars_dropped += assembler.chars_dropped
            if self.lines_dropped or self.chars_dropped:
                lines.append(self._truncation())
        return lines

    def _drop(self, message: str) -> None:
        self.lines_dropped += 1
        self.chars_dropped += len(message)

    def _truncation(self) -> LogLine:
        message = f"{self.lines_dropped} lines and {self.chars_dropped} characters of output were over the limits and dropped"
        counts = {"lines_dropped": self.lines_dropped, "chars_dropped": self.chars_dropped}
        line = self._line("output_truncated", message, "warning")
        return msgspec.structs.replace(line, metadata=metadata_text({**counts, **msgspec.structs.asdict(self._limits)}))

    def _line(self, event_type: str, message: str, level: Level = "info") -> LogLine:
        return LogLine(
            timestamp=self._clock.now_us(),
            level=level,
            service=self._service,
            event_type=event_type,
            message=message,
            **columns_of(self._context),
        )

    def _give(self, lines: list[LogLine]) -> None:
        if not lines:
            return
        token = _current.set(_OUTSIDE)  # what `emit` itself prints must not come back here
        try:
            for line in lines:
                try:
                    self._emit(line)
                except Exception:  # noqa: BLE001 - logging fails no run
                    self.emit_errors += 1
        finally:
            _current.reset(token)


class _Budget:
    """What may still be kept; once something did not fit, nothing more does: what is kept is a beginning."""

    __slots__ = ("_bytes_left", "_lines_left", "spent")

    def __init__(self, limits: CaptureLimits) -> None:
        self._lines_left = limits.lines_max
        self._bytes_left = limits.bytes_max
        self.spent = False

    def take(self, text: str) -> bool:
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self.spent or self._lines_left < 1 or self._bytes_left < size:
            self.spent = True
            return False
        self._lines_left -= 1
        self._bytes_left -= size
        return True


class _ProcessHooks:
    """The replaced `sys.stdout`, `sys.stderr` and `logging.Logger.callHandlers`, from the first open capture to the last.

    Records are taken at `callHandlers` and not by a handler on the root logger, since `logging.basicConfig` in user code
    does nothing once the root has a handler. The user's handlers run too; what they print passes through, so that no
    record becomes two lines.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captures: tuple[Capture, ...] = ()
        self._holders = 0
        self._process = 0
        self._restore: Callable[[], None] = _nothing

    def enter(self, capture: Capture | None) -> None:
        with self._lock:
            if self._holders == 0:
                self._restore = self._install()
            self._holders += 1
            if capture is not None:
                self._captures = (*self._captures, capture)

    def leave(self, capture: Capture | None) -> None:
        with self._lock:
            self._captures = tuple(other for other in self._captures if other is not capture)
            self._holders -= 1
            if self._holders == 0:
                self._restore()

    def find(self) -> Capture | None:
        """The capture that what is written now belongs to."""
        capture = _current.get()
        if capture is None:
            capture = self._adopter()
        if capture is None or capture.closed or is_handling() or os.getpid() != self._process:
            return None  # a forked child's copy of a lock may be held for ever
        return capture

    def _adopter(self) -> Capture | None:
        captures = self._captures
        if len(captures) != 1 or threading.current_thread() in captures[0].older_threads:
            return None
        return captures[0]

    def _install(self) -> Callable[[], None]:
        self._process = os.getpid()
        stdout, stderr, call_handlers = sys.stdout, sys.stderr, logging.Logger.callHandlers
        routed_stdout = RoutedStream("stdout", stdout, self.find)
        routed_stderr = RoutedStream("stderr", stderr, self.find)

        def captured_call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            capture = self.find()
            if capture is None:
                call_handlers(logger, record)
                return
            capture.feed_record(record)
            with handling():
                call_handlers(logger, record)

        def restore() -> None:
            if sys.stdout is routed_stdout:  # else user code has put something over it, which leads to ours and on
                sys.stdout = stdout
            if sys.stderr is routed_stderr:
                sys.stderr = stderr
            if logging.Logger.callHandlers is captured_call_handlers:
                logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign] # what was there before

        sys.stdout, sys.stderr = routed_stdout, routed_stderr
        logging.Logger.callHandlers = captured_call_handlers  # type: ignore[method-assign, assignment] # see the class
        return restore


class CaptureHooks:
    """Keeps the process ready for captures between them: `with CaptureHooks():` around a batch of tokens saves some time.

    Example:
        >>> lines = []
        >>> with CaptureHooks():
        ...     for n in range(2):
        ...         with capture_output(lines.append):
        ...             print(n)
        >>> [line.message for line in lines]
        ['0', '1']
    """

    def __enter__(self) -> None:
        _PROCESS.enter(None)

    def __exit__(self, *_exc: object) -> None:
        _PROCESS.leave(None)


def _nothing(*_args: object) -> None:
    pass


_current: ContextVar[Capture | None] = ContextVar("wonder_capture", default=None)
_OUTSIDE = Capture(_nothing, _SYSTEM_CLOCK, _DEFAULT_LIMITS, "executor")
_OUTSIDE.closed = True
_PROCESS = _ProcessHooks()  # stdout, stderr and logging are the process's own state, and so is what stands in for them
