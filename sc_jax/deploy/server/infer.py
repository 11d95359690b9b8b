"""What the edge server does with one request: check, decode, wait for its batch.

The shape that a frame claims allocates nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np

from sc_jax.codec.rans import CorruptStream
from sc_jax.deploy.server import batching
from sc_jax.deploy.server.batching import Batcher
from sc_jax.deploy.server.forwarding import Forwarding, remaining_s
from sc_jax.deploy.server.metrics import Metrics
from sc_jax.deploy.server.portable import Tail
from sc_jax.deploy.server.refusals import Refused, parsed
from sc_jax.deploy.wire import frame, layout, protocol
from sc_jax.deploy.wire.reply import (
    LOGITS,
    PREDICTION,
    ReplyError,
    check_numbers,
    names,
)
from sc_jax.errors import unknown


class InFlight:
    """Counts the requests under way; a bounded context that never waits."""

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
            if not self._count:
                self._changed.notify_all()

    def count(self) -> int:
        return self._count

    def wait_idle(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout_s)


def find(models: Mapping[str, Any], name: str, version: str) -> Any:
    """What `models` holds of a model; Refused for an unknown id or version."""
    if name not in models:
        # Cut: the line goes back in a header, and a name may be megabytes.
        raise Refused("model", unknown("model", name[:40], models))
    if version not in ("", protocol.VERSION):
        have = f"{name} has version {protocol.VERSION}"
        raise Refused("model", f"no version {version[:40]!r}: {have}")
    return models[name]


def latent(
    data: bytes, tails: Sequence[Tail], max_bytes: int
) -> tuple[int, np.ndarray]:
    """(split id, decoded latent) of a frame, checked against the model's own.

    The frame's shape allocates nothing: a codec decodes its own, or refuses.
    """
    try:
        parts = frame.unpack(data, max_bytes)
    except frame.VersionError as error:
        raise Refused("version", error) from None
    except frame.FrameError as error:
        raise Refused("frame", error) from None
    if parts.split >= len(tails):
        raise Refused("mismatch", f"split {parts.split}, the model has {len(tails)}")
    codec = tails[parts.split].codec
    if parts.codec != codec.id:
        expected = f"{codec.id} ({codec.kind})"
        raise Refused("mismatch", f"codec {parts.codec}, the model's is {expected}")
    if parts.shape != codec.shape:
        raise Refused("mismatch", f"latent {parts.shape}, the model's is {codec.shape}")
    try:
        z = codec.decode(parts.payload)
    except CorruptStream as error:
        raise Refused("stream", error) from None
    if z.dtype.kind == "f" and np.isnan(z).any():
        raise Refused("stream", "the latent is not a number")
    return parts.split, z


def _frame_and_deadline(request: Any) -> tuple[bytes, float]:
    """(frame, deadline on time.monotonic, which no clock change moves) of a request."""
    try:
        data = protocol.frame_of(request)
    except protocol.TensorError as error:
        raise Refused("message", error) from None
    try:
        budget_s = protocol.budget_of(request)
    except protocol.TensorError as error:
        raise Refused("budget", error) from None
    return data, time.monotonic() + budget_s if budget_s else math.inf


def infer(
    message: bytes,
    context: Any,
    models: Mapping[str, Sequence[Tail]],
    batchers: Mapping[str, Sequence[Batcher]],
    in_flight: InFlight,
    metrics: Metrics,
    max_bytes: int,
    forwarding: Forwarding | None = None,
) -> bytes:
    """The serialised ModelInferResponse to a request's bytes, or Refused.

    context: of gRPC, for when the call ends early. forwarding: to the next server, of
    frames that come at a split before the last.
    """
    since = time.perf_counter()
    request = parsed(protocol.InferRequest, message)
    name = request.model_name
    tails = find(models, name, request.model_version)
    data, deadline_s = _frame_and_deadline(request)
    if name not in batchers:
        raise Refused("starting", "the server still compiles its models")
    wanted = _wanted(request, tails[0])
    received, latency = metrics.of_model(name)
    received.inc(len(data))
    via, hop = _via(request, forwarding), None
    with in_flight:  # decoding counts too: it takes memory and time
        split, z = latent(data, tails, max_bytes)
        answer = _awaited(batchers[name][split], z, deadline_s, context)
        if forwarding is not None and tails[split].middle is not None:
            if not context.is_active():
                raise Refused("gone", "the client left")
            left = remaining_s(deadline_s, context)
            answer, hop = forwarding.onward(
                name, tails, split, answer, left, via, wanted
            )
    if not answer.numbers:  # its own may be, another's or those of padding are not
        try:
            check_numbers(answer.outputs)
        except ReplyError as error:
            raise Refused("number", error) from None
    response = layout.response(request, answer, hop)
    latency.observe(time.perf_counter() - since)
    return response


def _wanted(request: Any, tail: Tail) -> str:
    """One of REPLIES; Refused, before anything is computed, for unknown outputs."""
    try:
        if request.outputs:
            protocol.outputs_of(request, names(tail.outputs()))
        brief = protocol.is_brief(request)
    except protocol.TensorError as error:
        raise Refused("message", error) from None
    # Of outputs that are named, any may be read from the next server's logits.
    return PREDICTION if brief and not request.outputs else LOGITS


def _via(request: Any, forwarding: Forwarding | None) -> str:
    """What its frame says where it goes on; Refused where it has been here."""
    if forwarding is None:
        return ""
    try:
        return forwarding.via(protocol.via_of(request))
    except protocol.TensorError as error:
        raise Refused("message", error) from None


def _awaited(
    batcher: Batcher, z: np.ndarray, deadline_s: float, context: Any
) -> batching.Answer:
    """What the batch with `z` in it answers, or Refused; this thread waits for it."""
    try:
        pending = batcher.submit(z, deadline_s)
        # A client that leaves ends the call, and its frame must not hold a place;
        # False: it left before this line, and no callback will come.
        if not context.add_callback(pending.cancel):
            pending.cancel()
        return pending.result()
    except batching.Full as error:
        raise Refused("full", error) from None
    except batching.Late as error:
        raise Refused("late", error) from None
    except batching.Stuck as error:
        raise Refused("stuck", error) from None
    except CancelledError:
        raise Refused("gone", "the client left") from None
