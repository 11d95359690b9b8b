"""What the edge server does with one request: check, decode, wait for its batch.

A refusal is one line and a status of STATUS; the shape that a frame claims allocates
nothing.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from sc_jax.codec import codecs
from sc_jax.codec.rans import CorruptStream
from sc_jax.deploy.server import batching
from sc_jax.deploy.server.batching import Batcher
from sc_jax.deploy.server.meters import Meters
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.wire import frame, protocol
from sc_jax.errors import unknown

LOGGER = logging.getLogger(__name__)
STATUS = {  # reason -> name of a gRPC status
    "frame": "INVALID_ARGUMENT",  # not one whole frame
    "stream": "INVALID_ARGUMENT",  # a payload that the codec never writes
    "budget": "INVALID_ARGUMENT",
    "model": "NOT_FOUND",
    "version": "FAILED_PRECONDITION",  # another frame version
    "mismatch": "FAILED_PRECONDITION",  # another split, codec or latent shape
    "full": "RESOURCE_EXHAUSTED",
    "late": "DEADLINE_EXCEEDED",  # budget_s passed in the queue
    "gone": "CANCELLED",  # by the client, or its timeout
    "token": "UNAUTHENTICATED",
    "starting": "UNAVAILABLE",
    "internal": "INTERNAL",
}


class Refused(Exception):
    """reason: a key of STATUS; line: what the client is told."""

    def __init__(self, reason: str, line: object):
        super().__init__(reason, " ".join(str(line).split()))


class Held:
    """Counts the requests held; a bounded context without waiting."""

    def __init__(self, limit: int):
        self._limit, self._count, self._changed = limit, 0, threading.Condition()

    def __enter__(self):
        with self._changed:
            if self._count >= self._limit:
                raise Refused("full", f"the queue of {self._limit} requests is full")
            self._count += 1

    def __exit__(self, *_):
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def count(self) -> int:
        return self._count

    def wait_idle(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout_s)


def latent(
    data: bytes, tails: Sequence[Tail], max_bytes: int
) -> tuple[int, np.ndarray]:
    """(split id, decoded latent) of a frame, checked against the model's own.

    The frame's shape allocates nothing: a codec decodes its own, or refuses.
    """
    try:
        got = frame.unpack(data, max_bytes)
    except frame.VersionError as error:
        raise Refused("version", error) from None
    except frame.FrameError as error:
        raise Refused("frame", error) from None
    if got.split >= len(tails):
        raise Refused("mismatch", f"split {got.split}, the model has {len(tails)}")
    codec = tails[got.split].codec
    name = codecs.kind(codec)
    if got.codec != codecs.IDS[name]:
        own = f"{codecs.IDS[name]} ({name})"
        raise Refused("mismatch", f"codec {got.codec}, the model's is {own}")
    if got.shape != codec.shape:
        raise Refused("mismatch", f"latent {got.shape}, the model's is {codec.shape}")
    try:
        return got.split, codec.decode(got.payload)
    except CorruptStream as error:
        raise Refused("stream", error) from None


def infer(
    request: Any,
    context: Any,
    models: Mapping[str, Sequence[Tail]],
    batchers: Mapping[str, Sequence[Batcher]],
    held: Held,
    own: Meters,
    max_bytes: int,
) -> Any:
    """The Reply to a Request, or Refused. context: of gRPC, for when it ends early."""
    since, deadline_s = time.perf_counter(), math.inf
    if request.model not in models:
        raise Refused("model", unknown("model", request.model[:40], models))
    if not request.budget_s >= 0:
        raise Refused("budget", f"budget_s is {request.budget_s}, not 0 or more")
    if request.budget_s:
        deadline_s = time.monotonic() + request.budget_s
    if request.model not in batchers:
        raise Refused("starting", "the server still compiles its models")
    own.received.labels(request.model).inc(len(request.frame))
    with held:
        split, z = latent(request.frame, models[request.model], max_bytes)
        try:
            future = batchers[request.model][split].submit(z, deadline_s)
            if not context.add_callback(future.cancel):
                future.cancel()
            answer = future.result()
        except batching.Full as error:
            raise Refused("full", error) from None
        except batching.Late as error:
            raise Refused("late", error) from None
        except CancelledError:
            raise Refused("gone", "the client left") from None
    reply = protocol.Reply(
        prediction=int(answer.value.argmax()),
        logits=answer.value.tolist(),
        queue_s=answer.queue_s,
        compute_s=answer.compute_s,
        batch_size=answer.batch_size,
    )
    own.latency.labels(request.model).observe(time.perf_counter() - since)
    return reply


def guarded(answer: Callable, own: Meters, code: Callable) -> Callable:
    """`answer` with every failure counted; code: reason -> the status to tell."""

    def call(request, context):
        try:
            return answer(request, context)
        except Refused as error:
            reason, line = error.args
        except Exception:
            LOGGER.exception("a request failed")
            reason, line = "internal", "the server failed; its log says how"
        own.rejects.labels(reason).inc()
        return context.abort(code(reason), line)

    return call
