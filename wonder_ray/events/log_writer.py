"""The thread that owns the commit log: it drains the queue, and many requests are one commit.

A cycle: claim the runs that are opened (or appended to without having been opened here), then one transaction for all
appends and writes, then the answers. Nothing is answered before it is durable.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from wonder_ray.errors import PayloadError, ServiceUnavailableError, StaleEpochError, StorageError, WonderError
from wonder_ray.events.adoption import index_unknown_files
from wonder_ray.events.claiming import Claim, claim_runs
from wonder_ray.events.lines import check_batch
from wonder_ray.events.log_keeping import DELETED_EPOCH
from wonder_ray.events.spans import judge, mark_of
from wonder_ray.events.wire import Ack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.clock import Clock
    from wonder_ray.events.commit_log import CommitLog
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.spans import Span
    from wonder_ray.events.wire import EventBatch, Outcome
    from wonder_ray.events.work_queue import Work, WorkQueue

TRIES_MAX: Final = 8
"""How often a request is tried again when another instance takes its run away in the middle of it."""


class LogWriter:
    """Commits what is in a queue.

    Args:
        log: The instance's own log; only this object touches it.
        layout: The storage.
        queue: Where the requests come from.
        group_bytes: How much is committed at once.
        clock: For the time at which rows of deleted runs were refused.
        failpoint: Told each step.
        on_rows: Called after a commit with `(rows, bytes)` that were added.
        on_fatal: Called once, when the log cannot be trusted any more (an I/O error): the process should end.
    """

    def __init__(
        self,
        log: CommitLog,
        layout: EventLayout,
        queue: WorkQueue,
        *,
        group_bytes: int,
        clock: Clock,
        failpoint: Callable[[str], None],
        on_rows: Callable[[int, int], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._layout = layout
        self._queue = queue
        self._group_bytes = group_bytes
        self._clock = clock
        self._failpoint = failpoint
        self._on_rows = on_rows
        self._on_fatal = on_fatal
        self._neighbours: set[Path] = set()
        self.commits = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="wonder-event-log", daemon=True)

    def start(self) -> None:
        """Learn the files that no log knows, then begin to serve."""
        self._index()
        self._thread.start()

    def join(self) -> None:
        """Wait until the closed queue is empty, and everything in it is answered."""
        self._thread.join()

    def _run(self) -> None:
        while group := self._queue.take(self._group_bytes):
            try:
                self._handle(group)
            except ServiceUnavailableError as error:  # the disk is full, or another process holds the log: nothing was done
                _fail(group, error)
            except BaseException as error:  # noqa: BLE001 - whatever it is, this thread must not end without saying so
                self._die(group, error)
                return

    def _handle(self, group: list[Work]) -> None:
        checked = {id(batch): _check(batch) for work in group for batch in work.batches or ()}
        while group:
            self._claim(group)
            group = self._commit([work for work in group if not work.future.done()], checked)

    def _claim(self, group: list[Work]) -> None:
        """Own the runs that are to be opened; requests whose claim fails are answered."""
        wanted = [(work, claim) for work in group for claim in self._claims_of(work)]
        if not wanted:
            return
        logs = set(self._layout.logs())
        if self._neighbours - logs:
            self._index()  # most likely somebody adopted it; if it was lost, its files are known to nobody
        self._neighbours = logs
        outcomes = claim_runs(self._log, self._layout, [claim for _, claim in wanted], self._failpoint)
        for (work, claim), refused in zip(wanted, outcomes, strict=True):
            if work.claim is not None and not work.future.done():
                _answer(work, refused or self._log.marks(claim.run_id))
            elif refused and not isinstance(refused, StaleEpochError) and not work.future.done():
                work.future.set_exception(refused)  # a stale batch is answered by its acknowledgement

    def _claims_of(self, work: Work) -> list[Claim]:
        if work.claim is not None:
            return [work.claim]
        claims = {}
        for batch in work.batches or ():
            run_id = batch.run.workflow_run_id
            fence = self._log.fence(run_id)
            if fence is None or batch.epoch > fence.epoch or (batch.epoch == fence.epoch and not fence.owned):
                claims[run_id, batch.epoch] = Claim(run_id, batch.epoch)
        return list(claims.values())

    def _commit(self, group: list[Work], checked: dict[int, list[Span] | PayloadError]) -> list[Work]:
        """One transaction for all of them; those whose run another instance took away meanwhile are left to be tried again."""
        if not group:
            return []
        answers: list[tuple[Work, object]] = []
        again: list[Work] = []
        rows = size = 0
        with self._log.transaction():
            for work in group:
                if work.write is not None:
                    answers.append((work, self._write(work.write)))
                    continue
                batches = work.batches or []
                if not all(self._is_judgeable(batch) for batch in batches):
                    again.append(work)
                    continue
                acks = []
                for batch in batches:
                    ack, added = self._append(batch, checked[id(batch)])
                    acks.append(ack)
                    rows, size = rows + added, size + (len(batch.lines) if added else 0)
                answers.append((work, acks))
            if rows:
                self._failpoint("append.before_commit")
        if rows:
            self._failpoint("append.after_commit")
        self.commits += 1
        if rows:
            self._on_rows(rows, size)
        for work, answer in answers:
            _answer(work, answer)
        return [work for work in again if _try_again(work)]

    def _write(self, write: Callable[[CommitLog], object]) -> object:
        try:
            with self._log.savepoint():
                return write(self._log)
        except Exception as error:  # noqa: BLE001 - it is the outcome of this write, and of no other in the transaction
            return error

    def _is_judgeable(self, batch: EventBatch) -> bool:
        fence = self._log.fence(batch.run.workflow_run_id)
        return fence is not None and (batch.epoch < fence.epoch or (batch.epoch == fence.epoch and fence.owned))

    def _append(self, batch: EventBatch, incoming: list[Span] | PayloadError) -> tuple[Ack, int]:
        """The answer to a batch, and how many of its rows are new."""
        run_id = batch.run.workflow_run_id
        fence = self._log.fence(run_id)
        if fence is not None and fence.epoch == DELETED_EPOCH:
            self._log.count_refused(run_id, batch.last - batch.first + 1, self._clock.now_us())
            return self._ack(batch, "stale", f"{run_id}: retention has deleted this run; its rows are refused for good"), 0
        if fence is not None and batch.epoch < fence.epoch:
            return self._ack(batch, "stale", f"{run_id}: epoch {batch.epoch} was fenced off by epoch {fence.epoch}"), 0
        if isinstance(incoming, PayloadError):
            return self._ack(batch, "invalid", f"{run_id}: {incoming}"), 0
        held = self._log.spans(run_id, batch.stream)
        verdict = judge(held, incoming)
        if verdict.outcome != "ok":
            return self._ack(batch, verdict.outcome, f"{run_id}, {batch.stream}: {verdict.message}", held), 0
        if verdict.missing:
            held = self._log.append(batch, verdict.missing, held)
        return self._ack(batch, "ok", held=held), sum(span.last - span.first + 1 for span in verdict.missing)

    def _ack(self, batch: EventBatch, outcome: Outcome, message: str = "", held: list[Span] | None = None) -> Ack:
        run_id = batch.run.workflow_run_id
        mark = mark_of(self._log.spans(run_id, batch.stream) if held is None else held)
        return Ack(run_id, batch.stream, mark, self._log.sealed(run_id, batch.stream, mark), outcome, message)

    def _index(self) -> None:
        with self._log.transaction():
            index_unknown_files(self._log, self._layout)
        self._neighbours = set(self._layout.logs())

    def _die(self, group: list[Work], error: BaseException) -> None:
        self.failure = error
        self._queue.close()
        failed = StorageError(f"the event service has stopped: {error!r}; its next start recovers, send again then")
        _fail(group, failed)
        while rest := self._queue.take(self._group_bytes):
            _fail(rest, failed)
        self._on_fatal(error)


def _check(batch: EventBatch) -> list[Span] | PayloadError:
    try:
        return check_batch(batch)
    except PayloadError as error:
        return error


def _answer(work: Work, answer: object) -> None:
    if isinstance(answer, Exception):
        work.future.set_exception(answer)
    else:
        work.future.set_result(answer)


def _fail(group: list[Work], error: WonderError) -> None:
    for work in group:
        if not work.future.done():
            work.future.set_exception(error)


def _try_again(work: Work) -> bool:
    work.tries += 1
    if work.tries < TRIES_MAX:
        return True
    work.future.set_exception(ServiceUnavailableError("another event service keeps taking these runs over; try again"))
    return False
