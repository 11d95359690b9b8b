"""The edge server: frames in, replies out, over gRPC; no state of any client.

serve() answers the Open Inference Protocol (wire/protocol.py) beside the standard
health and reflection services. Nothing a client sends ends it or makes it hold more
than its limits; docs/security.md has them.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from sc_jax.deploy.server import batching, describe, forwarding, health, reflected
from sc_jax.deploy.server import metrics as prometheus
from sc_jax.deploy.server.batching import Batcher
from sc_jax.deploy.server.forwarding import Forwarding
from sc_jax.deploy.server.health import Health
from sc_jax.deploy.server.holding import Doors, Holding, Method
from sc_jax.deploy.server.infer import InFlight, infer
from sc_jax.deploy.server.metrics import Metrics
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.server.reflected import Reflection
from sc_jax.deploy.server.refusals import STATUS, Refused, guarded
from sc_jax.deploy.wire import protocol
from sc_jax.deploy.wire.hosts import bracketed
from sc_jax.deploy.wire.reply import ReplyError
from sc_jax.errors import UsageError

LOGGER = logging.getLogger(__name__)
ARRIVING = 128  # calls whose message is to come
SPARE = 64  # threads beside those of held and arriving requests
CALLS = 4096  # at once, most of them waiting for a thread; each holds about 10 kB
HEALTH = 24  # calls of health whose message is to come; its threads are its own
HEALTH_S, REFLECTION_S = 5.0, 10.0  # that such a call may take
REFLECTING = 16  # streams
STREAMS = 128  # calls at once on one connection; a client's others wait with it
AGE_S, IDLE_S, LEAVING_S = 600.0, 300.0, 30.0  # of a connection; then it is renewed
PING_S, PONG_S, HELLO_S = 60.0, 20.0, 10.0  # who does not answer, or not begin, goes
SETTLE_S = 0.3  # for a call that is accepted and not yet held, or answered, not sent
PERIOD_S = 0.1  # between checks of what may have taken too long


@dataclass(frozen=True)
class Settings:
    """port 0: any free one. metrics_port None: none. tls: PEM (certificate, key) or ().

    Memory of requests is below (queue + ARRIVING + SPARE) * max_bytes.
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
    receive_s: float = 20.0  # for a request to come whole
    batch_s: float = 30.0  # a batch that takes longer makes the server NOT_SERVING
    forward: str = ""  # host:port,... of the next tier's servers; "": this is the last
    forward_token: str | None = None
    forward_roots: bytes = b""  # PEM that their certificate is checked against

    def __post_init__(self) -> None:
        if (self.forward_token or self.forward_roots) and not self.forward:
            raise UsageError(
                "--forward_token_file and --forward_tls_roots are of the servers of "
                "--forward: give it too"
            )


@dataclass(frozen=True)
class Server:
    """A running server; `address` is what clients dial.

    drain(grace_s): health says NOT_SERVING and new calls are refused, requests under
    way are answered (after grace_s cancelled), then all ports and threads are gone.
    False: all but a batch that does not end; only leaving the process ends that.
    """

    address: str
    metrics_port: int | None
    metrics: Metrics
    drain: Callable[[float], bool] = field(repr=False)


