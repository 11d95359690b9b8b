"""Who may hold a call: what a client can make last is bounded in number and in time.

gRPC hands a call over when its headers have come; its message may never follow, or
come a byte a minute. Such a call holds a thread, so that a few hundred of them would
refuse everyone else.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from sc_jax.deploy.server.refusals import Refused
from sc_jax.deploy.server.threads import Threads

REFUSING = 2  # threads
MOMENT_S = 0.05  # in which a message that has been sent is here


class _Held:
    """A call, since when, and whether this server ended it."""

    __slots__ = ("context", "ended", "peer", "since_s")

    def __init__(self, context: Any):
        self.context, self.since_s = context, time.monotonic()
        self.ended, self.peer = False, ""  # the peer is looked up when it matters

    def end(self) -> None:
        self.ended = True
        self.context.cancel()  # gRPC wakes the thread that waits for the message


class Holding:
    """Calls in a stage that their clients can make last.

    limit: of them at once; beyond it the oldest ends of the connection that holds most,
    so that whoever opens many loses his own, but none that came a moment ago: a message
    that is under way is no trouble. limit_s: of each. More threads than `limit` always
    leave some that are free, or soon will be: `expire`, called again and again, ends
    what no new call does.
    """

    def __init__(self, limit: int, limit_s: float):
        self._limit, self._limit_s = limit, limit_s
        # In the order in which they came. One operation of a dict needs no lock.
        self._calls: dict[int, _Held] = {}
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, context: Any) -> Iterator[_Held]:
        """While the body runs; it ends with gRPC's error when the call is ended."""
        held = self._enter(context)
        try:
            yield held
        finally:
            self._calls.pop(id(held), None)

    def first(self, messages: Iterator[bytes], context: Any) -> bytes:
        """The first message of a call; Refused where it does not come."""
        held = self._enter(context)
        try:
            return next(messages)
        except (StopIteration, grpc.RpcError) as error:
            # gRPC says either when a call is ended, whichever it hears of first.
            unbound(error)
            if held.ended:
                raise Refused("slow", "the message did not come") from None
            if isinstance(error, StopIteration):
                raise Refused("message", "the call has no message") from None
            raise Refused("gone", "the client left") from None
        finally:
            self._calls.pop(id(held), None)

    def expire(self) -> None:
        """Ends every call that has been held for longer than limit_s, and surplus."""
        while self._end_surplus():
            pass
        before = time.monotonic() - self._limit_s
        for held in list(self._calls.values()):
            if held.since_s < before:
                held.end()

    def count(self) -> int:
        return len(self._calls)

    def _enter(self, context: Any) -> _Held:
        held = _Held(context)
        self._calls[id(held)] = held
        if len(self._calls) > self._limit:
            self._end_surplus()
        return held

    def _end_surplus(self) -> bool:
        """Ends one call beyond the limit, which counts no more; False: none is due."""
        with self._lock:
            calls = list(self._calls.values())
            if len(calls) <= self._limit:
                return False
            for held in calls:
                held.peer = held.peer or held.context.peer()
            most = Counter(held.peer for held in calls).most_common(1)[0][0]
            oldest = next(held for held in calls if held.peer == most)
            if time.monotonic() - oldest.since_s < MOMENT_S:
                return False
            self._calls.pop(id(oldest), None)
        oldest.end()
        return True


def unbound(error: BaseException) -> None:
    """Takes an error's frames away.

    gRPC keeps its own with the call, which the frames hold: a circle, so that the call
    would go when garbage is collected, in any thread and long after its connection.
    """
    error.__traceback__ = None


class Method(NamedTuple):
    """answer: (messages, context) -> the response's bytes or, where `streams`,
    (messages, context, send): send(bytes) each response, send(None) at the end.
    """

    answer: Callable[..., Any]
    streams: bool = False


class Doors(grpc.GenericRpcHandler):
    """Methods by path, their threads, and how many of their calls may be under way.

    refuse: (messages, context), what is run in place of one call too many.
    """

    def __init__(
        self,
        name: str,
        methods: Mapping[str, Method],
        threads: int,
        limit: int,
        refuse: Callable[[Any, Any], Any],
    ):
        self._pool = Threads(threads, name)
        self._handlers = {path: self._handler(each) for path, each in methods.items()}
        self._limit, self._count, self._lock = limit, 0, threading.Lock()
        # Its own threads: it has to answer when all others are taken.
        self._refusing = Threads(REFUSING, f"{name}-full")
        self._refusal = _handler_in(self._refusing, refuse, streams=False)

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """gRPC asks here, call by call, before any thread is taken."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            return None
        with self._lock:
            if self._count >= self._limit:
                return self._refusal
            self._count += 1
        return handler

    def close(self) -> None:
        for pool in (self._pool, self._refusing):
            pool.shutdown(wait=False)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        def call(*arguments):
            try:
                return method.answer(*arguments)
            finally:
                with self._lock:
                    self._count -= 1

        return _handler_in(self._pool, call, method.streams)


def _handler_in(pool: Threads, call: Callable, streams: bool) -> grpc.RpcMethodHandler:
    """A handler that gRPC runs in `pool`.

    Requests stream whatever the method: gRPC calls such a handler at once, where one of
    a single request would be waited for out of this module's reach. The attributes are
    those by which grpcio-health-checking chooses its pool, and sends without holding a
    thread.
    """
    call.experimental_thread_pool = pool  # type: ignore[attr-defined]
    if not streams:
        return grpc.stream_unary_rpc_method_handler(call)
    call.experimental_non_blocking = True  # type: ignore[attr-defined]
    return grpc.stream_stream_rpc_method_handler(call)
