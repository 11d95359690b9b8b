"""Activations clipped to a solved range and coded as one of a few points."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec import clipped_fit
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.codec.tables import from_pmf
from sc_jax.compressors.compressor import Compressor
from sc_jax.errors import UsageError

RAREST = 2.0**-15  # mass of a point that was never seen: it keeps a count of its own


class Clipped(Compressor):
    """A clipped scalar quantiser of 2 to 32 points, solved from recorded activations.

    Cohen, Choi and Bajić 2020 (https://arxiv.org/abs/2105.06002). points: of the whole
    tensor; bit_weight: 0 sets them at equal steps, above 0 under an entropy constraint
    (`codec.clipped_fit`). The paper binarises symbols for an adaptive binary arithmetic
    coder; here each channel has a table of counts that ships with the model, since both
    ends of this library share integer tables and one coder. Without training: a split
    is `calibrated` once; before that its points lie at equal steps over +-1. In
    training z passes unchanged.
    """

    points: int = 4
    bit_weight: float = 0.0

    @nn.compact
    def __call__(self, z, *, train):
        self._check()
        steps = jnp.linspace(-1.0, 1.0, self.points)
        masses = jnp.full((z.shape[-1], self.points), 1 / self.points)
        first = {
            "thresholds": (steps[1:] + steps[:-1]) / 2,
            "points": steps,
            "masses": masses,
        }
        params = {name: self.param(name, lambda _, v=v: v) for name, v in first.items()}
        # Solved from activations, not learned.
        params = jax.tree.map(jax.lax.stop_gradient, params)
        thresholds = params["thresholds"]
        symbols = sum((z >= t).astype(jnp.int32) for t in thresholds)
        channels = jnp.arange(z.shape[-1])
        bits = -jnp.log2(params["masses"])[channels, symbols]
        z_hat = z if train else params["points"][symbols]
        return z_hat, bits.reshape(z.shape[0], -1).sum(1)

    def _check(self):
        if not 2 <= self.points <= 32 or self.bit_weight < 0:
            raise UsageError(
                "a clipped quantiser has points=2 to 32 and bit_weight=0 or more, not "
                f"{self.points} and {self.bit_weight}"
            )

    needs_latents = True

    def calibrated(self, params, latents):
        """Points, and how often each channel takes them, of latents f32[N, C]."""
        self._check()
        thresholds, points = clipped_fit.fit(latents, self.points, self.bit_weight)
        symbols = np.searchsorted(thresholds, latents, side="right")
        seen = np.stack([(symbols == k).sum(0) for k in range(self.points)], 1)
        masses = np.maximum((seen + 0.5) / (len(latents) + 0.5 * self.points), RAREST)
        masses = (masses / masses.sum(1, keepdims=True)).astype(np.float32)
        return {"thresholds": thresholds, "points": points, "masses": masses}

    def codec(self, params, shape) -> ClippedCodec:
        params = jax.device_get(dict(params))
        tables = from_pmf(np.asarray(params["masses"], np.float64), 0)
        return ClippedCodec(shape, tables, params["thresholds"], params["points"])
