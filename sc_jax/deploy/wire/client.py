"""A client of edge servers: one call a frame, over several servers.

with Client("edge:50051") as client:
    reply = client.infer("first", frame.pack(codec_id, 0, z.shape, payload))
"""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import threading
import time
import weakref
from typing import Any

from google.protobuf import json_format

from sc_jax.deploy.wire import hosts, layout, protocol
from sc_jax.deploy.wire.connected import Connected
from sc_jax.deploy.wire.protocol import SERVICE
from sc_jax.deploy.wire.reply import LOGITS, Reply
from sc_jax.errors import UsageError

LOGGER = logging.getLogger(__name__)
AGAIN_S = 10.0  # at least, between two look-ups of the names of a list
UNANSWERED = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")  # gRPC's own too
RETRY = {  # a request changes nothing on a server: asking another one is safe
    "maxAttempts": 5,  # gRPC takes no more
    "initialBackoff": "0.02s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2.5,
    # CANCELLED: how gRPC ends a call that arrives in the moment a server is drained.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": RETRY}],
    # A server that compiles or drains accepts connections and says NOT_SERVING: without
    # this it would get requests while others could answer them.
    "healthCheckConfig": {"serviceName": SERVICE},
}
OPTIONS = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # gRPC's own 1 s and 120 s: a server that restarts would wait for its clients.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class EdgeError(RuntimeError):
    """The server's refusal, or its absence. code: a gRPC status name; line: why.

    sent: False where the request never left: no server was connected from the call's
    beginning to its end, as far as the calls before it tell.
    """

    def __init__(self, code: str, line: str, sent: bool = True):
        super().__init__(f"{code}: {line}")
        self.code, self.line, self.sent = code, line, sent


