"""Captured output: each token gets its own lines, and no more than its limits, whatever user code prints."""

# ruff: noqa: T201 - printing is what is tested

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wonder_ray.clock import SimulatedClock
from wonder_ray.logs.capture import CaptureHooks, capture_output
from wonder_ray.logs.client import LogClient, LogHandler, log_context

if TYPE_CHECKING:
    from wonder_ray.logs.record import LogLine


def messages(lines: list[LogLine], event_type: str = "stdout") -> list[str]:
    return [line.message for line in lines if line.event_type == event_type]


def test_prints_become_lines_with_the_marks_of_their_token(lines: list[LogLine]) -> None:
    clock = SimulatedClock(9)
    with log_context(run_id="run_1", node_id="n", token_id="t", attempt=2), capture_output(lines.append, clock=clock):
        print("a", 1)
        print("b\nc", end="")
        print("oops", file=sys.stderr)
        print()
        sys.stdout.writelines(["d", "e\n"])
    assert messages(lines) == ["a 1", "b", "c", "de"]
    assert messages(lines, "stderr") == ["oops"]
    assert {(line.timestamp, line.level, line.service) for line in lines} == {(9, "info", "executor")}
    assert {(line.trace_id, line.node_id, line.token_id, line.attempt) for line in lines} == {("run_1", "n", "t", 2)}


