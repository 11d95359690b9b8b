"""The factorized prior: one learned monotone density a channel.

Ballé, Minnen, Singh, Hwang, Johnston 2018, https://arxiv.org/abs/1802.01436, appendix
6.1; tables as TensorFlow Compression and CompressAI make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec import tables
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.compressors import quick_cumulative
from sc_jax.compressors.compressor import Compressor
from sc_jax.nets.layers.blocks import lower_bound

WIDTHS = (1, 3, 3, 3, 3, 1)
# Below it bits would grow without bound; 30 bits are the most a value costs here.
LIKELIHOOD_BOUND = 1e-9
TAIL_MASS = 1e-9
# A density about 10 wide at first, its scale shared out over five layers.
_SPREAD = 10.0 ** (1 / 5)


def cumulative(params: Mapping, v, xp=jnp):
    """Logits of the cumulative density at v [..., C] -> [..., C]; rises in v.

    Per channel a network 1-3-3-3-3-1: H softplus-positive, b bias, tanh gates a.
    `xp` is jax.numpy, or numpy where tables are built (float64 there).
    """
    lead = (1,) * (v.ndim - 1) + (-1,)
    rows = [v]
    for k in range(len(WIDTHS) - 1):
        # Softplus: positive weights are what makes the cumulative rise in v.
        h = xp.logaddexp(params[f"h{k}"], 0.0)
        new = []
        for i in range(WIDTHS[k + 1]):
            # Sums of scalars a channel: tiny matrices a channel are slow as products.
            y = sum(h[:, i, j].reshape(lead) * x for j, x in enumerate(rows))
            y = y + params[f"b{k}"][:, i].reshape(lead)
            if k < len(WIDTHS) - 2:
                a = params[f"a{k}"][:, i].reshape(lead)
                # |tanh a| < 1, so that the map stays monotone whatever a learns.
                y = y + xp.tanh(a) * xp.tanh(y)
            new.append(y)
        rows = new
    return rows[0]


def likelihood(
    params: Mapping, v, xp=jnp, *, compat=False, width: Any = 1.0, quick=False
):
    """Probability mass of the interval v +- width / 2, v [..., C]; unbounded below.

    width: above 0, one number or an array of v's rank. The sign trick takes both ends
    in the tail where the sigmoid does not cancel; `compat` leaves it out, as CompressAI
    does. `quick`: in the form whose gradient is quick on CPUs, for training with
    jax.numpy; equal but for rounding.
    """
    half = 0.5 * width
    if quick:
        # Together, or both ends would be compiled.
        ends = quick_cumulative.cumulative(params, xp.stack([v - half, v + half]))
        lower, upper = ends
    else:
        lower, upper = (cumulative(params, end, xp) for end in (v - half, v + half))
    if compat:
        return _sigmoid(upper, xp) - _sigmoid(lower, xp)
    # Never 0: at the median itself both ends cancel, and so would the mass.
    sign = xp.where(lower + upper > 0, -1.0, 1.0)
    if xp is jnp:
        # A choice of tail, not a quantity: its gradient is zero or undefined.
        sign = jax.lax.stop_gradient(sign)
    return xp.abs(_sigmoid(sign * upper, xp) - _sigmoid(sign * lower, xp))


def _sigmoid(x, xp):
    # By tanh, which does not overflow for large negative x.
    return jax.nn.sigmoid(x) if xp is jnp else 0.5 * (1 + np.tanh(0.5 * x))


def parameters(module: nn.Module, channels: int) -> dict[str, Any]:
    """The density's parameters, made in (or read from) a compact module by name."""
    params = {}
    for k, (wide, high) in enumerate(pairwise(WIDTHS)):
        # The inverse of softplus, as published: each layer then scales by 1 / _SPREAD.
        fill = float(np.log(np.expm1(1 / _SPREAD / high)))
        shape = (channels, high, wide)
        params[f"h{k}"] = module.param(f"h{k}", nn.initializers.constant(fill), shape)
        params[f"b{k}"] = module.param(
            f"b{k}",
            lambda key, s: jax.random.uniform(key, s, minval=-0.5, maxval=0.5),
            (channels, high),
        )
        if k < len(WIDTHS) - 2:
            params[f"a{k}"] = module.param(
                f"a{k}", nn.initializers.zeros, (channels, high)
            )
    quantiles = module.param(
        "quantiles",
        # The edges of the first density; evaluation before `settle` still rounds.
        lambda key: jnp.tile(jnp.array([-10.0, 0.0, 10.0]), (channels, 1)),
    )
    params["quantiles"] = jax.lax.stop_gradient(quantiles)
    return params


