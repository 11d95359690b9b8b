"""Who may hold a call: what a client can make last is bounded in number and in time.

gRPC hands a call over when its headers have come; its message may never follow, or
come a byte a minute. Such a call holds a thread, so that a few hundred of them would
refuse everyone else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from sc_jax.deploy.server.refusals import Refused

REFUSING = 2  # threads
MOMENT_S = 0.05  # in which a message that has been sent is here


class _Held(NamedTuple):
    context: Any
    since_s: float
    ended: threading.Event  # by this server, not by the client


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
        # A dict keeps the order in which its calls came.
        self._peers: dict[str, dict[int, _Held]] = {}
        self._count, self._lock = 0, threading.Lock()

    @contextmanager
    def hold(self, context: Any) -> Iterator[_Held]:
        """While the body runs; it ends with gRPC's error when the call is ended."""
        peer, held = context.peer(), _Held(context, time.monotonic(), threading.Event())
        with self._lock:
            self._peers.setdefault(peer, {})[id(held)] = held
            self._count += 1
            most = self._surplus()
        if most is not None:
            _end(most)
        try:
            yield held
        finally:
            with self._lock:
                self._drop(peer, id(held))

    def first(self, messages: Iterator[bytes], context: Any) -> bytes:
        """The first message of a call; Refused where it does not come."""
        with self.hold(context) as held:
            try:
                return next(messages)
            except (StopIteration, grpc.RpcError) as error:
                # gRPC says either when a call is ended, whichever it hears of first.
                if held.ended.is_set():
                    raise Refused("slow", "the message did not come") from None
                if isinstance(error, StopIteration):
                    raise Refused("message", "the call has no message") from None
                raise Refused("gone", "the client left") from None

    def expire(self) -> None:
        """Ends every call that has been held for longer than limit_s, and surplus."""
        before = time.monotonic() - self._limit_s
        with self._lock:
            surplus = list(iter(self._surplus, None))
            late = [
                held
                for calls in self._peers.values()
                for held in calls.values()
                if held.since_s < before
            ]
        for held in (*surplus, *late):
            _end(held)

    def count(self) -> int:
        return self._count

    def _surplus(self) -> _Held | None:
        """One call beyond the limit, which counts no more; None where there is none."""
        if self._count <= self._limit:
            return None
        peer = max(self._peers, key=lambda each: len(self._peers[each]))
        key, held = next(iter(self._peers[peer].items()))
        if time.monotonic() - held.since_s < MOMENT_S:
            return None
        self._drop(peer, key)
        return held

    def _drop(self, peer: str, key: int) -> None:
        calls = self._peers.get(peer, {})
        if calls.pop(key, None) is not None:
            self._count -= 1
            if not calls:
                del self._peers[peer]


def _end(held: _Held) -> None:
    held.ended.set()
    held.context.cancel()  # gRPC wakes the thread that waits for the message


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
        self._pool = ThreadPoolExecutor(threads, name)
        self._handlers = {path: self._handler(each) for path, each in methods.items()}
        self._limit, self._count, self._lock = limit, 0, threading.Lock()
        # Its own threads: it has to answer when all others are taken.
        self._refusing = ThreadPoolExecutor(REFUSING, f"{name}-full")
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


def _handler_in(
    pool: ThreadPoolExecutor, call: Callable, streams: bool
) -> grpc.RpcMethodHandler:
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
