"""Where bits go: the sum of what symbols cost is what the coder writes."""

import numpy as np
import pytest

from benchmarks.methods import bits
from sc_jax.codec import tables
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.in_context import InContextCodec

SHAPE = (12, 10, 3)
WIDTHS = (0.3, 1.5, 6.0)


@pytest.fixture
def codec():
    values = np.arange(-12, 13)
    pmf = [np.exp(-np.abs(values) / width) for width in WIDTHS]
    made = tables.from_pmf([p / p.sum() for p in pmf], -12, 1e-3)
    return FactorizedCodec(SHAPE, made, np.zeros(3, np.float32))


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("far", [0, 40])
def test_costs_add_up_to_the_stream(codec, far, context):
    rng = np.random.default_rng(0)
    z = rng.laplace(0, WIDTHS, SHAPE).astype(np.float32)
    z[: far // 10, 0] = far  # beyond every row: escapes
    if context:
        known = rng.laplace(0, WIDTHS, (30, *SHAPE)).astype(np.float32)
        codec = InContextCodec.fit(codec, [codec.outputs(known, np)], 3)
    each = bits.costs(codec, codec.symbols(z))
    assert each.shape == SHAPE and each.min() > 0
    assert each.sum() / 8 == pytest.approx(len(codec.encode(z)), rel=0.003, abs=6)


def test_a_row_names_what_is_silent_and_where_the_bits_are(codec, tmp_path):
    rng = np.random.default_rng(1)
    z = np.zeros((4, *SHAPE), np.float32)
    z[:, 3:6, 3:6, 2] = rng.normal(0, 8, (4, 3, 3))
    row = bits.measured("a net", codec, z)
    assert row["bytes"] == pytest.approx(row["bytes_by_tables"], rel=0.003, abs=6)
    assert row["channels_of_half"] == 1 <= row["channels_of_90"] <= 3
    assert np.argmax(row["by_place"]) // SHAPE[1] in (3, 4, 5)
    assert row["edge_to_middle"] < 1 and row["by_channel"][0] > row["by_channel"][-1]
    assert row["most_usual"] == pytest.approx((z == 0).mean(), abs=0.02)
    assert "a net" in bits.table([row])
    bits.draw([row, row], tmp_path / "bits.png")
    assert (tmp_path / "bits.png").stat().st_size > 1000
