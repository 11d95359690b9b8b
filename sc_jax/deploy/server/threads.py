"""Threads for calls of gRPC."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LOGGER = logging.getLogger(__name__)


class Threads(ThreadPoolExecutor):
    """At most `limit` threads, begun when needed; the one that is free last goes first.

    An executor because gRPC takes nothing else. Nobody waits for gRPC's calls: with a
    Future each and one queue for all threads, as the standard library has them, a
    request costs a server over a tenth more.
    """

    def __init__(self, limit: int, name: str):
        super().__init__(1, name)  # never starts its own threads
        self._limit, self._name, self._count = limit, name, 0
        self._free: list[_Thread] = []
        self._waiting: deque[tuple] = deque()
        self._lock, self._ended = threading.Lock(), False

    def submit(self, call: Callable, /, *arguments: Any) -> None:  # type: ignore
        """Runs call(*arguments); RuntimeError after `shutdown`."""
        job = call, arguments
        with self._lock:
            if self._ended:
                raise RuntimeError(f"the threads of {self._name} have ended")
            if self._free:
                self._free.pop().give(job)
            elif self._count >= self._limit or not self._begin(job):
                self._waiting.append(job)

    def _begin(self, job: tuple) -> bool:
        """Whether there is one thread more, which runs `job`."""
        own, name = _Thread(), f"{self._name}_{self._count + 1}"
        own.give(job)
        # Daemon: a call that hangs must not keep the process from ending.
        more = threading.Thread(target=self._work, args=(own,), name=name, daemon=True)
        try:
            more.start()
        except RuntimeError:  # the system has no more: gRPC would stop serving
            return False
        self._count += 1
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more; threads end after what was submitted. Waits for none."""
        with self._lock:
            self._ended = True
            while self._free:
                self._free.pop().give(None)

    def _work(self, own: _Thread) -> None:
        job = own.taken()
        while job:
            call, arguments = job
            try:
                call(*arguments)
            except BaseException:  # must not end the thread: it counts as one
                LOGGER.exception("a call failed")
            del job, call, arguments  # or they would live while the thread waits
            job = self._next(own)

    def _next(self, own: _Thread) -> tuple | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._ended:
                return None
            self._free.append(own)
        return own.taken()


class _Thread:
    """Where a thread takes its next call; None: there is none any more."""

    def __init__(self):
        self._job: tuple | None = None
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, job: tuple | None) -> None:
        self._job = job
        self._given.release()

    def taken(self) -> tuple | None:
        self._given.acquire()
        job, self._job = self._job, None
        return job
