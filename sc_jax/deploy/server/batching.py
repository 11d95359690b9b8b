"""Requests that wait together share one run of a padded batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import numpy as np

from sc_jax.deploy.wire.reply import all_numbers, check_shapes

LOGGER = logging.getLogger(__name__)
Outputs = Mapping[str, np.ndarray]
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # a third of padding at most
HISTORY = 8  # batches whose largest estimates how many clients there are


class Full(RuntimeError):
    """The queue holds its limit: nothing was taken."""


class Late(RuntimeError):
    """The request's deadline passed while it waited."""


class Stuck(RuntimeError):
    """The batch overran its limit, or the thread that runs batches has ended."""


class Answer(NamedTuple):
    """One example's row of every output, and what it took."""

    outputs: dict[str, np.ndarray]
    queue_s: float  # from submit to the start of the batch
    compute_s: float  # of the whole batch
    batch_size: int  # examples, without padding
    numbers: bool  # no output of the whole batch is NaN


class Pending:
    """An answer to come: a Future with two locks in place of a Condition.

    begun: from then on a cancel comes too late, and changes nothing.
    """

    __slots__ = ("_ended", "_lock", "_outcome", "begun")

    def __init__(self):
        self.begun = False
        self._outcome: Any = None  # True: it was given out
        self._lock, self._ended = threading.Lock(), threading.Lock()
        self._ended.acquire()  # until there is an outcome

    def begin(self) -> bool:
        """False: it was cancelled."""
        with self._lock:
            self.begun = True
            return self._outcome is None

    def cancel(self) -> bool:
        """Whether its batch had not begun; `result` then raises CancelledError."""
        with self._lock:
            if self.begun or self._outcome:
                return False
            self._outcome = CancelledError()
        self._ended.release()
        return True

    def end(self, outcome: Answer | Exception) -> None:
        """What `result` returns or raises; nothing, where it has an outcome."""
        with self._lock:
            if self._outcome:
                return
            self._outcome = outcome
        self._ended.release()

    def result(self, timeout_s: float = -1) -> Answer:
        """Waits for it, for ever by default; TimeoutError. It is given out once."""
        if not self._ended.acquire(timeout=timeout_s):
            raise TimeoutError(f"no answer in {timeout_s} s")
        # Not kept: frames that an error's traceback holds refer to this, and a circle
        # of them would hold gRPC's call until garbage is collected.
        outcome, self._outcome = self._outcome, True
        if not isinstance(outcome, Exception):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # of the error's frame: a circle too


class _Item(NamedTuple):
    example: np.ndarray
    since_s: float
    deadline_s: float
    pending: Pending


