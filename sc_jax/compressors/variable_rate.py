"""One factorized prior for several rates: the width of the quantiser's bins sets them.

Choi, El-Khamy, Lee, ICCV 2019, https://arxiv.org/abs/1909.04802 (one density, bin
widths drawn in training); a gain a level and channel as in Cui et al., CVPR 2021,
https://arxiv.org/abs/2003.02012.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec import tables
from sc_jax.codec.variable_rate import MOST_LEVELS, VariableRateCodec, bins_of
from sc_jax.compressors import quick_cumulative
from sc_jax.compressors.compressor import Compressor
from sc_jax.compressors.factorized_prior import (
    LIKELIHOOD_BOUND,
    FactorizedPrior,
    likelihood,
    parameters,
    pmfs,
    solve_quantiles,
)
from sc_jax.errors import UsageError
from sc_jax.nets.layers.blocks import lower_bound

SPAN = 8.0  # widest bin over narrowest: weights of the rate then span 64, as BETAS do


def steps_of(levels: int, span: float = SPAN) -> tuple[float, ...]:
    """`levels` bin widths in equal ratios around 1, the widest first.

    Around 1, so that a rate's weight is at the middle of the curve what it is for a
    FactorizedPrior.
    """
    return tuple(float(w) for w in np.geomspace(span**0.5, span**-0.5, levels))


class VariableRatePrior(Compressor):
    """FactorizedPrior's density under bins of several widths: levels of the rate.

    z f32[B, ..., C] -> (z_hat, bits f32[B]), without the level's byte; with a "noise"
    rng, so in every training step, also (..., {"rate_weight": f32[B]}).
    steps: bin widths by level, falling, so that level 0 has the fewest bytes. A level's
    width in a channel is its step over a learned gain, 1 at first. Training draws one
    level an example: uniform noise as wide as a bin stands in for rounding, and bits
    are the density's mass in a bin; where the prior is frozen it rounds at a drawn
    level. Otherwise z_hat = (round((z - median) / width) + median / width) width at
    `level`, an index (-1: the last, the most bytes). With steps=(1.0,) and gains of 1
    it is the FactorizedPrior.

    rate_weight is step^exponent, what the Rate loss multiplies bits by. A fine uniform
    quantiser has distortion ~ width^2 at a rate of h - log2(width), so -dD/dR ~
    width^2: with exponent 2 each level trains at the trade-off that its bins are
    optimal for. Where most symbols are 0 this is an approximation; 0 weighs all alike.
    The widest bins then have nearly all of a loss: training draws a level with a chance
    in proportion to step^-draw.
    """

    steps: tuple[float, ...] = steps_of(4)
    level: int = -1
    exponent: float = 2.0
    draw: float = 0.0

    @property
    def levels(self) -> int:
        return len(self.steps)

    def at_level(self, level: int) -> VariableRatePrior:
        """Evaluates at another level."""
        return self.clone(level=level)

    @nn.compact
    def __call__(self, z, *, train):
        steps, channels = self._checked(), z.shape[-1]
        params = parameters(self, channels)
        shape = (self.levels, channels)
        log_gain = self.param("log_gain", nn.initializers.zeros, shape)
        first = bins_of(np.broadcast_to(steps[:, None], shape), np.zeros(channels))
        # Solved by `settle`, like quantiles: evaluation reads numbers, no exp.
        bins = self.param("bins", lambda key: jnp.asarray(first))
        bins = jax.lax.stop_gradient(bins)
        # First: of one level, training's noise is then the FactorizedPrior's.
        noise = self._noise(z.shape) if train else None
        # In a training step, whether this part is trained or frozen.
        drawn = self.has_rng("noise")
        level = jnp.array([self.level % self.levels])
        if drawn:
            level = self._drawn(steps, z.shape[:1])
        lead = (len(level), *(1,) * (z.ndim - 2), channels)
        if noise is not None:
            width = jnp.asarray(steps)[level, None] * jnp.exp(-log_gain[level])
            width = width.reshape(lead)
            z_hat = z + noise * width
        else:
            inverse, width, centre = (bins[level, i].reshape(lead) for i in range(3))
            medians = params["quantiles"][:, 1].reshape((1,) * (z.ndim - 1) + (-1,))
            # Sums, then products, as the codec: nothing to fuse into other last bits.
            z_hat = (jnp.round((z - medians) * inverse) + centre) * width
        quick = train and quick_cumulative.is_worth_it(z_hat)
        mass = likelihood(params, z_hat, width=width, quick=quick)
        mass = lower_bound(mass, LIKELIHOOD_BOUND)
        bits = -jnp.log2(mass).reshape(z.shape[0], -1).sum(1)
        if not drawn:
            return z_hat, bits
        return z_hat, bits, {"rate_weight": jnp.asarray(steps**self.exponent)[level]}

    def _drawn(self, steps: np.ndarray, shape: tuple[int, ...]):
        """int32[shape]: a level an example."""
        key = self.make_rng("noise")
        if self.draw == 0.0:
            return jax.random.randint(key, shape, 0, self.levels)
        return jax.random.categorical(key, -self.draw * jnp.log(steps), shape=shape)

    def _noise(self, shape):
        return jax.random.uniform(
            self.make_rng("noise"), shape, minval=-0.5, maxval=0.5
        )

    def _checked(self) -> np.ndarray:
        """steps f32[L]; UsageError for steps or a level that cannot be."""
        steps = np.array(self.steps, np.float32)
        falls = steps.ndim == 1 and (np.diff(steps) < 0).all()
        if not falls or not 1 <= steps.size <= MOST_LEVELS or not steps[-1] > 0:
            raise UsageError(
                f"steps of a variable-rate prior are 1 to {MOST_LEVELS} bin widths "
                f"above 0, each below the one before, not {self.steps}; "
                "steps_of(levels) gives some"
            )
        if not -steps.size <= self.level < steps.size:
            raise UsageError(
                f"level is 0 (the fewest bytes) to {steps.size - 1}, not {self.level}"
            )
        return steps

    def settle(self, params):
        """With quantiles solved from the density, and bins from them and the gains."""
        solved = solve_quantiles(jax.device_get(dict(params)))
        gain = np.exp(np.asarray(params["log_gain"], np.float32))
        bins = bins_of(self._checked()[:, None] / gain, solved[:, 1])
        return {**params, "quantiles": jnp.asarray(solved), "bins": jnp.asarray(bins)}

    def codec(self, params, shape) -> VariableRateCodec:
        self._checked()
        # On the host in float64: tables are built once and shipped, never rebuilt.
        params = jax.device_get(dict(params))
        bins = np.asarray(params["bins"], np.float32)
        found = [
            tables.from_pmf(*pmfs(params, width=width.astype(np.float64)))
            for width in bins[:, 1]
        ]
        medians = np.asarray(params["quantiles"][:, 1], np.float32)
        level = self.level % self.levels
        return VariableRateCodec(shape, tuple(found), medians, bins, level)


def prior_of(levels: int) -> Compressor:
    """The FactorizedPrior, or of more levels than one a VariableRatePrior."""
    return FactorizedPrior() if levels == 1 else VariableRatePrior(steps_of(levels))
