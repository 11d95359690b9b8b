"""The edge server: frames in, predictions out, over gRPC; no state of any client.

serve() answers sc_jax.Edge (protocol.py) beside the standard health and reflection
services. Nothing a client sends ends it or makes it hold more than its limits.
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
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from sc_jax.deploy.server import batching
from sc_jax.deploy.server.batching import Batcher
from sc_jax.deploy.server.infer import STATUS, Held, guarded, infer
from sc_jax.deploy.server.meters import Meters, expose, meters
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

    drain(grace_s): health says NOT_SERVING and new calls are refused, held requests
    are answered (after grace_s cancelled), then all threads and ports are gone.
    """

    address: str
    metrics_port: int | None
    meters: Meters
    drain: Callable[[float], None] = field(repr=False)


def serve(
    models: Mapping[str, Sequence[Tail]], settings: Settings | None = None
) -> Server:
    """Compiles every batch size of every tail; returns when health says SERVING.

    models: id -> tails in the order of their split ids. UsageError: a taken port.
    """
    settings = settings or Settings()
    own, held = meters(settings.sizes), Held(settings.queue)
    own.held.set_function(held.count)
    batchers: dict[str, tuple[Batcher, ...]] = {}

    def answer(request, context):
        return infer(request, context, models, batchers, held, own, settings.max_bytes)

    states = health.HealthServicer()
    _tell(states, health_pb2.HealthCheckResponse.NOT_SERVING)
    server, address = _listen(settings, own)
    _register(server, guarded(answer, own, _code), states)
    metrics_port, end_metrics = None, lambda: None
    if settings.metrics_port is not None:
        metrics_port, end_metrics = expose(own, settings.host, settings.metrics_port)

    def drain(grace_s: float = 10.0) -> None:
        states.enter_graceful_shutdown()
        server.stop(grace_s)
        time.sleep(min(SETTLE_S, grace_s))
        held.wait_idle(grace_s)
        server.stop(min(SETTLE_S, grace_s)).wait()
        for batcher in (b for own in batchers.values() for b in own):
            batcher.close()
        end_metrics()

    server.start()
    try:
        for name, tails in models.items():
            for tail in tails:
                tail.compile(settings.sizes)
            batchers[name] = tuple(
                Batcher(
                    tail.logits,
                    sizes=settings.sizes,
                    wait_s=settings.wait_s,
                    limit=settings.queue,
                    started=own.batches.labels(name).observe,
                )
                for tail in tails
            )
    except BaseException:
        drain(0)
        raise
    _tell(states, health_pb2.HealthCheckResponse.SERVING)
    return Server(address, metrics_port, own, drain)


def _tell(states: health.HealthServicer, status) -> None:
    for name in ("", protocol.SERVICE):
        states.set(name, status)


def _listen(settings: Settings, own: Meters) -> tuple[grpc.Server, str]:
    """A gRPC server, not yet started, and the address it has taken."""
    calls = settings.queue + SPARE
    server = grpc.server(
        ThreadPoolExecutor(calls, "edge"),
        interceptors=[_Token(settings.token, own)] if settings.token else [],
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


def _register(server: grpc.Server, call: Callable, states: health.HealthServicer):
    handler = grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=protocol.Request.FromString,
        response_serializer=protocol.Reply.SerializeToString,
    )
    own = grpc.method_handlers_generic_handler(protocol.SERVICE, {"Infer": handler})
    server.add_generic_rpc_handlers((own,))
    names = (protocol.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        _Reflection(names), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(states, server)


def _code(reason: str) -> grpc.StatusCode:
    return grpc.StatusCode[STATUS[reason]]


class _Token(grpc.ServerInterceptor):
    """Only calls with the bearer token pass; health checks need none."""

    def __init__(self, token: str, own: Meters):
        self._wanted = f"Bearer {token}".encode()

        def refuse(requests, context):  # reads nothing of what is sent
            own.rejects.labels("token").inc()
            context.abort(_code("token"), "this server wants a valid bearer token")

        self._refuse = grpc.stream_stream_rpc_method_handler(refuse)

    def intercept_service(self, continuation, handler_call_details):
        metadata = dict(handler_call_details.invocation_metadata or ())
        given = str(metadata.get("authorization", "")).encode()
        to_all = handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/")
        if to_all or hmac.compare_digest(given, self._wanted):
            return continuation(handler_call_details)
        return self._refuse


class _Reflection(reflection.ReflectionServicer):
    """A stream holds a thread for as long as its client likes: so only a few may."""

    _slots = threading.Semaphore(SPARE // 4)

    def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:
        if not self._slots.acquire(blocking=False):
            context.abort(_code("full"), "too many reflection streams")
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._slots.release()
