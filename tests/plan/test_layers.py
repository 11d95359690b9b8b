"""Layers of a .tflite file: their figures, and a profiler's rows laid on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.deploy.export import convert, segments
from sc_jax.errors import UsageError
from sc_jax.plan import OperationTime, operation_costs, time_operations
from sc_jax.plan.layers import layers_of, matched, timed

pytest.importorskip("ai_edge_litert", reason="the extra export is not installed")
CONV = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def program(image):
    """A padded 3x3 of stride 2, a depthwise 3x3, a 1x1, a mean and a dense layer."""
    rng = np.random.default_rng(0)
    shapes = (3, 3, 3, 16), (3, 3, 1, 16), (1, 1, 16, 8), (8, 10)
    first, depthwise, one, dense = (rng.normal(size=s).astype("f4") for s in shapes)
    conv = jax.lax.conv_general_dilated
    x = image.astype(jnp.float32)
    x = conv(x, first, (2, 2), [(1, 1), (1, 1)], **CONV)
    x = conv(x, depthwise, (1, 1), "SAME", feature_group_count=16, **CONV)
    x = conv(x, one, (1, 1), "VALID", **CONV)
    return {"logits": x.mean((1, 2)) @ dense}


@pytest.fixture(scope="module")
def model():
    example = np.zeros((1, 64, 64, 3), np.uint8)
    return convert.convert(*segments.lower(program, example, batch=1))


def test_figures_of_layers_are_those_of_their_shapes(model):
    found = {layer.kind: layer for layer in layers_of(model)}
    conv, pad = found["convolution"], found["pad"]
    assert pad.output_values == conv.input_values == 66 * 66 * 3
    assert conv.window == 9 / 4 * 16 and conv.output_values == 32 * 32 * 16
    assert conv.macs == 32 * 32 * 16 * 27
    assert conv.moved_bytes == 4 * (66 * 66 * 3 + 32 * 32 * 16)
    assert found["depthwise"].figures == (32 * 32 * 16, 9)
    assert found["pointwise"].figures == (32 * 32 * 16, 8)
    assert found["fully_connected"].figures == (8, 10)
    assert found["fully_connected"].weight_bytes >= 4 * 80
    assert found["pooling"].figures == (32 * 32 * 8, 8)


def test_every_second_of_a_profile_belongs_to_a_layer(model):
    rows, why = time_operations(model, threads=1, runs=3, rounds=3)
    assert rows is not None, why
    found = timed(model, rows, "net:64", "net")
    assert sum(layer.seconds for layer in found) == pytest.approx(
        sum(row.ms for row in rows) / 1e3
    )
    spent = {layer.kind: layer.seconds for layer in found}
    assert spent["pad"] == 0  # fused into the convolution behind it
    assert min(spent["convolution"], spent["depthwise"], spent["pointwise"]) > 0
    assert {layer.network for layer in found} == {"net:64"}


def row(node, ms=1.0, calls=1.0, name=""):
    return OperationTime(node, name, ms, 0.1, calls)


ROWS = (
    row("CAST", name="[Builtin]:0"),
    row("Delegate/Convolution (NHWC, F32) IGEMM", 2.0),
    row("Delegate/Convolution (NHWC, F32) DWConv", 3.0),
    row("Delegate/Fully Connected (NC, F32) GEMM", 4.0),
    row("Delegate/Copy (NC, X32)", 5.0),
    row("Delegate/Mean (ND) Reduce2", 6.0),
    row("Delegate/Clamp (NC)", 7.0),
    row("Delegate/Fully Connected (NC, F32) GEMM", 8.0),
)


def test_rows_are_laid_on_operations_in_their_order(model):
    costs = operation_costs(model)
    ms = [round(1e3 * seconds, 9) for seconds in matched(costs, ROWS)]
    # What no operation of the file asks for belongs to the one before.
    assert [t for t in ms if t] == [1, 2, 3, 4 + 5, 6 + 7, 8]
    assert next(cost.name for cost, t in zip(costs, ms) if not t) == "PAD"


def test_a_profile_of_another_file_is_refused(model):
    costs = operation_costs(model)
    with pytest.raises(UsageError, match=r"lists 3 convolutions.*the file has 4"):
        matched(costs, ROWS[:-1])
    both = (*ROWS[:3], row("Delegate/Fully Connected (NC, F32) GEMM", 4.0, calls=2.0))
    with pytest.raises(UsageError, match=r"sums layers of several parts.*fixed batch"):
        matched(costs, both)
