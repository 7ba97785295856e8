"""A thread that does a chore now and then, off the path of whoever has it.

>>> keeper = Keeper("sweep", print_once, every_s=3600)  # doctest: +SKIP
>>> keeper.start()  # doctest: +SKIP
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_S: Final = 60.0
"""A service that has just started has more urgent things to do."""
STOP_S: Final = 15.0


class Keeper:
    """Calls `chore` again and again, until it is stopped.

    Args:
        name: Of the thread.
        chore: Given a function that tells whether to stop; whatever it raises goes to `on_error`, and it is called again.
        every_s: Seconds between two calls; 0 is never.
        on_error: Told what a call raised.
        first_s: Seconds until the first call.
        at_start: Called once, at once, also when the chore is never called.
    """

    def __init__(
        self,
        name: str,
        chore: Callable[[Callable[[], bool]], None],
        *,
        every_s: float,
        on_error: Callable[[Exception], None],
        first_s: float = FIRST_S,
        at_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._chore = chore
        self._every_s = every_s
        self._on_error = on_error
        self._first_s = first_s
        self._at_start = at_start
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, wait_s: float = STOP_S) -> None:
        """End after what is being done now, and wait for that; may be called again, or before `start`."""
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(wait_s)

    def _run(self) -> None:
        self._guarded(self._at_start)
        pause_s = min(self._first_s, self._every_s)
        while self._every_s and not self._stopping.wait(pause_s):
            self._guarded(lambda: self._chore(self._stopping.is_set))
            pause_s = self._every_s

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may go well
            self._on_error(error)