class Client:
    """Connections to one or several edge servers; any number of threads may share it.

    address: host:port or [::1]:port, or several with commas between; each server of a
    list, and each record of a name, is tried in turn; after UNAVAILABLE another one,
    within the call's time. Names that cannot be looked up are left out while others
    can, and looked up again. root_certificates: PEM that the servers' certificates (of
    a list: for its first host) are checked against; None: no TLS, and a token is then
    readable on the way. timeout_s: of a whole call, retries included. wait: for a
    server that serves, as long as timeout_s, where a call would fail at once. Needs
    grpcio.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        root_certificates: bytes | None = None,
        timeout_s: float = 10.0,
        *,
        wait: bool = False,
    ):
        import grpc

        self._grpc, self._address = grpc, address
        self._roots, self._timeout_s, self._wait = root_certificates, timeout_s, wait
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._lock, self._closed = threading.Lock(), False
        self._read = layout.Reader()
        self._where, options, self._missing = target(address)
        self._looked_s, self._longest_s = time.monotonic(), timeout_s
        self._calls = self._connected(self._where, options)

    def _connected(self, where: str, options: list) -> dict[str, Any]:
        """What calls each method on a new channel."""
        grpc = self._grpc
        if self._roots is None:
            channel = grpc.insecure_channel(where, options)
        else:
            credentials = grpc.ssl_channel_credentials(self._roots)
            channel = grpc.secure_channel(where, credentials, options)
        calls = {
            method: channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=protocol.message(f"{method}Response").FromString,
            )
            for method in protocol.METHODS
        }
        # Bytes: `layout` reads and writes them.
        calls["ModelInfer"] = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._seen = Connected(channel, grpc.ChannelConnectivity.READY)
        # A channel that is watched and still open at the end keeps Python from ending.
        self._end = weakref.finalize(self, self._seen.close)
        return calls

    def infer(
        self,
        model: str,
        frame: bytes,
        budget_s: float = 0.0,
        timeout_s: float | None = None,
        via: str = "",
        reply: str = LOGITS,
    ) -> Reply:
        """The Reply to one packed frame; EdgeError for everything else.

        budget_s: the server refuses the frame if its batch has not begun by then. via:
        ids of the servers that the frame has come through, of one that forwards. reply:
        what is asked for, one of `reply.REPLIES`; an older server answers with all.
        """
        request = layout.request(model, frame, budget_s, via, reply)
        response = self._call("ModelInfer", request, timeout_s)
        try:
            return self._read(response)
        except protocol.TensorError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None

    def ready(self, model: str) -> bool:
        """Whether the model has been compiled; False too for an unknown id."""
        request = protocol.message("ModelReadyRequest")(name=model)
        return self._call("ModelReady", request).ready

    def metadata(self, model: str) -> dict[str, Any]:
        """Inputs and outputs of a model, as JSON has them; EdgeError."""
        request = protocol.message("ModelMetadataRequest")(name=model)
        return json_format.MessageToDict(self._call("ModelMetadata", request))

    def _call(self, method: str, request: Any, timeout_s: float | None = None) -> Any:
        timeout_s = timeout_s or self._timeout_s
        self._longest_s = max(self._longest_s, timeout_s)
        if self._missing:
            self._look_again()
        seen, calls = self._seen, self._calls  # a look-up may put others in their place
        connected = seen.since_now()
        try:
            return calls[method](
                request,
                timeout=timeout_s,
                metadata=self._metadata,
                wait_for_ready=self._wait or None,
            )
        except self._grpc.RpcError as error:
            line = " ".join((error.details() or "no answer").split())
            if error.code() is self._grpc.StatusCode.UNAVAILABLE:
                self._look_again()
            # Any other status is an answer, for which the request had to arrive.
            answered = error.code().name not in UNANSWERED
            sent = answered or connected()
            if not answered:
                seen.failed()
            raise EdgeError(error.code().name, line, sent) from None

    def _look_again(self) -> None:
        """Begins to look up the names of a list, if the last time is long enough ago.

        (gRPC itself does so for a single name.)
        """
        with self._lock:
            soon = time.monotonic() - self._looked_s < AGAIN_S
            if "," not in self._address or soon or self._closed:
                return
            self._looked_s = time.monotonic()
        threading.Thread(target=self._move, name="look-up", daemon=True).start()

    def _move(self) -> None:
        """New calls go to the servers that the names mean now."""
        try:
            where, options, missing = target(self._address)
        except UsageError:  # none of them for now: those from before may yet answer
            return
        with self._lock:
            self._missing = missing
            if where == self._where or self._closed:
                return
            end_old, self._where = self._end, where
            self._calls = self._connected(where, options)
        time.sleep(self._longest_s)  # closing cancels what is under way
        end_old()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._end()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def target(address: str) -> tuple[str, list[tuple[str, Any]], list[str]]:
    """What gRPC dials for "host:port,...", its options, and what cannot be looked up.

    Names of a list are looked up here, that of a single address by gRPC, again and
    again. UsageError for what is no address, and where no name of a list is known.
    """
    # One name goes to gRPC's resolver, which looks it up again when servers move.
    servers = [text.strip() for text in address.split(",")]
    options: list[tuple[str, Any]] = list(OPTIONS)
    if len(servers) == 1:
        (server,) = servers
        if server.count(":") > 1 and server.replace(":", "").isalnum():
            hosts.split(server)  # says where the brackets go
        return server, options, []
    found: list[tuple[str, int]] = []
    missing = []
    for host, port in map(hosts.split, servers):
        try:
            records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found += [(str(record[4][0]), port) for record in records]
        except (OSError, UnicodeError) as error:
            missing.append(f"{host}: {error}")
    if not found:
        raise UsageError(f"no server of {address!r} is known: {'; '.join(missing)}")
    if missing:
        LOGGER.warning("servers left out for now: %s", "; ".join(missing))
    first = hosts.bracketed(hosts.split(servers[0])[0])
    options.append(("grpc.default_authority", first))
    return _listed(list(dict.fromkeys(found))), options, missing


def _listed(found: list[tuple[str, int]]) -> str:
    """Addresses as one target of gRPC, whose lists are of one family.

    Among IPv6 addresses an IPv4 one is written as its image there (RFC 4291, 2.5.5.2).
    """
    if not any(":" in host for host, _ in found):
        return "ipv4:" + ",".join(f"{host}:{port}" for host, port in found)
    images = [
        (host if ":" in host else f"::ffff:{ipaddress.IPv4Address(host)}", port)
        for host, port in found
    ]
    return "ipv6:" + ",".join(f"[{host}]:{port}" for host, port in images)