class Batcher:
    """A thread that runs `run` on batches of what `submit` brings.

    run: array [B, ...] -> arrays [B, ...] by name, row by row, B always one of `sizes`
    (ascending): the rest of a batch is zeros. While one batch runs the next gathers;
    it starts when as many wait as the largest of the last HISTORY batches held, at the
    latest `wait_s` after its first example came. So a lone client never waits for
    nobody, and clients that were answered together and ask again stay together.
    limit: examples that may wait; those running are not counted.
    started: called with the number of examples of each batch.
    A run that never returns cannot be ended: `expire` answers those who wait for it.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], Outputs],
        *,
        sizes: Sequence[int] = SIZES,
        wait_s: float = 0.003,
        limit: int = 256,
        started: Callable[[int], object] = lambda count: None,
    ):
        self._run, self._sizes, self._wait_s = run, tuple(sizes), wait_s
        self._limit, self._started = limit, started
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._recent: deque[int] = deque([1], HISTORY)
        self._closed = False
        self._running: list[_Item] = []
        self._since_s = math.inf  # when the batch that runs began; inf: none does
        self._stuck = ""  # why no more is taken for now; "": all is well
        # Daemon: a run that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name="batch", daemon=True)
        self._thread.start()

    def submit(self, example: np.ndarray, deadline_s: float = math.inf) -> Pending:
        """The answer to come. deadline_s: on time.monotonic; Late when passed.

        All examples have one shape and dtype. Full when the queue is, or closed; Stuck
        while a batch overruns. What is cancelled before its batch starts costs no
        computing.
        """
        item = _Item(example, time.monotonic(), deadline_s, Pending())
        with self._changed:
            if self._closed:
                raise Full("the queue is closed")
            if self._stuck:
                raise Stuck(self._stuck)
            if len(self._waiting) >= self._limit:
                raise Full(f"the queue of {self._limit} requests is full")
            self._waiting.append(item)
            if len(self._waiting) in (1, max(self._recent)):  # others change nothing
                self._changed.notify()
        return item.pending

    @property
    def stuck(self) -> str:
        """Why it takes nothing now, one line; empty when all is well."""
        return self._stuck

    def expire(self, limit_s: float) -> None:
        """Where the batch has run for longer than this, nobody waits for it any more.

        Its requests and those behind it get Stuck, and so do new ones until it ends.
        """
        with self._changed:
            if time.monotonic() - self._since_s <= limit_s:
                return
            self._stuck = f"a batch has run for more than {limit_s:g} s"
            items = [*self._running, *self._waiting]
            self._running = []
            self._waiting.clear()
        _fail(items, Stuck(self._stuck))

    def close(self, timeout_s: float | None = None) -> bool:
        """Takes nothing more, answers what waits, ends the thread.

        False: it runs on after timeout_s; who waits for it gets Stuck.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.expire(0.0)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        try:
            while items := self._take():
                self._answer(items)
        except BaseException as error:  # SystemExit and its like, out of a tail
            with self._changed:
                self._stuck = f"the model's thread ended: {type(error).__name__}"
                items = [*self._running, *self._waiting]
                self._running, self._since_s = [], math.inf
                self._waiting.clear()
            LOGGER.exception("no more batches: the model's thread ended")
            _fail(items, Stuck(self._stuck))

    def _take(self) -> list[_Item]:
        """The next batch; empty when closed and nothing waits."""
        with self._changed:
            self._running, self._since_s, self._stuck = [], math.inf, ""
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._waiting:
                left = self._waiting[0].since_s + self._wait_s - time.monotonic()
                self._changed.wait_for(
                    lambda: len(self._waiting) >= max(self._recent) or self._closed,
                    max(left, 0),
                )
            count = min(len(self._waiting), self._sizes[-1])
            # Also of small batches: clients that left are forgotten after HISTORY.
            self._recent.append(count)
            return [self._waiting.popleft() for _ in range(count)]

    def _answer(self, items: list[_Item]) -> None:
        begin = time.monotonic()
        live = []
        for item in items:
            if not item.pending.begin():
                continue
            if begin > item.deadline_s:
                waited = begin - item.since_s
                item.pending.end(Late(f"waited {waited:.3f} s, over budget"))
            else:
                live.append(item)
        if not live:
            return
        self._running, self._since_s = live, begin
        try:  # splitting into rows too: an error there must not end the thread
            self._started(len(live))
            batch = padded(live, self._sizes)
            outputs = self._run(batch)
            check_shapes(outputs, len(batch), 0)
            numbers = all_numbers(outputs)
            rows = [
                {name: array[row] for name, array in outputs.items()}
                for row in range(len(live))
            ]
        except Exception as error:  # reaches each request of the batch
            _fail(live, error)
            return
        took = time.monotonic() - begin
        for row, item in zip(rows, live):
            waited = begin - item.since_s
            # Where the batch overran, Stuck has been the answer.
            item.pending.end(Answer(row, waited, took, len(live), numbers))


def _fail(items: Sequence[_Item], error: Exception) -> None:
    """The answer to each of them that has none."""
    for item in items:
        item.pending.end(error)


def padded(items: Sequence[_Item], sizes: Sequence[int]) -> np.ndarray:
    """The examples and zeros up to the least of `sizes` that holds them."""
    first = items[0].example
    size = next(size for size in sizes if size >= len(items))
    batch = np.zeros((size, *first.shape), first.dtype)
    for row, item in zip(batch, items):
        row[...] = item.example
    return batch
