"""Multiplications and bytes of every operation, read from a .tflite file."""

from dataclasses import dataclass
from math import prod
from typing import Any

SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1}  # bytes by TensorType


@dataclass(frozen=True)
class Operation:
    """One node of the graph at batch 1. macs: None where they are not countable."""

    name: str
    macs: int | None
    weight_bytes: int  # constants that it reads
    output_bytes: int
    output: tuple[int, ...]


def operations(model: bytes) -> tuple[Operation, ...]:
    """In the file's order. A dynamic batch counts as 1; XNNPACK may fuse some later."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    file: Any = schema.ModelT.InitFromPackedBuf(model, 0)
    (graph,) = file.subgraphs
    found = []
    for op in graph.operators:
        code = file.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        read = [graph.tensors[i] for i in op.inputs if i >= 0]
        kept = [t for t in read if file.buffers[t.buffer].data is not None]
        made = [graph.tensors[i] for i in op.outputs]
        found.append(
            Operation(
                name,
                macs(name, [_shape(t) for t in read], _shape(made[0])),
                sum(len(file.buffers[t.buffer].data) for t in kept),
                sum(SIZES.get(t.type, 0) * prod(_shape(t)) for t in made),
                _shape(made[0]),
            )
        )
    return tuple(found)


def macs(name: str, inputs: list[tuple[int, ...]], output: tuple[int, ...]):
    """Of one operation by its LiteRT name; element-wise ones count 0, as usual."""
    if name == "CONV_2D":  # weights [out, h, w, in / groups]
        return prod(output) * prod(inputs[1][1:])
    if name == "DEPTHWISE_CONV_2D":  # weights [1, h, w, out]
        return prod(output) * prod(inputs[1][1:3])
    if name == "FULLY_CONNECTED":  # weights [out, in]
        return prod(output) * inputs[1][-1]
    if name == "TRANSPOSE_CONV":  # shape, weights [out, h, w, in], data
        return prod(inputs[2]) * prod(inputs[1][:3])
    if name == "BATCH_MATMUL":
        return prod(output) * inputs[0][-1]
    if any(word in name for word in ("CONV", "LSTM", "RNN", "STABLEHLO", "CUSTOM")):
        return None
    return 0


def _shape(tensor) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(max(int(d), 1) for d in tensor.shape)
