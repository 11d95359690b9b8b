"""A Laplace prior: a learned location and scale a channel, in closed form."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.tables import from_pmf
from sc_jax.compressors.compressor import Compressor
from sc_jax.compressors.factorized_prior import LIKELIHOOD_BOUND, TAIL_MASS
from sc_jax.nets.layers.blocks import lower_bound

WIDEST = 2**15  # steps of a table row on either side; farther values escape


def log_mass(v, scale, xp=jnp):
    """Natural log of a Laplace's mass in v +- 0.5; v around its location, scale > 0.

    Outside +-0.5 it is linear in |v|: no underflow, and a gradient for every outlier.
    """
    v = xp.abs(v)
    # Both ends on one side of the location: half the difference of two exponentials.
    beside = (0.5 - v) / scale + xp.log(-0.5 * xp.expm1(-1 / scale))
    # The location between them: what both tails leave. v is cut there, so that the
    # branch that is not taken has a finite gradient too.
    inner = xp.minimum(v, 0.5)
    tails = xp.expm1((inner - 0.5) / scale) + xp.expm1(-(inner + 0.5) / scale)
    return xp.where(v < 0.5, xp.log(-0.5 * tails), beside)


class LaplacePrior(Compressor):
    """Rounds a latent and codes it under a Laplace density; 2 parameters a channel.

    z f32[B, ..., C] -> (z_hat, bits f32[B]). Uniform noise and rounding about the
    location as in FactorizedPrior (Ballé et al. 2018, https://arxiv.org/abs/1802.01436)
    with the density that learned codecs compare against (Ladune et al. 2020,
    https://arxiv.org/abs/2002.09259), here a constant a channel, not predicted.
    """

    @nn.compact
    def __call__(self, z, *, train):
        zeros = nn.initializers.zeros
        lead = (1,) * (z.ndim - 1) + (-1,)
        location = self.param("location", zeros, z.shape[-1:]).reshape(lead)
        # In logs: positive without a bound, and a step changes it by a share.
        scale = jnp.exp(self.param("log_scale", zeros, z.shape[-1:]).reshape(lead))
        if train:
            noise = jax.random.uniform(
                self.make_rng("noise"), z.shape, minval=-0.5, maxval=0.5
            )
            z_hat = z + noise
        else:
            z_hat = jnp.round(z - location) + location
        log2 = log_mass(z_hat - location, scale) / math.log(2)
        # As in FactorizedPrior, so that outliers cost alike under both.
        bits = -lower_bound(log2, math.log2(LIKELIHOOD_BOUND))
        return z_hat, bits.reshape(z.shape[0], -1).sum(1)

    def codec(self, params, shape) -> FactorizedCodec:
        location = np.asarray(params["location"], np.float32)
        scales = np.exp(np.asarray(params["log_scale"], np.float64))
        # Where the tails hold TAIL_MASS together; what is beyond escapes.
        reach = np.ceil(scales * math.log(1 / TAIL_MASS)).clip(1, WIDEST).astype(int)
        rows = [
            np.exp(log_mass(np.arange(-n, n + 1.0), scale, np))
            for n, scale in zip(reach, scales)
        ]
        tails = np.exp(-(reach + 0.5) / scales)
        return FactorizedCodec(shape, from_pmf(rows, -reach, tails), location)
