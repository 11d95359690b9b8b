"""What each operation of a .tflite file costs: counted in the file, timed by LiteRT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.deploy.export import convert, segments
from sc_jax.plan import OperationTime, op_profile, operation_costs, time_operations
from sc_jax.traces.cost import macs

pytest.importorskip("ai_edge_litert", reason="the extra export is not installed")
CONV = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def program(image):
    """A 4x4 patch stem, a depthwise 3x3, a 1x1 and a division: 4 operations."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s) for s in ((4, 4, 3, 16), (3, 3, 1, 16), (16, 8))]
    patch, depthwise, one = (w.astype(np.float32) for w in weights)
    x = image.astype(jnp.float32)
    conv = jax.lax.conv_general_dilated
    x = conv(x, patch, (4, 4), "VALID", **CONV)
    x = conv(x, depthwise, (1, 1), "SAME", feature_group_count=16, **CONV)
    x = x / (1.0 + jnp.abs(x))
    return {"latent": conv(x, one[None, None], (1, 1), "VALID", **CONV)}


EXAMPLE = np.zeros((1, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def head():
    return convert.convert(*segments.lower(program, EXAMPLE))


@pytest.mark.parametrize("threads", [1, 2])
def test_litert_times_every_operation(head, threads):
    rows, why = time_operations(head, threads=threads, runs=20)
    assert rows is not None, why
    names = " ".join(row.node for row in rows)
    assert names.count("Convolution") + names.count("GEMM") >= 2 and "Divide" in names
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.calls == round(row.calls) >= 1 for row in rows)


def test_what_is_too_short_for_the_profiler_is_said(head, monkeypatch):
    shortest = OperationTime("CAST", "", ms=0.0, share=0.0, calls=1.0)
    monkeypatch.setattr(op_profile, "operation_times", lambda *_: (shortest,))
    rows, why = time_operations(head, threads=1, runs=1)
    assert rows is None and "less than the profiler's microsecond" in why


def test_a_profile_that_fails_says_why():
    rows, why = time_operations(b"no model", threads=1, runs=1)
    assert rows is None and "LiteRT's profiler gave nothing" in why


def test_multiplications_of_the_file_are_those_of_the_program(head):
    rows = operation_costs(head)
    assert sum(row.macs or 0 for row in rows) == macs(program, EXAMPLE)
    by_name = {row.name: row for row in rows}
    assert by_name["DIV"].macs == 0
    assert by_name["DIV"].output == (1, 32, 32, 16)
    assert by_name["DIV"].output_bytes == 4 * 32 * 32 * 16
    weights = 4 * (4 * 4 * 3 * 16 + 3 * 3 * 16 + 16 * 8)
    assert weights <= sum(row.weight_bytes for row in rows) <= weights + 1024