def test_the_process_gets_its_own_streams_back(lines: list[LogLine], capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, logging.Logger.callHandlers

    def action() -> None:
        with capture_output(lines.append):
            print("inside")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        action()
    print("outside")
    assert (sys.stdout, sys.stderr, logging.Logger.callHandlers) == before
    assert messages(lines) == ["inside"]
    assert capsys.readouterr().out == "outside\n"


def test_an_unfinished_line_is_kept_and_carriage_returns_overwrite(lines: list[LogLine]) -> None:
    with capture_output(lines.append):
        for percent in range(101):
            print(f"\r{percent} %", end="", flush=True)
        print("\r\nwindows\r\nunfinished", end="")
    assert messages(lines) == ["100 %", "windows", "unfinished"]


def test_binary_writes_are_captured_even_in_the_middle_of_a_character(lines: list[LogLine]) -> None:
    with capture_output(lines.append):
        for byte in "žluť\n".encode():
            sys.stdout.buffer.write(bytes([byte]))
        sys.stderr.buffer.write(b"\xff\n")
    assert messages(lines) == ["žluť"]
    assert messages(lines, "stderr") == ["\ufffd"]


def test_the_streams_behave_as_streams(lines: list[LogLine], capfd: pytest.CaptureFixture[str]) -> None:
    with capture_output(lines.append):
        assert sys.stdout.writable()
        assert not sys.stdout.isatty()
        assert sys.stdout.encoding
        assert sys.stdout.name == "<stdout>"
        assert sys.stdout.fileno() >= 0
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # typed as any text stream
        sys.stdout.close()
        with pytest.raises(TypeError, match="must be str, not bytes"):
            sys.stdout.write(b"x")  # type: ignore[arg-type] # the mistake that is tested
        print("still open")
        subprocess.run(["echo", "from a subprocess"], check=True)
    assert messages(lines) == ["still open"]
    assert capfd.readouterr().out == "from a subprocess\n"


def test_user_code_may_redirect_for_itself(lines: list[LogLine]) -> None:
    target = io.StringIO()
    with capture_output(lines.append):
        with contextlib.redirect_stdout(target):
            print("mine")
        print("captured")
    assert target.getvalue() == "mine\n"
    assert messages(lines) == ["captured"]


def test_a_stream_that_user_code_put_there_is_not_taken_away(lines: list[LogLine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    own = io.StringIO()
    with capture_output(lines.append):
        sys.stdout = own
    assert sys.stdout is own


def test_nested_captures_each_get_their_own(lines: list[LogLine]) -> None:
    inner_lines: list[LogLine] = []
    with capture_output(lines.append):
        print("outer")
        with capture_output(inner_lines.append):
            print("inner")
        print("outer again")
    assert messages(lines) == ["outer", "outer again"]
    assert messages(inner_lines) == ["inner"]


def test_concurrent_async_actions_get_their_own_lines() -> None:
    async def action(name: str, lines: list[LogLine]) -> None:
        with log_context(token_id=name), capture_output(lines.append):
            for n in range(20):
                print(name, end=" ")
                await asyncio.sleep(0)
                print(n)
                logging.getLogger("user").warning("%s %d", name, n)
                await asyncio.to_thread(print, name, "thread", n)
                await asyncio.create_task(printing(name, n))

    async def printing(name: str, n: int) -> None:
        print(name, "task", n, file=sys.stderr)

    async def everything() -> dict[str, list[LogLine]]:
        found: dict[str, list[LogLine]] = {f"t{k}": [] for k in range(5)}
        await asyncio.gather(*(action(name, lines) for name, lines in found.items()))
        return found

    for name, lines in asyncio.run(everything()).items():
        assert {line.token_id for line in lines} == {name}
        printed = [f"{name} {n}" for n in range(20)]
        assert [text for text in messages(lines) if "thread" not in text] == printed
        assert [text for text in messages(lines) if "thread" in text] == [f"{name} thread {n}" for n in range(20)]
        assert messages(lines, "stderr") == [f"{name} task {n}" for n in range(20)]
        assert messages(lines, "log") == printed


def test_actions_on_several_threads_get_their_own_lines() -> None:
    together = threading.Barrier(4)

    def action(name: str) -> list[LogLine]:
        lines: list[LogLine] = []
        together.wait(10)
        with capture_output(lines.append):
            for n in range(200):
                print(name, n)
            together.wait(10)
        return lines

    with ThreadPoolExecutor(4) as pool:
        for name, found in zip("abcd", pool.map(action, "abcd"), strict=True):
            assert messages(found) == [f"{name} {n}" for n in range(200)]


def test_threads_of_one_action_do_not_mix_their_lines(lines: list[LogLine]) -> None:
    def work(name: str) -> None:
        for n in range(100):
            print(name, n)

    with capture_output(lines.append):  # the only capture: threads that it started are its own
        threads = [threading.Thread(target=work, args=(f"t{k}",)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(messages(lines)) == sorted(f"t{k} {n}" for k in range(8) for n in range(100))


def test_older_threads_and_late_writes_belong_to_nobody(lines: list[LogLine], capsys: pytest.CaptureFixture[str]) -> None:
    begin, end = threading.Event(), threading.Event()

    def old() -> None:
        begin.wait(10)
        print("from an older thread")
        end.set()

    thread = threading.Thread(target=old)
    thread.start()
    with capture_output(lines.append):
        begin.set()
        assert end.wait(10)
        kept = sys.stdout
        late = threading.Thread(target=lambda: (release.wait(10), kept.write("late\n")))
        release = threading.Event()
        late.start()
    release.set()
    late.join()
    thread.join()
    assert lines == []
    assert capsys.readouterr().out == "from an older thread\nlate\n"


def test_a_thread_without_a_context_is_not_guessed_among_several_captures(
    lines: list[LogLine], capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_output(lines.append), capture_output(lines.append):
        thread = threading.Thread(target=print, args=("whose?",))
        thread.start()
        thread.join()
    assert lines == []
    assert capsys.readouterr().out == "whose?\n"


# ---------------------------------------------------------------------------------------------------------- logging


def test_records_become_one_line_each(
    lines: list[LogLine], user_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_context(token_id="t"), capture_output(lines.append):
        user_logger.addHandler(logging.StreamHandler(sys.stderr))
        user_logger.error("it %s", "failed", extra={"n": 1})
    (line,) = lines
    assert (line.event_type, line.level, line.message, line.token_id) == ("log", "error", "it failed", "t")
    assert json.loads(line.metadata or "")["n"] == 1
    assert capsys.readouterr().err == "it failed\n"  # the user's own handler has run, once


def test_records_carry_their_stacks(lines: list[LogLine], user_logger: logging.Logger) -> None:
    with capture_output(lines.append):
        user_logger.error("outer", exc_info=ValueError("inner"))
    assert (lines[0].error_stack or "").endswith("ValueError: inner")


def test_the_levels_and_handlers_are_the_users(lines: list[LogLine], user_logger: logging.Logger) -> None:
    user_logger.setLevel(logging.WARNING)
    with capture_output(lines.append):
        user_logger.info("too low")
        user_logger.warning("high enough")
    assert messages(lines, "log") == ["high enough"]
    assert user_logger.handlers == []


BASIC_CONFIG = """
import logging
from wonder_ray.logs.capture import capture_output
lines = []
with capture_output(lines.append):
    logging.getLogger("user").warning("before")
    logging.basicConfig(level=logging.INFO)
    logging.info("after")
    logging.debug("no")
print([(line.event_type, line.message) for line in lines])
"""


def test_basic_config_works_as_ever() -> None:
    command = [sys.executable, "-c", BASIC_CONFIG]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert out.stdout == "[('log', 'before'), ('log', 'after')]\n"
    assert out.stderr == "before\nINFO:root:after\n"


def test_a_service_handler_on_the_same_logger_makes_no_second_line(lines: list[LogLine], user_logger: logging.Logger) -> None:
    log = LogClient(lines.extend, "executor")
    user_logger.addHandler(LogHandler(log))
    with capture_output(log.emit):
        user_logger.error("once")
    assert log.close()
    assert messages(lines, "log") == ["once"]


# ------------------------------------------------------------------------------------------------------- recursion


def test_an_emit_that_prints_and_raises_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    def emit(line: LogLine) -> None:
        print("emitting", line.message)
        logging.Logger("x").error("emitting")  # noqa: LOG001 - outside the tree
        raise RuntimeError("no")

    with capture_output(emit) as capture:
        print("hello")
        print("again")
    assert capture.emit_errors == 2
    assert capsys.readouterr().out == "emitting hello\nemitting again\n"


def test_what_is_printed_while_a_write_is_handled_passes_through(
    lines: list[LogLine], capsys: pytest.CaptureFixture[str]
) -> None:
    class Clock:
        """Prints within the handling of a print, as a `__del__` that the collector runs there would."""

        def now_us(self) -> int:
            print("from within")
            return 1

    with capture_output(lines.append, clock=Clock()):
        print("hello")
    assert messages(lines) == ["hello"]
    assert capsys.readouterr().out == "from within\n"


def test_a_record_that_logs_itself_ends(lines: list[LogLine], user_logger: logging.Logger) -> None:
    class Chatty:
        def __str__(self) -> str:
            user_logger.error("chatter")
            return "me"

    with capture_output(lines.append):
        user_logger.error("%s", Chatty())
    assert messages(lines, "log") == ["me"]


def test_a_forked_child_writes_to_the_process_streams(capfd: pytest.CaptureFixture[str], lines: list[LogLine]) -> None:
    with capture_output(lines.append) as capture, capture._lock:  # held, as it may be at the moment of a fork
        child = os.fork()
        if child == 0:
            try:
                print("from the child", flush=True)
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert lines == []
    assert capfd.readouterr().out == "from the child\n"


def test_hooks_can_be_held_for_a_batch(lines: list[LogLine]) -> None:
    with CaptureHooks():
        held = sys.stdout
        for n in range(3):
            with log_context(token_id=f"t{n}"), capture_output(lines.append):
                assert sys.stdout is held
                print(n)
    assert sys.stdout is not held
    assert [(line.message, line.token_id) for line in lines] == [("0", "t0"), ("1", "t1"), ("2", "t2")]
