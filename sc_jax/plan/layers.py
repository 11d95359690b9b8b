"""The layers of a .tflite file as a regression of their seconds reads them.

A layer is an operation of the file, its kind what the runtime has a routine for. What
it is predicted from are Neurosurgeon's figures of a layer (Kang et al. 2017, section 4,
https://doi.org/10.1145/3037697.3037698), its multiplications and its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from sc_jax.errors import UsageError
from sc_jax.plan.op_cost import OperationCost, operation_costs
from sc_jax.plan.op_profile import OperationTime

ARITHMETIC = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "ABS", "NEG")
FUNCTIONS = ("DIV", "LOGISTIC", "TANH", "EXP", "RSQRT", "SQRT", "HARD_SWISH", "GELU")
POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "SUM", "REDUCE_MAX")
# Kinds of several operations; any other is a kind of its own, by its lower-case name.
KINDS = (
    {name: "arithmetic" for name in ARITHMETIC}
    | {name: "function" for name in FUNCTIONS}
    | {name: "pooling" for name in POOLS}
    | {"CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "depthwise"}
)
WINDOWED = ("convolution", "pointwise", "depthwise", "transpose_conv")
BETWEEN = ("fully_connected", "softmax", "batch_matmul", "pooling")
# What XNNPACK calls the routine of an operation, where the name is not the same.
ROUTINES = {
    "CONV_2D": r"Convolution|Fully Connected",
    "DEPTHWISE_CONV_2D": r"Convolution",
    "FULLY_CONNECTED": r"Fully Connected",
    "TRANSPOSE_CONV": r"Deconvolution",
    "BATCH_MATMUL": r"Batch Matrix Multiply",
    "MUL": r"Multiply",
    "SUB": r"Subtract",
    "DIV": r"Divide",
    "LOGISTIC": r"Sigmoid",
    "RSQRT": r"Reciprocal Square Root",
    "SQRT": r"Square Root",
    "RELU": r"Clamp|Rectified",
    "RELU6": r"Clamp",
    "MEAN": r"Mean|Sum|Global Average",
    "MAX_POOL_2D": r"Max Pooling",
    "AVERAGE_POOL_2D": r"Average Pooling",
    "REDUCE_MAX": r"Max \(|Reduce Max",
    "PAD": r"Constant Pad",
    "PADV2": r"Constant Pad",
    "CONCATENATION": r"Concatenate|Copy",
    "RESHAPE": r"Copy|Reshape",
    "STRIDED_SLICE": r"Slice|Strided",
    "HARD_SWISH": r"Hard ?Swish",
}
# What no routine of another operation may be taken for: they are most of the seconds.
HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class Layer:
    """One layer at batch 1. seconds: measured; None: to be predicted.

    window: (filter's side / stride)^2 times the filters that read one channel.
    moved_bytes: read and written, of float32 data; weight_bytes: of its constants.
    family: of its network; a whole family is held out together.
    """

    kind: str
    input_values: float
    output_values: float
    window: float
    macs: float
    moved_bytes: float
    weight_bytes: float
    seconds: float | None = None
    network: str = ""
    family: str = ""

    @property
    def figures(self) -> tuple[float, ...]:
        """What the paper predicts this kind from."""
        if self.kind in WINDOWED:
            return self.input_values, self.window
        if self.kind in BETWEEN:
            return self.input_values, self.output_values
        return (self.output_values,)


def layers_of(model: bytes) -> tuple[Layer, ...]:
    """Of a .tflite file, untimed, in its order."""
    return tuple(map(_layer, operation_costs(model)))


def timed(
    model: bytes, rows: Sequence[OperationTime], network: str, family: str
) -> tuple[Layer, ...]:
    """The layers with what a profiler measured of this file; UsageError of another's.

    An operation without a row of its own was fused into a neighbour and takes 0.
    """
    costs = operation_costs(model)
    return tuple(
        replace(_layer(cost), seconds=seconds, network=network, family=family)
        for cost, seconds in zip(costs, matched(costs, rows))
    )


def matched(
    costs: Sequence[OperationCost], rows: Sequence[OperationTime]
) -> list[float]:
    """Seconds of each operation of the file, from a profiler's rows in run order.

    A row of the runtime's own names its operation's place in the file. One of XNNPACK's
    is the next operation that it may compute, and is added to the operation before
    where there is none until the next convolution. UsageError where the two lists do
    not hold the same convolutions.
    """
    seconds, at = [0.0] * len(costs), -1
    for row in rows:
        node = row.node.removeprefix("Delegate/")
        place = re.match(r"\[Builtin\]:(\d+)$", row.name)
        if place and int(place[1]) < len(costs) and costs[int(place[1])].name == node:
            seconds[int(place[1])] += 1e-3 * row.ms
            continue
        found = _next(costs, at + 1, node)
        at = found if found is not None else max(at, 0)
        seconds[at] += 1e-3 * row.ms
    heavy = sum(cost.name in HEAVY for cost in costs)
    counted = [r.calls for r in rows if re.search(r"(?i)conv|fully.connected", r.node)]
    if sum(counted) != heavy:
        raise UsageError(
            f"the profile is of another file: it lists {sum(counted):g} convolutions "
            f"and fully connected layers, the file has {heavy}"
        )
    if len(counted) < heavy:
        raise UsageError(
            "the profile sums layers of several parts of the file: time one of a fixed "
            "batch, which the runtime computes in one part"
        )
    return seconds


def _next(costs: Sequence[OperationCost], start: int, node: str) -> int | None:
    """Where the operation stands that a routine of this name computes."""
    for i in range(start, len(costs)):
        name = costs[i].name
        if node == name or _computes(node, name):
            return i
        if name in HEAVY:
            return None
    return None


def _computes(node: str, name: str) -> bool:
    usual = re.escape(name.replace("_", " "))
    return bool(re.match(f"(?i)(?:{ROUTINES.get(name, usual)})", node))


def _layer(cost: OperationCost) -> Layer:
    kind = KINDS.get(cost.name, cost.name.lower())
    area, stride = prod(cost.window), prod(cost.strides)
    if kind == "convolution" and area == stride == 1:
        kind = "pointwise"  # a product of matrices, which has a routine of its own
    weights = cost.inputs[1] if len(cost.inputs) > 1 and kind in WINDOWED else ()
    filters = weights[0] if weights else 1
    if kind == "depthwise":  # weights [1, h, w, out]: filters of each channel
        filters = weights[-1] / max(cost.inputs[0][-1], 1)
    outputs = prod(cost.output)
    return Layer(
        kind,
        input_values=cost.data,
        output_values=outputs,
        window=area / stride * filters,
        macs=cost.macs or 0,
        moved_bytes=4 * (cost.data + outputs),
        weight_bytes=cost.weight_bytes,
    )