def serve(
    models: Mapping[str, Sequence[Tail]], settings: Settings | None = None
) -> Server:
    """Compiles every batch size of every tail; returns when health says SERVING.

    models: id -> tails in the order of their split ids. UsageError: a taken port, a
    tail that gives no answers of its task, or nothing to forward.
    """
    settings = settings or Settings()
    if settings.forward:
        forwarding.check(settings.forward, settings.host, settings.port, models)
    metrics, in_flight = prometheus.metrics(settings.sizes), InFlight(settings.queue)
    metrics.in_flight.set_function(in_flight.count)
    arriving = Holding(ARRIVING, settings.receive_s)
    checking, reflecting = Holding(HEALTH, HEALTH_S), Holding(REFLECTING, REFLECTION_S)
    states = Health(("", protocol.SERVICE), checking)
    parts = _Parts(len(models), in_flight, states, (arriving, checking, reflecting))

    def model_infer(message, context):
        return infer(
            message, context, models, parts.batchers, in_flight, metrics,
            settings.max_bytes, parts.forwarding,
        )  # fmt: skip

    about = describe.answers(models, parts.batchers, parts.sound)
    methods = {"ModelInfer": model_infer, **about}
    parts.doors = _doors(methods, states, arriving, reflecting, settings, metrics)
    parts.server, address = _listen(settings, metrics, parts.doors)
    metrics_port = None
    try:
        if settings.metrics_port is not None:
            metrics_port, parts.end_metrics = prometheus.expose(
                metrics, settings.host, settings.metrics_port
            )
        if settings.forward:
            own = settings.forward, settings.forward_token, settings.forward_roots
            parts.forwarding = Forwarding(*own, metrics)
            for name, tails in models.items():
                parts.forwarding.prepare(name, tails)
        parts.server.start()  # before compiling: a probe sees "not yet", no closed port
        check = lambda: parts.check(settings.batch_s)  # noqa: E731
        threading.Thread(target=_repeat, args=(check, parts.ended), daemon=True).start()
        for name, tails in models.items():
            histogram = metrics.batches.labels(name)
            parts.batchers[name] = _compiled(name, tails, settings, histogram)
    except BaseException:
        parts.drain(0)
        raise
    states.set(parts.sound())
    return Server(address, metrics_port, metrics, parts.drain)


@dataclass(eq=False)
class _Parts:
    """What a server consists of, for what watches and ends it."""

    models: int
    in_flight: InFlight
    states: Health
    holdings: tuple[Holding, ...]
    doors: tuple[Doors, ...] = ()
    server: Any = None  # gRPC's
    batchers: dict[str, tuple[Batcher, ...]] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)
    end_metrics: Callable[[], None] = lambda: None
    forwarding: Forwarding | None = None

    def each_batcher(self) -> list[Batcher]:
        return [each for several in list(self.batchers.values()) for each in several]

    def sound(self) -> bool:
        """Whether it takes requests and no batch is stuck."""
        stuck = any(each.stuck for each in self.each_batcher())
        return not self.ended.is_set() and not stuck

    def check(self, batch_s: float) -> None:
        """Ends what has taken too long, and sets the health."""
        for each in (*self.holdings, self.states):
            each.expire()
        for batcher in self.each_batcher():
            batcher.expire(batch_s)
        self.states.set(len(self.batchers) == self.models and self.sound())

    def drain(self, grace_s: float = 10.0) -> bool:
        """See Server."""
        self.ended.set()
        self.states.close()  # who watches health hears of it first
        self.server.stop(grace_s)
        # gRPC's own event waits for open streams too, such as a client's Watch, for all
        # of grace_s: so what counts is that no request is under way any more.
        time.sleep(min(SETTLE_S, grace_s))
        self.in_flight.wait_idle(grace_s)
        stopped = self.server.stop(min(SETTLE_S, grace_s))
        until = time.monotonic() + max(grace_s, SETTLE_S)
        left = lambda: max(until - time.monotonic(), SETTLE_S)  # noqa: E731
        whole = [each.close(left()) for each in self.each_batcher()]
        whole.append(stopped.wait(left()))
        for door in self.doors:
            door.close()
        if self.forwarding is not None:
            self.forwarding.close()
        self.end_metrics()
        return all(whole)


def _repeat(check: Callable[[], None], ended: threading.Event) -> None:
    while not ended.wait(PERIOD_S):
        try:
            check()
        except Exception:  # the next one is as good
            LOGGER.exception("a check of the server failed")


def _compiled(
    name: str, tails: Sequence[Tail], settings: Settings, histogram: Any
) -> tuple[Batcher, ...]:
    """A batcher for each tail of a model, every batch size compiled.

    Of a server that forwards they run to the next split, where there is one.
    """
    forwards = bool(settings.forward)
    for tail in tails:
        try:
            if forwards and tail.middle is not None:
                shape = tails[tail.middle.to].codec.shape
                tail.compile_middle(settings.sizes, shape)
            else:
                tail.compile(settings.sizes)
        except ReplyError as error:
            raise UsageError(f"model {name} cannot be served: {error}") from None
    return tuple(
        Batcher(
            forwarding.runs(tail, forwards),
            sizes=settings.sizes,
            wait_s=settings.wait_s,
            limit=settings.queue,
            started=histogram.observe,
        )
        for tail in tails
    )


