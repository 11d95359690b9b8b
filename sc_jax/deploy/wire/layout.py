"""ModelInfer's messages as bytes: what those of a model share is built once.

Any parser of Protocol Buffers reads them; its classes, an object a field, take longer
to fill and to read than everything else that is done with a message here.
"""

from __future__ import annotations

import functools
import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from sc_jax.deploy.wire import protocol
from sc_jax.deploy.wire import reply as replies
from sc_jax.deploy.wire.frame import U32
from sc_jax.deploy.wire.protocol import InferRequest, InferResponse
from sc_jax.deploy.wire.reply import LOGITS, PREDICTION, Hop, Reply

RAW_INPUT = b"\x3a"  # field 7, bytes
LARGEST = 127  # batch_size that takes one byte
# Its parameter, as `request` adds it.
BRIEF = InferRequest(
    parameters={protocol.REPLY: {"string_param": PREDICTION}}
).SerializeToString()
KEPT = 8  # layouts of a reader
Kinds = tuple[tuple[str, np.dtype, tuple[int, ...]], ...]  # name, dtype, shape


def request(
    model: str,
    frame: bytes,
    budget_s: float = 0.0,
    via: str = "",
    reply: str = LOGITS,
) -> bytes:
    """`protocol.infer_request` of the same, serialised.

    via: ids of the servers that the frame has come through. reply: one of REPLIES; a
    server that does not know it answers with all.
    """
    size = len(frame)
    parts = _request_head(model), RAW_INPUT, _varint(size + 4), U32.pack(size)
    message = b"".join((*parts, frame))
    if budget_s:  # messages one behind another are read as one
        own = InferRequest()
        own.parameters[protocol.BUDGET].double_param = budget_s
        message += own.SerializeToString()
    if via:
        own = InferRequest(parameters={protocol.VIA: {"string_param": via}})
        message += own.SerializeToString()
    return message + BRIEF if reply == PREDICTION else message


@functools.lru_cache(1024)
def _request_head(model: str) -> bytes:
    whole = protocol.infer_request(model, b"")
    whole.ClearField("raw_input_contents")
    return whole.SerializeToString()


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def response(request: Any, reply: Any, hop: Hop | None = None) -> bytes:
    """The ModelInferResponse with the outputs requested, all if none; TensorError.

    reply: a Reply, or what has its fields. hop: of a server that forwards. One that is
    to be brief leaves out the model's name and what the batch took.
    """
    arrays, is_brief = reply.outputs, protocol.is_brief(request)
    if request.outputs:
        known = replies.offered(arrays)
        arrays = {name: known[name] for name in protocol.outputs_of(request, known)}
    elif is_brief:
        arrays = replies.brief(arrays)
    kinds = tuple((name, each.dtype, each.shape) for name, each in arrays.items())
    count = reply.batch_size
    values = reply.queue_s, reply.compute_s, min(count, LARGEST)
    contents = [each.tobytes() for each in arrays.values()]
    # Messages one behind another are read as one; the last holds.
    if is_brief:
        message = _layout(None, kinds).pack(*contents)
    else:
        message = _layout(request.model_name, kinds).pack(*values, *contents)
        if count > LARGEST:
            own = InferResponse()
            own.parameters["batch_size"].int64_param = count
            message += own.SerializeToString()
    if request.id:
        message += InferResponse(id=request.id).SerializeToString()
    if hop is not None:
        own = InferResponse(parameters=protocol.hop_parameters(hop))
        message += own.SerializeToString()
    return message


def _parameter(name: str, **value: float) -> bytes:
    return InferResponse(parameters={name: value}).SerializeToString()


_TIMES = (  # (format, bytes before the value)
    ("d", _parameter("queue_s", double_param=0.0)[:-8]),
    ("d", _parameter("compute_s", double_param=0.0)[:-8]),
    ("B", _parameter("batch_size", int64_param=0)[:-1]),
)


class Layout:
    """A response of a model with outputs of these kinds, no id, a small batch.

    Fixed bytes alternate with values: queue_s, compute_s, batch_size, then the contents
    of each output. model None: a brief one, which has neither name nor those three.
    """

    def __init__(self, model: str | None, kinds: Kinds):
        named = {"model_name": model, "model_version": protocol.VERSION}
        head = InferResponse(**({} if model is None else named))
        for name, dtype, shape in kinds:
            datatype = protocol.DATATYPES[dtype.name]
            head.outputs.add(name=name, datatype=datatype, shape=(1, *shape))
        fields = [] if model is None else list(_TIMES)
        for _, dtype, shape in kinds:
            size = dtype.itemsize * math.prod(shape)
            whole = InferResponse(raw_output_contents=[bytes(size)])
            data = whole.SerializeToString()
            fields.append((f"{size}s", data[: len(data) - size]))
        fixed = [before for _, before in fields]
        self._fixed = (head.SerializeToString() + fixed[0], *fixed[1:])
        kinds_of = (f"{len(b)}s{kind}" for b, (kind, _) in zip(self._fixed, fields))
        self._struct = struct.Struct("<" + "".join(kinds_of))
        self._kinds, self._brief = kinds, model is None

    def pack(self, *values: Any) -> bytes:
        both = [part for pair in zip(self._fixed, values) for part in pair]
        return self._struct.pack(*both)

    def read(self, data: bytes) -> Reply | None:
        """None where the bytes are laid out otherwise."""
        if len(data) != self._struct.size:
            return None
        parts = self._struct.unpack(data)
        contents = parts[1::2]
        if parts[::2] != self._fixed:
            return None
        times: list = []
        if not self._brief:
            times, contents = list(contents[:3]), contents[3:]
            if times[-1] > LARGEST:
                return None
        outputs = {
            name: np.ndarray(shape, dtype, each)
            for (name, dtype, shape), each in zip(self._kinds, contents)
        }
        return Reply(outputs, *times, message_bytes=len(data))


_layout = functools.lru_cache(1024)(Layout)


class Reader:
    """Reads a server's responses; most are laid out as the one before."""

    def __init__(self):
        self._last: Layout | None = None
        # Few, and its own: of whatever names and shapes a server sends.
        self._layout = functools.lru_cache(KEPT)(Layout)

    def __call__(self, data: bytes) -> Reply:
        """TensorError for what is no response of `response`."""
        if self._last and (reply := self._last.read(data)):
            return reply
        try:
            message = InferResponse.FromString(data)
        except DecodeError:
            raise protocol.TensorError(f"{len(data)} bytes are no response") from None
        reply = replace(protocol.reply_of(message), message_bytes=len(data))
        kinds = tuple((name, a.dtype, a.shape) for name, a in reply.outputs.items())
        if kinds:  # else there is nothing to lay out
            self._last = self._layout(message.model_name or None, kinds)
        return reply
