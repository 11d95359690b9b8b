"""Every compressor: its bits, its bytes against them and against the hard run."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sc_jax.codec import codecs
from sc_jax.compressors import Affine, FactorizedPrior, Image, Raw
from sc_jax.compressors import factorized_prior as prior
from sc_jax.compressors.splits import settle
from sc_jax.nets.bottlenecks.pairs import FPEncoder
from sc_jax.nets.net import Net, SplitPoint, Stage
from sc_jax.nets.run import Variables


def str_of(module) -> str:
    return "".join(repr(module).split()).replace("#attributes", "")


SIMPLE = [Raw(), Raw("float16"), *(Affine(b) for b in (1, 2, 8, 16))]
IMAGES = [Image("PNG"), Image("JPEG", 30), Image("WEBP"), Image("WEBP", 60)]
SHAPE = (20, 20, 4)  # enough symbols for 0.5 % to be more than the stream's tail
RATES = {"low": 0.05, "middle": 1.0, "high": 40.0}


def latents(scale: float, seed: int, batch: int = 4) -> np.ndarray:
    """Laplace, each channel of its own centre and width."""
    rng = np.random.default_rng(seed)
    width = scale * np.array([0.5, 1.0, 1.5, 2.0])
    z = rng.laplace(0.0, 1.0, (batch, *SHAPE)) * width + [0.0, 0.3, -1.4, 7.25]
    return z.astype(np.float32)


def pixels(batch: int = 3) -> np.ndarray:
    ramp = np.add.outer(np.arange(24), np.arange(20)) * 5 % 256
    noise = np.random.default_rng(0).integers(0, 40, (batch, 24, 20, 3))
    return np.clip(ramp[..., None] + noise, 0, 255).astype(np.uint8)


OPTIMISER = optax.adam(optax.cosine_decay_schedule(0.05, 400))


@jax.jit
def fit(params, z):
    """400 steps of Adam on the mean bits under training's noise."""

    def loss(params, key):
        run = FactorizedPrior().apply
        return run({"params": params}, z, train=True, rngs={"noise": key})[1].mean()

    def step(carry, key):
        params, moments = carry
        update, moments = OPTIMISER.update(jax.grad(loss)(params, key), moments)
        return (optax.apply_updates(params, update), moments), None

    keys = jax.random.split(jax.random.key(1), 400)
    return jax.lax.scan(step, (params, OPTIMISER.init(params)), keys)[0][0]


def settled(module, params) -> dict:
    net = Net((Stage("encoder", FPEncoder()),), splits=(SplitPoint("encoder", module),))
    return settle(net, Variables({"split@encoder": params}, {})).params["split@encoder"]


@lru_cache
def fitted(rate: str, compat: bool) -> tuple[FactorizedPrior, dict]:
    """The prior alone, trained on Laplace latents, then settled."""
    if compat:  # the same density, other sums and tables
        return FactorizedPrior(True), fitted(rate, False)[1]
    module, z = FactorizedPrior(), latents(RATES[rate], 0)
    params = module.init(jax.random.key(0), z, train=False)["params"]
    return module, jax.device_get(settled(module, fit(params, z)))


def hard(module, params, z, *, compiled: bool):
    """(z_hat, bits) of the evaluation run."""
    run = lambda p, z: module.apply({"params": p}, z, train=False)  # noqa: E731
    z_hat, bits = (jax.jit(run) if compiled else run)(params, jnp.asarray(z))
    return np.asarray(z_hat), np.asarray(bits)


def soft_bits(module, params, z) -> np.ndarray:
    keys = {"noise": jax.random.key(5)}
    z = jnp.asarray(z)
    return np.asarray(module.apply({"params": params}, z, train=True, rngs=keys)[1])


def check_exact(module, params, codec, z):
    """decode(encode(z)) is the hard run, bit for bit, in both modes."""
    decoded = np.stack([codec.decode(codec.encode(example)) for example in z])
    for compiled in (False, True):
        z_hat, bits = hard(module, params, z, compiled=compiled)
        np.testing.assert_array_equal(decoded, z_hat)
        assert z_hat.dtype == decoded.dtype
        assert bits.shape == z.shape[:1] and bits.dtype == np.float32
        assert np.isfinite(bits).all() and (bits >= 0).all()
    arrays = codec.to_arrays()
    again = codecs.from_arrays(arrays)
    assert again == codec
    assert again.encode(z[0]) == codec.encode(z[0])


def check_bytes(codec, z, bits, share=0.005):
    for example, estimate in zip(z, bits):
        size = len(codec.encode(example))
        assert abs(size - estimate / 8) <= share * estimate / 8 + 8


@pytest.mark.parametrize("module", SIMPLE, ids=str_of)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_simple_compressors(module, scale):
    z = latents(scale, 1)
    codec = module.codec({}, SHAPE)
    check_exact(module, {}, codec, z)
    _, bits = hard(module, {}, z, compiled=True)
    check_bytes(codec, z, bits)
    assert (soft_bits(module, {}, z) >= bits).all()


