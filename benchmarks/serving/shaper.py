"""A slow link between two processes of one machine: a TCP proxy with rate and delay.

In user space, for kernels without `tc netem` (which also needs root). Bytes of one
direction leave one after another at the link's rate, whatever connection they are of,
and arrive half a round trip later. At a rate of 0 they wait. A lost packet is sent
again at once: on average the rate falls to 1 - loss of itself, as `plan.send_s` has it;
TCP's own back-off, duty cycles and radio states are not imitated. A chunk is at most
CHUNK_S of the link long, so that latencies are right to a few milliseconds.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

from sc_jax.plan import Link

CHUNK_S, MOST = 0.005, 65536
Rate = Callable[[float], float]  # seconds since the shaper's start -> bits a second


class Direction:
    """One way of the link: who sends when. All connections share it."""

    def __init__(self, rate: Rate, delay_s: float, begun: float):
        self.rate, self.delay_s, self.begun = rate, delay_s, begun
        self.free_at, self.sent_bytes = begun, 0
        self._lock = threading.Lock()

    def most(self) -> int:
        """Bytes to read at once: the link's next CHUNK_S."""
        bits = CHUNK_S * self.rate(time.perf_counter() - self.begun)
        return min(max(int(bits / 8), 1), MOST)

    def arrival(self, count: int) -> float:
        """When the last of `count` bytes, ready now, is at the other end."""
        with self._lock:
            start = max(time.perf_counter(), self.free_at)
            while not (rate := self.rate(start - self.begun)):
                start += CHUNK_S
            self.free_at = start + 8 * count / rate
            self.sent_bytes += count
            return self.free_at + self.delay_s


class Shaper:
    """Listens at `address`, forwards to `target`; a context manager.

    target: host:port. link: its rate up and its round trip. up: the rate over time
    instead, for a trace. The answers' way has the rate `down_bits_per_s`, default
    that of `link` down, or else up.
    """

    def __init__(
        self,
        target: str,
        link: Link,
        *,
        up: Rate | None = None,
        down_bits_per_s: float | None = None,
    ):
        host, _, port = target.rpartition(":")
        self.target = host.strip("[]"), int(port)
        good, begun = 1 - link.loss, time.perf_counter()
        up = up or (lambda _: link.up_bits_per_s)
        down_rate = down_bits_per_s or link.down_bits_per_s or link.up_bits_per_s
        self.up = Direction(lambda t: good * up(t), link.rtt_s / 2, begun)
        self.down = Direction(lambda _: good * down_rate, link.rtt_s / 2, begun)
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Shaper:
        return self

    def __exit__(self, *_) -> None:
        for each in (self._listener, *self._open):
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:  # closed
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:  # nobody there: the client sees its end
                _close(near)
                continue
            self._open |= {near, far}
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._forward(near, far, self.up)
            self._forward(far, near, self.down)

    def _forward(
        self, source: socket.socket, sink: socket.socket, direction: Direction
    ) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def read() -> None:
            while True:
                try:
                    data = source.recv(direction.most())
                except OSError:
                    data = b""
                waiting.put((direction.arrival(len(data)), data))
                if not data:
                    return
                # The next chunk is asked for when the link has room for it.
                time.sleep(max(0.0, direction.free_at - time.perf_counter() - CHUNK_S))

        def write() -> None:
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.perf_counter()))
                try:
                    if data:
                        sink.sendall(data)
                        continue
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    _close(source)
                return

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
