"""Latents, and compressors whose parameters were fitted to them."""

from functools import lru_cache, partial

import jax
import numpy as np
import optax

from sc_jax.compressors import FactorizedPrior, VariableRatePrior
from sc_jax.compressors.splits import settle
from sc_jax.nets.net import INPUT, Net, SplitPoint
from sc_jax.nets.run import Variables, init

SHAPE = (20, 20, 4)  # enough symbols for 0.5 % to be more than the stream's tail
SCALES = {"low": 0.05, "middle": 1.0, "high": 40.0}
OPTIMISER = optax.adam(optax.cosine_decay_schedule(0.05, 400), b2=0.95)


def latents(scale: float, seed: int, batch: int = 4) -> np.ndarray:
    """Laplace, each channel of its own centre and width."""
    rng = np.random.default_rng(seed)
    width = scale * np.array([0.5, 1.0, 1.5, 2.0])
    z = rng.laplace(0.0, 1.0, (batch, *SHAPE)) * width + [0.0, 0.3, -1.4, 7.25]
    return z.astype(np.float32)


def pixels(shape: tuple[int, ...], batch: int = 3) -> np.ndarray:
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 5 % 256
    noise = np.random.default_rng(0).integers(0, 40, (batch, *shape))
    return np.clip(ramp[..., None] + noise, 0, 255).astype(np.uint8)


def settled(module, params) -> dict:
    net = Net((), splits=(SplitPoint(INPUT, module),))
    return settle(net, Variables({"split@input": params}, {})).params["split@input"]


def first(module, z, seed: int = 0) -> dict:
    """The compressor's parameters as training begins with them."""
    net = Net((), splits=(SplitPoint(INPUT, module),))
    return init(net, jax.random.key(seed), z).params["split@input"]


@partial(jax.jit, static_argnums=0)
def fit(module, params, z):
    """400 steps of Adam on the mean bits under training's noise."""

    def loss(params, key):
        run = module.apply
        return run({"params": params}, z, train=True, rngs={"noise": key})[1].mean()

    def step(carry, key):
        params, moments = carry
        update, moments = OPTIMISER.update(jax.grad(loss)(params, key), moments)
        return (optax.apply_updates(params, update), moments), None

    keys = jax.random.split(jax.random.key(1), 400)
    return jax.lax.scan(step, (params, OPTIMISER.init(params)), keys)[0][0]


@lru_cache
def fitted(module, rate: str) -> dict:
    """The compressor's parameters, trained on latents of the rate, then settled."""
    if module == FactorizedPrior(compat=True):  # the same density, other tables
        module = FactorizedPrior()
    z = latents(SCALES[rate], 0)
    params = first(module, z)
    if module.needs_latents:
        return dict(module.calibrated(params, z.reshape(-1, z.shape[-1])))
    if isinstance(module, VariableRatePrior):
        # The same density too; under bits alone gains would only make bins wider.
        known = fitted(FactorizedPrior(), rate)
        return jax.device_get(settled(module, {**params, **known}))
    return jax.device_get(settled(module, fit(module, params, z) if params else {}))


@partial(jax.jit, static_argnums=0)
def compiled(module, params, z):
    return module.apply({"params": params}, z, train=False)


def hard(module, params, z, *, jit: bool = True):
    """(z_hat, bits) of the evaluation run."""
    if jit:
        return jax.device_get(compiled(module, params, z))
    return jax.device_get(module.apply({"params": params}, z, train=False))


@partial(jax.jit, static_argnums=0)
def soft(module, params, z):
    """(z_hat, bits) of a training run."""
    keys = {"noise": jax.random.key(5)}
    return module.apply({"params": params}, z, train=True, rngs=keys)[:2]


def check_exact(module, params, z, *, jit: bool = True) -> np.ndarray:
    """The estimated bits; decode(encode(z)) is the hard run, bit for bit."""
    codec = module.codec(params, z.shape[1:])
    decoded = np.stack([codec.decode(codec.encode(example)) for example in z])
    z_hat, bits = hard(module, params, z, jit=jit)
    np.testing.assert_array_equal(decoded, z_hat)
    assert z_hat.dtype == decoded.dtype == codec.latent_dtype
    assert bits.shape == z.shape[:1] and bits.dtype == np.float32
    assert np.isfinite(bits).all() and (bits >= 0).all()
    return bits


def check_bytes(codec, z, bits, share: float = 0.005) -> None:
    """Bytes are the estimate to the share and 8 bytes."""
    for example, estimate in zip(z, bits):
        size = len(codec.encode(example))
        assert abs(size - estimate / 8) <= share * estimate / 8 + 8
