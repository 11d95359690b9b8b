"""The wavelet transform is orthonormal; each step reads one sub-band."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.icnn import SubbandStep, Wavelet, haar, icnn
from sc_jax.nets.net import Net
from sc_jax.nets.run import run, variable_shapes

SIDES = [(8, 8), (7, 8), (28, 5), (1, 1)]


def images(height, width, channels=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, height, width, channels)).astype(np.float32)


def energy(tree) -> float:
    return sum(float((np.asarray(a, np.float64) ** 2).sum()) for a in tree)


@pytest.mark.parametrize("sides", SIDES)
def test_the_transform_keeps_energy(sides):
    x = images(*sides)
    bands = jax.jit(haar)(x)
    half = tuple(-(-n // 2) for n in sides)
    assert {band.shape for band in bands} == {(3, *half, 2)}
    # Quarters of whole numbers below 2^10 are exact in float32.
    assert energy(bands) == energy([x])


def test_each_band_tells_its_own_direction():
    constant = haar(jnp.full((1, 4, 4, 1), 3.0))
    assert [float(band.max()) for band in constant] == [6, 0, 0, 0]
    along_rows = jnp.tile(jnp.array([1.0, -1.0]), 2).reshape(1, 1, 4, 1)
    stripes = haar(jnp.broadcast_to(along_rows, (1, 4, 4, 1)))
    assert [float(jnp.abs(band).max()) for band in stripes] == [0, 2, 0, 0]
    turned = haar(jnp.broadcast_to(along_rows.reshape(1, 4, 1, 1), (1, 4, 4, 1)))
    assert [float(jnp.abs(band).max()) for band in turned] == [0, 0, 2, 0]


def test_levels_go_from_coarse_to_fine_and_keep_energy():
    x = images(12, 20)
    bands = jax.jit(lambda x: Wavelet(2).apply({}, x, train=False))(x)
    assert len(bands) == 7 and bands[-1].shape == (3, 3, 5, 2)
    assert [b.shape[1] for b in bands] == [3, 3, 3, 6, 6, 6, 3]
    assert energy(bands) == pytest.approx(energy([x]), rel=1e-12)


def test_a_step_reads_the_next_sub_band_and_the_feature_only():
    x = tuple(jnp.asarray(images(6, 6)) for _ in range(3))
    feature = jnp.asarray(images(3, 3, 4))
    step = SubbandStep(4)
    given = (*x, feature)
    variables = drawn(lambda: step.init(jax.random.key(0), given, train=False))
    *left, _ = step.apply(variables, given, train=False)
    assert len(left) == 2
    for kept, band in zip(left, x[1:]):
        np.testing.assert_array_equal(kept, band)

    def total(inputs):
        return (step.apply(variables, inputs, train=False)[-1] ** 2).sum()

    gradient = jax.jit(jax.grad(total))(given)
    read = [bool(jnp.abs(g).max() > 0) for g in gradient]
    assert read == [True, False, False, True]


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("side", [27, 32])
def test_any_side_and_level_ends_in_one_feature(levels, side):
    net = Net(icnn(classes=5, levels=levels, width=8))
    x = jax.ShapeDtypeStruct((2, side, side + 3, 1), jnp.float32)
    variables = variable_shapes(net, x)
    found = jax.eval_shape(lambda v, x: run(net, v, x)[0].features, variables, x)
    steps = [found[f"step{k}"] for k in range(1, 2 + 3 * levels)]
    assert [len(step) for step in steps[:-1]] == list(range(3 * levels + 1, 1, -1))
    sides = tuple(-(-n // 2 ** (levels + 1)) for n in (side, side + 3))
    lasts = [step[-1] for step in steps[:-1]] + [steps[-1]]
    assert {last.shape for last in lasts} == {(2, *sides, 8)}
    assert found["fc"].shape == (2, 5)


def test_no_level_is_a_mistake():
    with pytest.raises(UsageError, match="1 or more"):
        icnn(classes=5, levels=0)
