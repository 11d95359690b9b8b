"""docs/edge.proto from the descriptor: what other languages generate clients from.

python -m sc_jax.deploy.wire.proto_text > docs/edge.proto
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf import descriptor_pb2

from sc_jax.deploy.wire import protocol

HEADER = """\
// What launch.serve speaks: the Open Inference Protocol, version 2
// (https://github.com/kserve/open-inference-protocol), numbers as published there.
// Made by: python -m sc_jax.deploy.wire.proto_text > docs/edge.proto
//
// A request of ModelInfer has one input, "frame": datatype BYTES, shape [1], a frame of
// docs/bitstream.md, in contents.bytes_contents or, after its length in 4 bytes, little
// endian, in raw_input_contents. Its parameter budget_s (double) is the time until its
// batch must begin; reply (string), "prediction" or "logits", says whether only the
// class and its probability are answered, without times, or all. The response has the
// task's reply as named outputs in raw_output_contents, little endian, after a batch
// axis of 1, and the parameters queue_s, compute_s and batch_size; of a server that
// forwards also tier, exit, forwarded_bytes, forward_s and note. All else is in
// docs/deployment.md.
"""
KNOWN = descriptor_pb2.FieldDescriptorProto
KINDS = {
    number: name.removeprefix("TYPE_").lower() for name, number in KNOWN.Type.items()
}


def proto_text() -> str:
    """The protocol as a .proto file."""
    file = protocol.file_descriptor()
    lines = [HEADER, f'syntax = "{file.syntax}";', "", f"package {file.package};", ""]
    for service in file.service:
        lines.append(f"service {service.name} {{")
        for method in service.method:
            types = (
                _relative(name) for name in (method.input_type, method.output_type)
            )
            lines.append("  rpc {}({}) returns ({});".format(method.name, *types))
        lines += ["}", ""]
    for message in file.message_type:
        lines += [*_message(message), ""]
    return "\n".join(lines)


def _message(message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    """The lines of one message, what it nests first."""
    yield f"message {message.name} {{"
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from (f"  {line}" for line in _message(nested))
    for group in message.oneof_decl:
        yield f"  oneof {group.name} {{"
        yield from (
            f"    {_field(f)}" for f in message.field if f.HasField("oneof_index")
        )
        yield "  }"
    yield from (
        f"  {_field(f)}" for f in message.field if not f.HasField("oneof_index")
    )
    yield "}"


def _field(field: descriptor_pb2.FieldDescriptorProto) -> str:
    kind = _relative(field.type_name) or KINDS[field.type]
    if kind.endswith("ParametersEntry"):
        kind = "map<string, InferParameter>"
    elif field.label == KNOWN.LABEL_REPEATED:
        kind = f"repeated {kind}"
    return f"{kind} {field.name} = {field.number};"


def _relative(name: str) -> str:
    """.inference.A.B as the package itself writes it."""
    return name.removeprefix(f".{protocol.PACKAGE}.")


if __name__ == "__main__":
    print(proto_text(), end="")
