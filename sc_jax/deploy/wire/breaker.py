"""When a server that is lost is left alone, and when it is asked again.

A circuit breaker (Nygard, Release It!, 2nd ed. 2018, chapter 5). Closed: every image is
sent. After `losses` in a row it opens: nothing is sent, nothing waited for. When the
back-off is over it is half-open: one image is sent as a probe. An answer closes it, a
loss opens it for twice as long, `longest_s` at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

LOSSES = 3  # in a row; one may be a chance of the link
FIRST_S = 0.5  # from the last loss to the first probe
LONGEST_S = 16.0  # a probe that waits a second in vain is then 6 % of the time
Result = TypeVar("Result")


class Open(Exception):
    """The server is not asked now; one line, the same while the breaker is open."""


class Breaker:
    """The state above; any number of threads may share it.

    clock: seconds, of any zero. Without jitter: a fleet that has to be kept from
    probing in step needs it, one device does not.
    """

    def __init__(
        self,
        losses: int = LOSSES,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._losses, self._first_s, self._longest_s = losses, first_s, longest_s
        self._clock, self._lock = clock, threading.Lock()
        self._in_a_row, self._wait_s, self._probing = 0, first_s, False
        self._since: float | None = None  # it is open; None: closed
        self._next_s, self._past_s, self._openings, self._kept = 0.0, 0.0, 0, 0

    def call(
        self, ask: Callable[[], Result], lost: Callable[[BaseException], bool | None]
    ) -> Result:
        """What `ask` gives or raises; Open where the server is left alone.

        lost: whether what `ask` raised says that the server is; False: it shows a
        server that answers; None: neither, so it counts for nothing.
        """
        probe = self._enter()
        try:
            result = ask()
        except BaseException as error:
            self._leave(probe, lost(error))
            raise
        self._leave(probe, False)
        return result

    def _enter(self) -> bool:
        """Whether this call is the probe of an open breaker; Open."""
        with self._lock:
            if self._since is None:
                return False
            if not self._probing and self._clock() >= self._next_s:
                self._probing = True
                return True
            self._kept += 1
        raise Open(f"not sent: the server was lost {self._losses} times in a row")

    def _leave(self, probe: bool, lost: bool | None) -> None:
        with self._lock:
            self._probing = self._probing and not probe
            now = self._clock()
            if lost is None:
                if probe:  # the next one is due as if this had not been
                    self._next_s = now + self._wait_s
                return
            if not lost:
                if self._since is not None:
                    self._past_s += now - self._since
                self._since, self._in_a_row, self._wait_s = None, 0, self._first_s
                return
            self._in_a_row += 1
            if self._since is None:
                if self._in_a_row < self._losses:
                    return
                self._since, self._openings = now, self._openings + 1
            elif probe:
                self._wait_s = min(2 * self._wait_s, self._longest_s)
            else:
                return  # begun before it opened: known by now
            self._next_s = now + self._wait_s

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone now, but for probes."""
        return self._since is not None

    @property
    def open_s(self) -> float:
        """How long the server has been left alone, all times together."""
        with self._lock:
            return self._past_s + (
                0.0 if self._since is None else self._clock() - self._since
            )

    @property
    def kept(self) -> int:
        """Images that were not sent for it."""
        return self._kept

    def summary(self) -> str:
        """One line for a person; empty where it never opened."""
        if not self._openings:
            return ""
        now = "; it still is" if self._since is not None else ""
        return (
            f"the server was lost for {self.open_s:.1f} s ({self._openings} x), "
            f"{self._kept} images were kept on the device{now}"
        )