class FactorizedPrior(Compressor):
    """Rounds a latent and codes it under a learned density; 61 parameters a channel.

    z f32[B, ..., C] -> (z_hat, bits f32[B]). Training: uniform noise in +-0.5 stands in
    for rounding; otherwise z_hat = round(z - median) + median, half to even. The three
    quantiles a channel (tail, median, tail) get no gradient: `settle` solves them.
    """

    compat: bool = False

    @nn.compact
    def __call__(self, z, *, train):
        params = parameters(self, z.shape[-1])
        if train:
            noise = jax.random.uniform(
                self.make_rng("noise"), z.shape, minval=-0.5, maxval=0.5
            )
            # Differentiable, and its density at an integer is what rounds to it.
            z_hat = z + noise
        else:
            medians = params["quantiles"][:, 1].reshape((1,) * (z.ndim - 1) + (-1,))
            z_hat = jnp.round(z - medians) + medians
        # The bound's own gradient: a value in the far tail still learns to come back.
        quick = train and quick_cumulative.is_worth_it(z_hat)
        mass = likelihood(params, z_hat, compat=self.compat, quick=quick)
        mass = lower_bound(mass, LIKELIHOOD_BOUND)
        bits = -jnp.log2(mass)
        return z_hat, bits.reshape(z.shape[0], -1).sum(1)

    def settle(self, params):
        """With quantiles solved from the density: rounding reads them, noise not."""
        solved = solve_quantiles(jax.device_get(dict(params)))
        return {**params, "quantiles": jnp.asarray(solved)}

    def codec(self, params, shape) -> FactorizedCodec:
        # On the host in float64: tables are built once and shipped, never rebuilt.
        params = jax.device_get(dict(params))
        rows, offsets, tails = pmfs(params, compat=self.compat)
        build = tables.compat_from_pmf if self.compat else tables.from_pmf
        medians = np.asarray(params["quantiles"][:, 1], np.float32)
        return FactorizedCodec(shape, build(rows, offsets, tails), medians)


def solve_quantiles(params: Mapping) -> np.ndarray:
    """f32[C, 3]: where the cumulative is 0.5e-9, 0.5 and 1 - 0.5e-9, by bisection."""
    wide = {k: np.asarray(v, np.float64) for k, v in params.items()}
    # The logit of half the tail mass on either side.
    edge = np.log(2 / TAIL_MASS - 1)
    targets = np.array([[-edge], [0.0], [edge]])
    # By bisection: it needs a rising map and nothing of its slope.
    low = np.full((3, wide["h0"].shape[0]), -float(2**15))
    high = -low
    # From 2^16 to 2^-44, far below float32's steps.
    for _ in range(60):
        middle = (low + high) / 2
        below = cumulative(wide, middle, np) < targets
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return ((low + high) / 2).T.astype(np.float32)


def pmfs(params: Mapping, *, compat: bool = False, width: Any = 1.0):
    """Probabilities a channel of whole bins, for tables: (rows, offsets, tail masses).

    Row c holds the mass at median + (offset + k) width. width: of a bin, one number or
    float64[C]. `compat` takes every channel's tail from the last sample of the longest
    row (the published quirk) instead of its own.
    """
    wide = {k: np.asarray(v, np.float64) for k, v in params.items()}
    low, medians, high = np.asarray(params["quantiles"], np.float64).T
    # Whole bins from the median: that is what rounding leaves.
    below = np.maximum(np.ceil((medians - low) / width), 0).astype(int)
    above = np.maximum(np.ceil((high - medians) / width), 0).astype(int)
    # All rows as long as the longest, so that one call serves every channel.
    steps = np.arange((below + above).max() + 1)
    values = medians - below * width + steps[:, None] * width
    mass = likelihood(wide, values, np, compat=compat, width=width)
    first = _sigmoid(cumulative(wide, values[0] - 0.5 * width, np), np)
    last = values[-1] if compat else medians + above * width
    tails = first + _sigmoid(-cumulative(wide, last + 0.5 * width, np), np)
    lengths = below + above + 1
    # A difference of sigmoids may round below zero.
    rows = [np.maximum(mass[:n, c], 0.0) for c, n in enumerate(lengths)]
    return rows, -below, np.asarray(tails)
