"""The edge server: frames in, replies out, over gRPC; no state of any client.

serve() answers the Open Inference Protocol (wire/protocol.py) beside the standard
health and reflection services. Nothing a client sends ends it or makes it hold more
than its limits.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import (
    reflection,
    reflection_pb2,
    reflection_pb2_grpc,
)

from sc_jax.deploy.server import batching, describe
from sc_jax.deploy.server import metrics as prometheus
from sc_jax.deploy.server.batching import Batcher
from sc_jax.deploy.server.infer import STATUS, InFlight, guarded, infer
from sc_jax.deploy.server.metrics import Metrics
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.wire import protocol
from sc_jax.errors import UsageError

SPARE = 64  # calls beside the held requests: health, reflection, refusals under way
SETTLE_S = 0.3  # for a call that is accepted and not yet held, or answered, not sent


@dataclass(frozen=True)
class Settings:
    """port 0: any free one. metrics_port None: none. tls: PEM (certificate, key) or ().

    Memory of requests is below (queue + SPARE) * max_bytes.
    """

    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int | None = None
    sizes: tuple[int, ...] = batching.SIZES
    wait_s: float = 0.003  # for others to join a batch
    queue: int = 256  # requests held at once, waiting or running
    max_bytes: int = 4 << 20  # of one message
    token: str | None = None
    tls: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Server:
    """A running server; `address` is what clients dial.

    drain(grace_s): health says NOT_SERVING and new calls are refused, requests under
    way are answered (after grace_s cancelled), then all threads and ports are gone.
    """

    address: str
    metrics_port: int | None
    metrics: Metrics
    drain: Callable[[float], None] = field(repr=False)


def serve(
    models: Mapping[str, Sequence[Tail]], settings: Settings | None = None
) -> Server:
    """Compiles every batch size of every tail; returns when health says SERVING.

    models: id -> tails in the order of their split ids. UsageError: a taken port.
    """
    settings = settings or Settings()
    metrics, in_flight = prometheus.metrics(settings.sizes), InFlight(settings.queue)
    metrics.in_flight.set_function(in_flight.count)
    batchers: dict[str, tuple[Batcher, ...]] = {}
    ended = threading.Event()

    def model_infer(message, context):
        return infer(
            message, context, models, batchers, in_flight, metrics, settings.max_bytes
        )

    states = health.HealthServicer()
    _set_health(states, health_pb2.HealthCheckResponse.NOT_SERVING)
    server, address = _listen(settings, metrics)
    methods = {
        "ModelInfer": model_infer,
        **describe.answers(models, batchers, ended.is_set),
    }
    calls = {name: guarded(each, metrics, _status) for name, each in methods.items()}
    _register(server, calls, states)
    metrics_port, end_metrics = None, lambda: None
    if settings.metrics_port is not None:
        metrics_port, end_metrics = prometheus.expose(
            metrics, settings.host, settings.metrics_port
        )

    def drain(grace_s: float = 10.0) -> None:
        ended.set()
        states.enter_graceful_shutdown()  # who watches health hears of it first
        server.stop(grace_s)
        # gRPC's own event waits for open streams too, such as a client's Watch, for all
        # of grace_s: so what counts is that no request is under way any more.
        time.sleep(min(SETTLE_S, grace_s))
        in_flight.wait_idle(grace_s)
        server.stop(min(SETTLE_S, grace_s)).wait()
        for batcher in (each for several in batchers.values() for each in several):
            batcher.close()
        end_metrics()

    server.start()  # before compiling: a probe sees "not yet", not a closed port
    try:
        for name, tails in models.items():
            batchers[name] = _compiled(tails, settings, metrics.batches.labels(name))
    except BaseException:
        drain(0)
        raise
    _set_health(states, health_pb2.HealthCheckResponse.SERVING)
    return Server(address, metrics_port, metrics, drain)


def _compiled(
    tails: Sequence[Tail], settings: Settings, histogram: Any
) -> tuple[Batcher, ...]:
    """A batcher for each tail of a model, every batch size compiled."""
    for tail in tails:
        tail.compile(settings.sizes)
    return tuple(
        Batcher(
            tail.reply,
            sizes=settings.sizes,
            wait_s=settings.wait_s,
            limit=settings.queue,
            started=histogram.observe,
        )
        for tail in tails
    )


def _set_health(states: health.HealthServicer, status) -> None:
    for name in ("", protocol.SERVICE):
        states.set(name, status)


def _listen(settings: Settings, metrics: Metrics) -> tuple[grpc.Server, str]:
    """A gRPC server, not yet started, and the address it has taken."""
    calls = settings.queue + SPARE
    server = grpc.server(
        ThreadPoolExecutor(calls, "edge"),
        interceptors=[_Token(settings.token, metrics)] if settings.token else [],
        options=[
            ("grpc.max_receive_message_length", settings.max_bytes),
            ("grpc.so_reuseport", 0),  # a taken port is an error
        ],
        maximum_concurrent_rpcs=calls,
    )
    where = f"{settings.host}:{settings.port}"
    try:
        if settings.tls:
            chain, key = settings.tls
            pair = grpc.ssl_server_credentials([(key, chain)])
            port = server.add_secure_port(where, pair)
        else:
            port = server.add_insecure_port(where)
    except (RuntimeError, ValueError):
        raise UsageError(f"cannot listen on {where}: taken, or no PEM pair") from None
    return server, f"{settings.host}:{port}"


def _register(
    server: grpc.Server, calls: Mapping[str, Callable], states: health.HealthServicer
) -> None:
    # Requests are parsed by the handlers: what gRPC's own deserializer cannot read
    # would end as an error of the server, uncounted.
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            call, response_serializer=lambda response: response.SerializeToString()
        )
        for name, call in calls.items()
    }
    generic = grpc.method_handlers_generic_handler(protocol.SERVICE, handlers)
    server.add_generic_rpc_handlers((generic,))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(), server)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)


def _status(reason: str) -> grpc.StatusCode:
    return grpc.StatusCode[STATUS[reason]]


class _Token(grpc.ServerInterceptor):
    """Only calls with the bearer token pass; health checks need none."""

    def __init__(self, token: str, metrics: Metrics):
        self._expected = f"Bearer {token}".encode()

        def refuse(requests, context):  # reads nothing of what is sent
            metrics.rejects.labels("token").inc()
            context.abort(_status("token"), "this server wants a valid bearer token")

        self._refuse = grpc.stream_stream_rpc_method_handler(refuse)

    def intercept_service(self, continuation, handler_call_details):
        metadata = dict(handler_call_details.invocation_metadata or ())
        received = str(metadata.get("authorization", "")).encode()
        public = handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/")
        if public or hmac.compare_digest(received, self._expected):
            return continuation(handler_call_details)
        return self._refuse


class _Reflection(reflection.ReflectionServicer):
    """A stream holds a thread for as long as its client likes: so only a few may."""

    _slots = threading.Semaphore(SPARE // 4)

    def __init__(self):
        names = (protocol.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        super().__init__(names, _reflected())

    def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:
        if not self._slots.acquire(blocking=False):
            context.abort(_status("full"), "too many reflection streams")
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._slots.release()


def _reflected() -> descriptor_pool.DescriptorPool:
    """The descriptors of all services.

    Not protobuf's default pool: another library's messages of the same names may be in
    it, and reflection must tell what this server speaks.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(protocol.file_descriptor().SerializeToString())
    for standard in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(standard.DESCRIPTOR.serialized_pb)
    return pool
