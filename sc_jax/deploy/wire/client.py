"""A client of edge servers: one call a frame, over several servers.

with Client("edge:50051") as client:
    reply = client.infer("first", frame.pack(codec_id, 0, z.shape, payload))
"""

from __future__ import annotations

import json
import socket
from typing import Any

from google.protobuf import json_format

from sc_jax.deploy.wire import protocol
from sc_jax.deploy.wire.protocol import SERVICE
from sc_jax.deploy.wire.reply import Reply
from sc_jax.errors import UsageError

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
}
OPTIONS = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class EdgeError(RuntimeError):
    """The server's refusal, or its absence. code: a gRPC status name; line: why."""

    def __init__(self, code: str, line: str):
        super().__init__(f"{code}: {line}")
        self.code, self.line = code, line


class Client:
    """Connections to one or several edge servers; any number of threads may share it.

    address: host:port, or several with commas between; each server of a list, and each
    record of a name, is tried in turn; after UNAVAILABLE another one, within the call's
    time. root_certificates: PEM that the servers' certificates (of a list:
    for its first host) are checked against; None: no TLS, and a token is then readable
    on the way. timeout_s: of a whole call, retries included. Needs grpcio.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        root_certificates: bytes | None = None,
        timeout_s: float = 10.0,
    ):
        import grpc

        self._errors = grpc.RpcError
        where, options = target(address)
        if root_certificates is None:
            self._channel = grpc.insecure_channel(where, options)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channel = grpc.secure_channel(where, credentials, options)
        self._calls = {
            method: self._channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=protocol.message(f"{method}Response").FromString,
            )
            for method in protocol.METHODS
        }
        self._timeout_s = timeout_s
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def infer(
        self,
        model: str,
        frame: bytes,
        budget_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> Reply:
        """The Reply to one packed frame; EdgeError for everything else.

        budget_s: the server refuses the frame if its batch has not begun by then.
        """
        request = protocol.infer_request(model, frame, budget_s)
        response = self._call("ModelInfer", request, timeout_s)
        try:
            return protocol.reply_of(response)
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
        try:
            return self._calls[method](
                request, timeout=timeout_s or self._timeout_s, metadata=self._metadata
            )
        except self._errors as error:
            line = " ".join((error.details() or "no answer").split())
            raise EdgeError(error.code().name, line) from None

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def target(address: str) -> tuple[str, list[tuple[str, Any]]]:
    """What gRPC dials for "host:port,...", and its options.

    Names of a list are looked up once, those of a single address again and again.
    UsageError for what is no address.
    """
    servers = [text.strip() for text in address.split(",")]
    options = list(OPTIONS)
    if len(servers) == 1:
        return servers[0], options
    found = []
    for text in servers:
        host, colon, port = text.rpartition(":")
        try:
            if not colon or not 0 < int(port) < 65536:
                raise ValueError("no host:port")
            records = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise UsageError(f"server {text!r} of {address!r}: {error}") from None
        found += [f"{record[4][0]}:{port}" for record in records]
    options.append(("grpc.default_authority", servers[0].rpartition(":")[0]))
    return "ipv4:" + ",".join(dict.fromkeys(found)), options
