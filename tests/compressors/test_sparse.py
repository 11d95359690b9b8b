"""SLICER and the CSR form in JAX: what their codecs decode, also in corner cases."""

import jax
import numpy as np
import pytest
from fitted import hard, soft

from sc_jax.compressors import CSR, Slicer
from sc_jax.errors import UsageError

TINY = np.finfo(np.float32).tiny


def corners() -> np.ndarray:
    """[5, 4, 4, 3]: ties, a ReLU's, below float32's normal range, one value, 0."""
    z = np.random.default_rng(0).laplace(0, 2, (5, 4, 4, 3)).astype(np.float32)
    z[0] = np.round(z[0])
    z[1] = np.maximum(z[1], 0)
    z[2] = np.where(z[2] > 0, z[2], np.where(z[2] < -1, TINY / 4, -0.0))
    z[3] = -2.5
    z[4] = 0
    return z


@pytest.mark.parametrize(
    "module", [Slicer(0.3, 1.7, 5, 6, 1.5), Slicer(1.0, 0.5, 3, 8, 0.0), CSR(3)]
)
def test_the_evaluation_run_is_what_the_codec_decodes(module):
    z = corners()
    z_hat, bits = hard(module, {}, z)
    codec = module.codec({}, z.shape[1:])
    for example, hat, estimate in zip(z, z_hat, bits):
        data = codec.encode(example)
        np.testing.assert_array_equal(codec.decode(data), hat)
        assert abs(8 * len(data) - estimate) <= 64


def test_training_keeps_the_same_values_unquantised_and_their_gradient():
    module, z = Slicer(0.3, distortion=4.0), corners()[:2]
    kept = hard(module, {}, z)[0] != 0
    z_hat, _ = soft(module, {}, z)
    np.testing.assert_array_equal(z_hat, np.where(kept, z, 0))
    slope = jax.grad(lambda z: module.apply({}, z, train=True)[0].sum())(z)
    np.testing.assert_array_equal(slope, kept)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Slicer(0.0), "above 0 and at most 1"),
        (Slicer(1.5), "above 0 and at most 1"),
        (Slicer(asymmetry=-1.0), "asymmetry -1.0"),
        (Slicer(blocks=40), "40 blocks, not 1 to 8 and 1 to 32"),
        (Slicer(distortion=200.0), "distortion 3200"),
        (CSR(9), "9 bits, not 1 to 8"),
    ],
)
def test_a_setting_beyond_its_range_is_one_line(module, says):
    with pytest.raises(UsageError, match=says) as caught:
        module.codec({}, (4, 4, 3))
    assert "\n" not in str(caught.value)
