"""A refusal: one line, the status it ends with, and its count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from sc_jax.deploy.server.metrics import Metrics

LOGGER = logging.getLogger(__name__)
STATUS = {  # reason -> name of a gRPC status
    "message": "INVALID_ARGUMENT",  # not a protobuf of the method, or other tensors
    "frame": "INVALID_ARGUMENT",  # not one whole frame
    "stream": "INVALID_ARGUMENT",  # a payload that the codec never writes
    "budget": "INVALID_ARGUMENT",
    "model": "NOT_FOUND",
    "service": "NOT_FOUND",  # of health
    "version": "FAILED_PRECONDITION",  # another frame version
    "mismatch": "FAILED_PRECONDITION",  # another split, codec or latent shape
    "full": "RESOURCE_EXHAUSTED",
    "late": "DEADLINE_EXCEEDED",  # budget_s passed in the queue
    "slow": "DEADLINE_EXCEEDED",  # its message, or who reads the answer
    "gone": "CANCELLED",  # by the client, or its timeout
    "loop": "FAILED_PRECONDITION",  # forwarded to a server that it came from
    # The next server gives no answer and no exit stands here. Not UNAVAILABLE: clients
    # would send the frame five times.
    "cloud": "ABORTED",
    "token": "UNAUTHENTICATED",
    "starting": "UNAVAILABLE",
    "stuck": "UNAVAILABLE",  # a batch overran its limit, or a tail's thread has ended
    "watch": "UNIMPLEMENTED",  # clients take it for "no health here, but well"
    "number": "INTERNAL",  # the tail's answer is NaN
    "internal": "INTERNAL",
}


class Refused(Exception):
    """reason: a key of STATUS; line: what the client reads."""

    def __init__(self, reason: str, line: object):
        super().__init__(reason, " ".join(str(line).split()))


def parsed(kind: Any, data: bytes) -> Any:
    """The message of class `kind` that the bytes are; Refused.

    Here and not in gRPC's deserializer: it keeps the call, and what it holds, for ever
    when that raises, and the error reaches neither count nor client.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        raise Refused("message", f"{len(data)} bytes are no {name}") from None


def guarded(answer: Callable, metrics: Metrics) -> Callable:
    """`answer`, (messages, gRPC's context, ...), its failures counted and said."""

    def call(messages, context, *more):
        try:
            return answer(messages, context, *more)
        except Refused as error:
            reason, line = error.args
        except grpc.RpcError:  # the call has ended between two messages
            reason, line = "gone", "the client left"
        except Exception:
            LOGGER.exception("a request failed")
            reason, line = "internal", "the server failed; its log says how"
        metrics.rejects.labels(reason).inc()
        return context.abort(grpc.StatusCode[STATUS[reason]], line)

    return call
