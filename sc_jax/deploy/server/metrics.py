"""What an edge server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    start_http_server,
)

from sc_jax.errors import UsageError

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class Metrics:
    """Each server has its own registry. Labels take the server's own words only."""

    registry: CollectorRegistry
    latency: Histogram  # {model}: seconds of answered requests, frame in to reply out
    received: Counter  # {model}: bytes of frames
    batches: Histogram  # {model}: examples a batch, without padding
    rejects: Counter  # {reason}; messages above the byte limit never get this far
    in_flight: Gauge  # requests held now, waiting or running
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
    )


def expose(metrics: Metrics, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serves /metrics over HTTP: (the port taken, what ends it)."""
    try:
        http, thread = start_http_server(port, host, metrics.registry)
    except (OSError, OverflowError) as error:
        raise UsageError(f"metrics cannot listen on {host}:{port}: {error}") from None

    def end():
        http.shutdown()
        http.server_close()
        thread.join()

    return http.server_port, end
