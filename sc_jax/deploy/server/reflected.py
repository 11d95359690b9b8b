"""The standard reflection service, for strangers: few streams, short messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from sc_jax.deploy.server.holding import Holding, unbound
from sc_jax.deploy.server.refusals import Refused, parsed
from sc_jax.deploy.wire import protocol

SERVICE_NAME = reflection.SERVICE_NAME
MAX_BYTES = 1 << 10  # of a request, which every answer repeats


class Reflection:
    """holding: a stream holds a thread, for as long as its client likes: so few may."""

    def __init__(self, names: Sequence[str], holding: Holding):
        self._servicer = reflection.ReflectionServicer(names, _descriptors())
        self._holding = holding

    def info(self, messages: Iterator[bytes], context: Any, send: Callable) -> None:
        """Answers a stream of questions."""

        def requests():
            for data in messages:
                if len(data) > MAX_BYTES:
                    line = f"{len(data)} bytes, {MAX_BYTES} are the limit"
                    raise Refused("message", line)
                yield parsed(reflection_pb2.ServerReflectionRequest, data)

        with self._holding.hold(context) as held:
            try:
                for answer in self._servicer.ServerReflectionInfo(requests(), context):
                    send(answer.SerializeToString())
            except grpc.RpcError as error:  # ended, by whichever side
                unbound(error)
            if held.ended:
                raise Refused("slow", "the stream took too long")
            send(None)


def _descriptors() -> descriptor_pool.DescriptorPool:
    """The descriptors of all services.

    Not protobuf's default pool: another library's messages of the same names may be in
    it, and reflection must tell what this server speaks.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(protocol.file_descriptor().SerializeToString())
    for standard in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(standard.DESCRIPTOR.serialized_pb)
    return pool
