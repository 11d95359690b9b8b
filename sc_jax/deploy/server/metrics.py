"""What an edge server counts, for Prometheus."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from sc_jax.deploy.wire.hosts import bracketed
from sc_jax.errors import UsageError

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
THREADS, WAITING = 4, 32  # of the metrics' port: connections at once
SECONDS_EACH = 3.0
PAUSE_S = 0.1  # after a connection that could not be accepted
HEAD_BYTES = 8192


@dataclass(frozen=True)
class Metrics:
    """Each server has its own registry. Labels take the server's own words only."""

    registry: CollectorRegistry
    latency: Histogram  # {model}: seconds of answered requests, frame in to reply out
    received: Counter  # {model}: bytes of frames
    batches: Histogram  # {model}: examples a batch, without padding
    rejects: Counter  # {reason}; messages above the byte limit never get this far
    in_flight: Gauge  # requests held now, waiting or running
    # Of a server that forwards:
    forwarded: Counter  # {model}: frames that may have left for the next server
    forwarded_bytes: Counter  # {model}
    exits: Counter  # {model, exit}: answers of its own exits
    next_lost: Counter  # {status}: frames that the next server did not answer
    next_left_alone: Gauge  # 1 while the breaker is open
    children: dict[str, tuple[Counter, Histogram]] = field(default_factory=dict)

    def of_model(self, model: str) -> tuple[Counter, Histogram]:
        """received and latency of a model; looked up by label once, not a request."""
        if model not in self.children:
            pair = self.received.labels(model), self.latency.labels(model)
            self.children[model] = pair
        return self.children[model]


def metrics(sizes: tuple[int, ...]) -> Metrics:
    """sizes: of batches, the buckets of their histogram."""
    registry = CollectorRegistry()

    def make(kind, name, text, *labels, **options):
        return kind(f"sc_jax_edge_{name}", text, labels, registry=registry, **options)

    return Metrics(
        registry,
        make(Histogram, "latency_seconds", "Answered", "model", buckets=SECONDS),
        make(Counter, "received_bytes", "Frames", "model"),
        make(Histogram, "batch_examples", "Batches", "model", buckets=sizes),
        make(Counter, "rejects", "Requests refused", "reason"),
        make(Gauge, "held_requests", "Requests held now"),
        make(Counter, "forwarded", "Frames to the next server", "model"),
        make(Counter, "forwarded_bytes", "Of these frames", "model"),
        make(Counter, "exit_answers", "Of this server's exits", "model", "exit"),
        make(Counter, "next_lost", "Not answered by the next server", "status"),
        make(Gauge, "next_left_alone", "1: the next server is not asked"),
    )


def expose(metrics: Metrics, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serves /metrics over HTTP: (the port taken, what ends it).

    THREADS connections are read at once, WAITING are held in all, others are closed;
    each has SECONDS_EACH for its request and its answer, then it is closed too.
    """
    listening = _listening(bracketed(host).strip("[]"), port)
    pool, free = ThreadPoolExecutor(THREADS, "metrics"), threading.Semaphore(WAITING)
    ended = threading.Event()

    def answer(connection: socket.socket, until_s: float) -> None:
        try:
            with connection:
                _answer(connection, until_s, metrics.registry)
        except OSError:  # too slow, or gone
            pass
        finally:
            free.release()

    def accept() -> None:
        while not ended.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                # Closed, or out of descriptors for a while: that must not be for ever.
                ended.wait(PAUSE_S)
                continue
            if free.acquire(blocking=False):
                pool.submit(answer, connection, time.monotonic() + SECONDS_EACH)
            else:
                connection.close()

    thread = threading.Thread(target=accept, name="metrics", daemon=True)
    thread.start()

    def end():
        ended.set()
        # A thread in accept() wakes from shutdown, not from close.
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        pool.shutdown(wait=False)

    return listening.getsockname()[1], end


def _listening(host: str, port: int) -> socket.socket:
    """A socket of either family; UsageError where the port is taken."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = (
            family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        )
        return socket.create_server(
            where[:2], family=family, backlog=WAITING, dualstack_ipv6=both
        )
    except (OSError, OverflowError) as error:
        raise UsageError(f"metrics cannot listen on {host}:{port}: {error}") from None


def _answer(connection: socket.socket, until_s: float, registry: Any) -> None:
    """One request and its response, in HTTP/1.1; TimeoutError after until_s."""

    def left_s() -> float:
        return max(until_s - time.monotonic(), 1e-3)

    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
        connection.settimeout(left_s())
        more = connection.recv(HEAD_BYTES)
        if not more or time.monotonic() > until_s:
            return
        head += more
    method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b""]
    status, body = "404 Not Found", b""
    if method == b"GET" and path.partition(b"?")[0] in (b"/", b"/metrics"):
        status, body = "200 OK", generate_latest(registry)
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {CONTENT_TYPE_LATEST}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    connection.settimeout(left_s())  # sendall takes it for all that it sends
    connection.sendall("\r\n".join((*lines, "", "")).encode() + body)
