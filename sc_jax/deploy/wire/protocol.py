"""The Open Inference Protocol, version 2: its messages, and tensors in them.

What KServe, Triton and their clients speak; a frame is a BYTES tensor of it. Source:
https://github.com/kserve/open-inference-protocol, open_inference_grpc.proto. The
descriptor is built here, so client, server, reflection and docs/edge.proto share one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sc_jax.deploy.wire.reply import PREDICTION, REPLIES, Hop, Reply

PACKAGE, NAME = "inference", "GRPCInferenceService"
SERVICE = f"{PACKAGE}.{NAME}"
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
)
_TENSOR = (
    "string name",
    "string datatype",
    "repeated int64 shape",
    "map parameters",
    "InferTensorContents contents",
)
# Fields in the order of their published numbers, from 1. "map": of InferParameter by
# name; "oneof": of the message's only one.
MESSAGES = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready",),
    "ModelReadyRequest": ("string name", "string version"),
    "ModelReadyResponse": ("bool ready",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (
        "string name",
        "string version",
        "repeated string extensions",
    ),
    "ModelMetadataRequest": ("string name", "string version"),
    "ModelMetadataResponse": (
        "string name",
        "repeated string versions",
        "string platform",
        "repeated ModelMetadataResponse.TensorMetadata inputs",
        "repeated ModelMetadataResponse.TensorMetadata outputs",
    ),
    "ModelMetadataResponse.TensorMetadata": (
        "string name",
        "string datatype",
        "repeated int64 shape",
        "map parameters",  # MLServer's extension; others skip the field
    ),
    "ModelInferRequest": (
        "string model_name",
        "string model_version",
        "string id",
        "map parameters",
        "repeated ModelInferRequest.InferInputTensor inputs",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs",
        "repeated bytes raw_input_contents",
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": ("string name", "map parameters"),
    "ModelInferResponse": (
        "string model_name",
        "string model_version",
        "string id",
        "map parameters",
        "repeated ModelInferResponse.InferOutputTensor outputs",
        "repeated bytes raw_output_contents",
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "InferParameter": (
        "oneof bool bool_param",
        "oneof int64 int64_param",
        "oneof string string_param",
        "oneof double double_param",
        "oneof uint64 uint64_param",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents",
        "repeated int32 int_contents",
        "repeated int64 int64_contents",
        "repeated uint32 uint_contents",
        "repeated uint64 uint64_contents",
        "repeated float fp32_contents",
        "repeated double fp64_contents",
        "repeated bytes bytes_contents",
    ),
}
FRAME = "frame"  # the one input: BYTES [1]
VERSION = "1"  # every model has this one
BUDGET = "budget_s"  # a request's parameter: seconds until its batch must begin
TIMEOUT = "timeout"  # Triton's name for the same, in microseconds
REPLY = "reply"  # a request's: one of REPLIES; absent: all outputs
VIA = "via"  # a request's: ids of the servers it has come through, commas between
# A response's of a server that forwards, fields of Hop: the kind of InferParameter.
HOP = {
    "tier": ("tier", "string_param"),
    "exit": ("exit", "string_param"),
    "forwarded_bytes": ("sent_bytes", "int64_param"),
    "forward_s": ("seconds", "double_param"),
    "note": ("note", "string_param"),
}
DATATYPES = {  # of NumPy's kinds and widths
    "bool": "BOOL",
    **{f"{s}int{n}": f"{s}int{n}".upper() for s in ("", "u") for n in (8, 16, 32, 64)},
    **{f"float{n}": f"FP{n}" for n in (16, 32, 64)},
}
_DTYPES = {name: np.dtype(kind).newbyteorder("<") for kind, name in DATATYPES.items()}


class TensorError(ValueError):
    """A message that does not hold the tensors it should; one line."""


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """The protocol as protobuf describes a .proto file."""
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3"
    )
    messages = {}
    for path, fields in MESSAGES.items():
        outer, _, name = path.rpartition(".")
        group = messages[outer].nested_type if outer else file.message_type
        messages[path] = message = group.add(name=name)
        for number, text in enumerate(fields, 1):
            _add_field(message, f".{PACKAGE}.{path}", number, *text.split())
    service = file.service.add(name=NAME)
    for method in METHODS:
        path = f".{PACKAGE}.{method}"
        service.method.add(
            name=method, input_type=f"{path}Request", output_type=f"{path}Response"
        )
    return file


def _add_field(message, path: str, number: int, *words: str) -> None:
    """One field of MESSAGES, as "repeated int64 shape" split into words."""
    *modifier, kind, name = words
    known = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=known.LABEL_OPTIONAL)
    if kind == "map":  # protobuf's own spelling: repeated entries of key and value
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, path, 1, "string", "key")
        _add_field(entry, path, 2, "InferParameter", "value")
        field.label, field.type = known.LABEL_REPEATED, known.TYPE_MESSAGE
        field.type_name = f"{path}.ParametersEntry"
        return
    if "oneof" in modifier:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if "repeated" in modifier:
        field.label = known.LABEL_REPEATED
    if kind in MESSAGES:
        field.type, field.type_name = known.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = known.Type.Value(f"TYPE_{kind.upper()}")


# Not the default pool: Triton's or KServe's client in the same process registers
# messages of these names there, and protobuf refuses a second file that defines them.
POOL = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(file_descriptor().SerializeToString())


def message(name: str) -> Any:
    """The class of a message of MESSAGES."""
    found = POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


InferRequest = message("ModelInferRequest")
InferResponse = message("ModelInferResponse")
_PLAIN = InferRequest.InferInputTensor(name=FRAME, datatype="BYTES", shape=(1,))


def infer_request(model: str, frame: bytes, budget_s: float = 0.0) -> Any:
    """The ModelInferRequest of one frame; budget_s 0: no limit."""
    request = InferRequest(model_name=model)
    request.inputs.append(_PLAIN)
    request.raw_input_contents.append(len(frame).to_bytes(4, "little") + frame)
    if budget_s:
        request.parameters[BUDGET].double_param = budget_s
    return request


def frame_of(request: Any) -> bytes:
    """The frame of a ModelInferRequest, raw or typed; TensorError."""
    inputs, raw = request.inputs, request.raw_input_contents
    # One comparison for what most clients send: fields take long to read one by one.
    plain = len(inputs) == 1 and inputs[0] == _PLAIN
    typed = () if plain else _typed_contents(inputs)
    if len(raw) + len(typed) != 1:
        raise TensorError(f"{len(raw)} raw and {len(typed)} typed contents, not one")
    if typed:
        return typed[0]
    data = raw[0]
    # A raw BYTES tensor has a length of 4 bytes before each element.
    if len(data) < 4 or int.from_bytes(data[:4], "little") != len(data) - 4:
        raise TensorError("raw contents are not one length and as many bytes")
    return data[4:]


def _typed_contents(inputs: Any) -> Any:
    """What the one input, FRAME, holds itself; TensorError for other inputs."""
    if len(inputs) != 1 or (tensor := inputs[0]).name != FRAME:
        names = [tensor.name[:40] for tensor in inputs[:4]]
        raise TensorError(f"inputs are {names}, not one named {FRAME!r}")
    if tensor.datatype != "BYTES" or list(tensor.shape) != [1]:
        kind = f"{tensor.datatype[:16]} {list(tensor.shape[:8])}"
        raise TensorError(f"{FRAME} is {kind}, not BYTES [1]")
    return tensor.contents.bytes_contents


def budget_of(request: Any) -> float:
    """Seconds until the batch must begin, 0: no limit; TensorError."""
    for name, unit_s in ((BUDGET, 1.0), (TIMEOUT, 1e-6)):
        if name in request.parameters:
            value = parameter(request.parameters[name])
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not value >= 0:
                raise TensorError(f"{name} is {str(value)[:40]!r}, not 0 or more")
            return value * unit_s
    return 0.0


def via_of(request: Any) -> tuple[str, ...]:
    """Ids of the servers that a request has come through; TensorError."""
    if VIA not in request.parameters:
        return ()
    value = parameter(request.parameters[VIA])
    if not isinstance(value, str):
        raise TensorError(f"{VIA} is {str(value)[:40]!r}, not a text")
    return tuple(value.split(","))


def is_brief(request: Any) -> bool:
    """Whether a request asks for the class alone, see `reply.brief`; TensorError."""
    if REPLY not in request.parameters:
        return False
    value = parameter(request.parameters[REPLY])
    if value not in REPLIES:
        raise TensorError(f"{REPLY} is {str(value)[:40]!r}, not {' or '.join(REPLIES)}")
    return value == PREDICTION


def hop_parameters(hop: Hop) -> dict[str, dict[str, Any]]:
    """A Hop as the parameters of a response; what it says nothing of is left out."""
    return {
        name: {kind: value}
        for name, (field, kind) in HOP.items()
        if (value := getattr(hop, field))
    }


def hop_of(response: Any) -> Hop | None:
    """The Hop of a response; None of a server that does not forward."""
    parameters = response.parameters
    if "tier" not in parameters:
        return None
    return Hop(
        **{
            field: getattr(parameters[name], kind)
            for name, (field, kind) in HOP.items()
            if name in parameters
        }
    )


def parameter(value: Any) -> Any:
    """What an InferParameter holds; None where nothing."""
    kind = value.WhichOneof("parameter_choice")
    return getattr(value, kind) if kind else None


def outputs_of(request: Any, known: Collection[str]) -> list[str]:
    """Names of the outputs that a ModelInferRequest wants; TensorError."""
    names = [output.name for output in request.outputs]
    if missing := [name[:40] for name in names if name not in known]:
        raise TensorError(f"no outputs {missing}, the model has {list(known)}")
    return names


def reply_of(response: Any) -> Reply:
    """The Reply of a ModelInferResponse of an edge server; TensorError.

    Of a brief one nobody waited and the batch is one: it does not say.
    """
    outputs = {}
    tensors, contents = response.outputs, response.raw_output_contents
    if len(tensors) != len(contents):
        raise TensorError("the outputs have no raw contents")
    for tensor, data in zip(tensors, contents):
        shape = tuple(tensor.shape)
        if shape[:1] != (1,) or min(shape) < 0:
            name, axes = tensor.name[:40], [*shape[:8]]
            raise TensorError(f"output {name} is {axes}, not [1, ...]")
        try:
            array = np.ndarray(shape[1:], _DTYPES[tensor.datatype], data)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise TensorError(f"output {tensor.name[:40]}: {error!r}") from None
        if array.nbytes != len(data):  # a buffer may be longer than what it is read as
            sizes = f"{len(data)} bytes, its shape {array.nbytes}"
            raise TensorError(f"output {tensor.name[:40]} has {sizes}")
        outputs[tensor.name] = array
    parameters: Mapping[str, Any] = response.parameters
    return Reply(
        outputs,
        parameters["queue_s"].double_param,
        parameters["compute_s"].double_param,
        parameters["batch_size"].int64_param if "batch_size" in parameters else 1,
        hop_of(response),
    )
