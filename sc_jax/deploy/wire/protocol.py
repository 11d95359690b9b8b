"""The service sc_jax.Edge, its messages, and its client: no framework, no stubs.

    with Client("edge:50051") as client:
        reply = client.infer("first", frame.pack(codec_id, 0, z.shape, payload))

The descriptor is built here, so client, server and reflection share one text.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sc_jax.errors import UsageError

SERVICE = "sc_jax.Edge"
INFER = f"/{SERVICE}/Infer"
# In order of their numbers on the wire, from 1: append, never reorder.
MESSAGES = {
    "Request": (
        ("frame", "bytes"),  # of sc_jax.deploy.wire.frame
        ("model", "string"),  # an id that the server was started with
        ("budget_s", "float"),  # DEADLINE_EXCEEDED if not begun by then; 0: no limit
    ),
    "Reply": (
        ("prediction", "int32"),
        ("logits", "repeated float"),
        ("queue_s", "float"),  # waited for the batch to begin
        ("compute_s", "float"),  # of the whole batch
        ("batch_size", "int32"),  # requests answered together, without padding
    ),
}


class EdgeError(RuntimeError):
    """The server's refusal, or its absence. code: a gRPC status name; line: why."""

    def __init__(self, code: str, line: str):
        super().__init__(f"{code}: {line}")
        self.code, self.line = code, line


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="sc_jax/edge.proto", package="sc_jax", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            *repeated, kind = kind.split()
            message.field.add(
                name=field,
                number=number,
                type=kinds.Type.Value(f"TYPE_{kind.upper()}"),
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )
    service = file.service.add(name="Edge")
    service.method.add(
        name="Infer", input_type=".sc_jax.Request", output_type=".sc_jax.Reply"
    )
    return file


_POOL = descriptor_pool.Default()
_POOL.AddSerializedFile(_file().SerializeToString())
Request, Reply = (
    message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"sc_jax.{name}"))
    for name in MESSAGES
)


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


class Client:
    """Connections to one or several edge servers; any number of threads may share it.

    address: host:port, or several with commas between; each server of a list, and each
    record of a name, is asked in turn, and UNAVAILABLE is asked again elsewhere within
    the call's time. root_certificates: PEM that the servers' certificates (of a list:
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
        self._call = self._channel.unary_unary(
            INFER,
            request_serializer=Request.SerializeToString,
            response_deserializer=Reply.FromString,
        )
        self._timeout_s = timeout_s
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def infer(
        self,
        model: str,
        frame: bytes,
        budget_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> Any:
        """The Reply to one packed frame; EdgeError for everything else."""
        request = Request(frame=frame, model=model, budget_s=budget_s)
        try:
            return self._call(
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