def _doors(
    methods: Mapping[str, Callable],
    states: Health,
    arriving: Holding,
    reflecting: Holding,
    settings: Settings,
    metrics: Metrics,
) -> tuple[Doors, ...]:
    """What answers every method: health apart, so that nothing else can fill it."""

    def refuse(messages, context):
        raise Refused("full", "too many calls at once")

    def one(answer):
        return lambda messages, context: answer(
            arriving.first(messages, context), context
        )

    def doors(name, methods, threads):
        safe = {
            path: Method(guarded(answer, metrics), streams)
            for path, (answer, streams) in methods.items()
        }
        return Doors(name, safe, threads, CALLS, guarded(refuse, metrics))

    names = protocol.SERVICE, health.SERVICE_NAME, reflected.SERVICE_NAME
    inference, healthy, reflection = (f"/{name}/" for name in names)
    reflect = Reflection(names, reflecting).info
    main = {
        reflection + "ServerReflectionInfo": (reflect, True),
        **{inference + name: (one(each), False) for name, each in methods.items()},
    }
    probes = {
        healthy + "Check": (states.check, False),
        healthy + "Watch": (states.watch, True),
    }
    threads = settings.queue + ARRIVING + SPARE
    return doors("edge", main, threads), doors("health", probes, HEALTH + HEALTH // 3)


def _listen(
    settings: Settings, metrics: Metrics, doors: Sequence[Doors]
) -> tuple[grpc.Server, str]:
    """A gRPC server, not yet started, and the address it has taken."""
    server = grpc.server(
        ThreadPoolExecutor(2, "edge"),  # for calls without the token
        handlers=list(doors),
        interceptors=[_Token(settings.token, metrics)] if settings.token else [],
        options=[
            ("grpc.max_receive_message_length", settings.max_bytes),
            ("grpc.so_reuseport", 0),  # a taken port is an error
            # Identity alone: a few kB of gzip would be unpacked before any limit.
            ("grpc.compression_enabled_algorithms_bitset", 1),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_connection_age_ms", int(1e3 * AGE_S)),
            ("grpc.max_connection_age_grace_ms", int(1e3 * LEAVING_S)),
            ("grpc.max_connection_idle_ms", int(1e3 * IDLE_S)),
            ("grpc.keepalive_time_ms", int(1e3 * PING_S)),
            ("grpc.keepalive_timeout_ms", int(1e3 * PONG_S)),
            ("grpc.server_handshake_timeout_ms", int(1e3 * HELLO_S)),
        ],
    )
    host = bracketed(settings.host)
    where = f"{host}:{settings.port}"
    try:
        if settings.tls:
            chain, key = settings.tls
            pair = grpc.ssl_server_credentials([(key, chain)])
            port = server.add_secure_port(where, pair)
        else:
            port = server.add_insecure_port(where)
    except (RuntimeError, ValueError):
        raise UsageError(f"cannot listen on {where}: taken, or no PEM pair") from None
    return server, f"{host}:{port}"


class _Token(grpc.ServerInterceptor):
    """Only calls with the bearer token pass; health checks need none."""

    def __init__(self, token: str, metrics: Metrics):
        self._expected = f"Bearer {token}".encode()

        def refuse(requests, context):  # reads nothing of what is sent
            metrics.rejects.labels("token").inc()
            status = grpc.StatusCode[STATUS["token"]]
            context.abort(status, "this server wants a valid bearer token")

        self._refuse = grpc.stream_stream_rpc_method_handler(refuse)

    def intercept_service(self, continuation, handler_call_details):
        metadata = dict(handler_call_details.invocation_metadata or ())
        received = str(metadata.get("authorization", "")).encode()
        public = handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/")
        if public or hmac.compare_digest(received, self._expected):
            return continuation(handler_call_details)
        return self._refuse
