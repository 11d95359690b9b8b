"""The standard health service, for strangers: bounded in memory, threads and time.

It does what grpc_health's does for the names it knows, and keeps nothing for others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from grpc_health.v1 import health_pb2

from sc_jax.deploy.server.holding import Holding
from sc_jax.deploy.server.refusals import Refused, parsed

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MAX_BYTES = 1 << 10  # of a request: the name of a service
WATCHERS = 1024  # streams of Watch at once: a client of several servers has one of each
PUSHING = 8  # threads that send a change to watchers
PUSH_S = 1.0  # for a watcher to take it


@dataclass(eq=False)
class _Watcher:
    context: Any
    send: Callable[[bytes], None]
    sent: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Health:
    """One status for all of `names`: SERVING or NOT_SERVING, which it begins with.

    arriving: bounds the calls whose message is to come.
    """

    def __init__(self, names: tuple[str, ...], arriving: Holding):
        self._names, self._arriving = names, arriving
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._watchers: dict[int, _Watcher] = {}
        self._lock, self._closed = threading.Lock(), False
        self._pushes = ThreadPoolExecutor(PUSHING, "health-push")
        self._pushed = Holding(WATCHERS, PUSH_S)

    def check(self, messages: Iterator[bytes], context: Any) -> bytes:
        """The status, or NOT_FOUND for a name that is none of its own."""
        if self._service(messages, context) not in self._names:
            raise Refused("service", f"known services: {', '.join(self._names[1:])}")
        return _response(self._status)

    def watch(self, messages: Iterator[bytes], context: Any, send: Callable) -> None:
        """The status now and whenever it changes, until the client leaves.

        Of an unknown name SERVICE_UNKNOWN, and the end: the protocol would have it wait
        for the service to appear, and here none ever does.
        """
        if self._service(messages, context) not in self._names:
            with self._arriving.hold(context):
                send(_response(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN))
                send(None)
            return
        watcher = _Watcher(context, send)
        with self._lock:
            if len(self._watchers) >= WATCHERS:
                raise Refused("watch", f"{WATCHERS} others watch this server")
            self._watchers[id(watcher)] = watcher
        if not context.add_callback(lambda: self._watchers.pop(id(watcher), None)):
            self._watchers.pop(id(watcher), None)
            return
        self._push(watcher, self._arriving)

    def set(self, serving: bool) -> None:
        """Sends a change to every watcher, without waiting for any."""
        with self._lock:
            self._set(serving)

    def expire(self) -> None:
        """Ends the watchers that do not take what is sent to them."""
        self._pushed.expire()

    def close(self) -> None:
        """NOT_SERVING, for good."""
        # Under one lock: a `set(True)` that was on its way must not come between.
        with self._lock:
            self._set(False)
            self._closed = True
            self._pushes.shutdown(wait=False)

    def _set(self, serving: bool) -> None:
        known = health_pb2.HealthCheckResponse
        status = known.SERVING if serving else known.NOT_SERVING
        if self._closed or status == self._status:
            return
        self._status = status
        for watcher in list(self._watchers.values()):
            self._pushes.submit(self._push, watcher, self._pushed)

    def _service(self, messages: Iterator[bytes], context: Any) -> str:
        data = self._arriving.first(messages, context)
        if len(data) > MAX_BYTES:
            raise Refused("message", f"{len(data)} bytes, {MAX_BYTES} are the limit")
        return parsed(health_pb2.HealthCheckRequest, data).service

    def _push(self, watcher: _Watcher, holding: Holding) -> None:
        """Sends the status where the watcher has another one, or none.

        Who finds another thread at it leaves: that one looks again when it is through.
        """
        while watcher.sent != self._status and watcher.context.is_active():
            if not watcher.lock.acquire(blocking=False):
                return
            try:
                with holding.hold(watcher.context):
                    status = self._status
                    watcher.send(_response(status))
                    watcher.sent = status
            finally:
                watcher.lock.release()


def _response(status: int) -> bytes:
    return health_pb2.HealthCheckResponse(status=status).SerializeToString()
