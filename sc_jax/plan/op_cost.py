"""Multiplications and bytes of every operation, read from a .tflite file.

As they stand in the file: a delegate (XNNPACK) may fuse some of them later, and
`op_profile` measures what then runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

# Bytes of a value by the schema's TensorType: float32, float16, int32, uint8, int64,
# bool, int16, int8.
SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1}


@dataclass(frozen=True)
class OperationCost:
    """One node of the graph at batch 1. macs: None where no rule counts them.

    inputs: shapes of what it reads, constants included, in the file's order; data: how
    many values of them are no constants. strides: of its window, down and across.
    """

    name: str
    macs: int | None
    weight_bytes: int  # constants that it reads
    output_bytes: int
    output: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    data: int = 0
    strides: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)  # that it reads of its input for one output


def operation_costs(model: bytes) -> tuple[OperationCost, ...]:
    """Of a .tflite file of one graph, in its order. A dynamic batch counts as 1."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    file: Any = schema.ModelT.InitFromPackedBuf(model, 0)
    (graph,) = file.subgraphs
    found = []
    for op in graph.operators:
        code = file.operatorCodes[op.opcodeIndex]
        # Old files keep the code in one field, new ones in the other, the unused is 0.
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        read = [graph.tensors[i] for i in op.inputs if i >= 0]
        # Only constants have data in the file: what is left is computed on the way.
        weights = [t for t in read if file.buffers[t.buffer].data is not None]
        outputs = [graph.tensors[i] for i in op.outputs]
        shapes = tuple(_shape(t) for t in read)
        values = [t for t in read if file.buffers[t.buffer].data is None]
        options = op.builtinOptions
        found.append(
            OperationCost(
                name,
                macs(name, shapes, _shape(outputs[0])),
                sum(len(file.buffers[t.buffer].data) for t in weights),
                sum(SIZES.get(t.type, 0) * prod(_shape(t)) for t in outputs),
                _shape(outputs[0]),
                shapes,
                sum(prod(_shape(t)) for t in values),
                _pair(options, "strideH", "strideW"),
                _window(name, shapes, options),
            )
        )
    return tuple(found)


def macs(
    name: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]
) -> int | None:
    """Of one operation by its LiteRT name; element-wise ones count 0, as usual.

    inputs, output: shapes. None: an operation that multiplies and has no rule here.
    """
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


def _window(
    name: str, inputs: Sequence[tuple[int, ...]], options: Any
) -> tuple[int, int]:
    if "CONV" in name and len(inputs) > 1 and len(inputs[1]) == 4:
        return inputs[1][1], inputs[1][2]  # of weights [out, h, w, in]
    return _pair(options, "filterHeight", "filterWidth")


def _pair(options: Any, down: str, across: str) -> tuple[int, int]:
    return getattr(options, down, 1), getattr(options, across, 1)


def _shape(tensor) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(max(int(d), 1) for d in tensor.shape)