@pytest.mark.parametrize("module", [Affine(8), Affine(1)], ids=str_of)
def test_affine_takes_constant_and_extreme_latents(module):
    z = np.stack([
        np.zeros(SHAPE), np.full(SHAPE, 3.7), np.full(SHAPE, -1e30),
        np.linspace(-1e30, 1e30, 1600).reshape(SHAPE), np.full(SHAPE, 1e-40),
    ]).astype(np.float32)  # fmt: skip
    check_exact(module, {}, module.codec({}, SHAPE), z)


@pytest.mark.parametrize("aware", [False, True])
def test_affine_training_passes_the_gradient(aware):
    z = jnp.asarray(latents(1.0, 2))
    module = Affine(4, aware)
    out, _ = module.apply({}, z, train=True)
    z_hat, _ = hard(module, {}, z, compiled=False)
    np.testing.assert_allclose(out, z_hat if aware else z, rtol=1e-6, atol=1e-6)
    slope = jax.grad(lambda z: module.apply({}, z, train=True)[0].sum())(z)
    np.testing.assert_array_equal(slope, 1)


@pytest.mark.parametrize("module", IMAGES, ids=str_of)
def test_image_files(module):
    images = pixels()
    codec = module.codec({}, images.shape[1:])
    check_exact(module, {}, codec, images)
    _, bits = hard(module, {}, images, compiled=True)
    assert [8 * len(codec.encode(i)) for i in images] == bits.tolist()
    if module.quality is None:
        np.testing.assert_array_equal(
            hard(module, {}, images, compiled=True)[0], images
        )


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("rate", RATES)
def test_prior_bytes_and_exactness(rate, compat):
    module, params = fitted(rate, compat)
    codec = module.codec(params, SHAPE)
    z = latents(RATES[rate], 7)  # not the latents it was fitted on
    check_exact(module, params, codec, z)
    _, bits = hard(module, params, z, compiled=True)
    # The published tables give every tail symbol a count: 2 % where rows are long.
    share = 0.02 if compat else 0.005
    check_bytes(codec, z, bits, share)
    wide = module.codec(params, (4 * SHAPE[0], *SHAPE[1:]))
    check_bytes(wide, z.reshape(1, -1, *SHAPE[1:]), [bits.sum()], share)


@pytest.mark.parametrize("rate", RATES)
def test_prior_noise_costs_no_less_than_rounding(rate):
    """The mean over examples, to 3 %: additive noise bounds the rounded rate."""
    module, params = fitted(rate, False)
    z = latents(RATES[rate], 8, batch=16)
    _, bits = hard(module, params, z, compiled=True)
    assert soft_bits(module, params, z).mean() >= 0.97 * bits.mean()


@pytest.mark.parametrize("compat", [False, True])
def test_outliers_escape_and_come_back(compat):
    module, params = fitted("middle", compat)
    codec = module.codec(params, SHAPE)
    z = latents(1.0, 9)
    z[:, 3, 4, 0], z[:, 7, 5, 1], z[:, 0, 0, 3] = 1e4, -1e4, 123456.0
    check_exact(module, params, codec, z)


def test_an_untrained_prior_is_usable():
    module = FactorizedPrior()
    z = latents(1.0, 10)
    params = module.init(jax.random.key(2), z, train=False)["params"]
    own = settled(module, params)
    check_exact(module, own, module.codec(own, SHAPE), z)


def test_solved_quantiles_meet_their_targets():
    _, params = fitted("middle", False)
    wide = {k: np.asarray(v, np.float64) for k, v in params.items()}
    logits = prior.cumulative(wide, wide["quantiles"].T, np)
    edge = np.log(2 / prior.TAIL_MASS - 1)
    np.testing.assert_allclose(logits[1], 0, atol=1e-4)
    np.testing.assert_allclose(logits[[0, 2]], [[-edge] * 4, [edge] * 4], rtol=1e-3)


def test_settle_changes_quantiles_alone_and_only_once():
    module, params = fitted("middle", False)
    net = Net((Stage("encoder", FPEncoder()),), splits=(SplitPoint("encoder", module),))
    others = {"encoder": {"w": np.ones(2)}, "split@encoder": params}
    again = settle(net, Variables(others, {}))
    np.testing.assert_array_equal(
        again.params["split@encoder"]["quantiles"], params["quantiles"]
    )
    assert again.params["encoder"] is others["encoder"]


def test_probabilities_sum_to_one():
    _, params = fitted("middle", False)
    rows, _, tails = prior.pmfs(params)
    for row, tail in zip(rows, tails):
        assert (row >= 0).all() and 0 <= tail < 1e-6
        assert row.sum() + tail == pytest.approx(1, abs=1e-9)
