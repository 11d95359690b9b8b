"""What every compressor is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn


class Compressor(nn.Module):
    """What sits at a split: `__call__(z, *, train) -> (z_hat, bits f32[B])`.

    z, z_hat: latents [B, ...] of one shape and type. bits: what an example's bytes are
    estimated at, >= 0. With train=False z_hat is what the codec decodes, bit for bit.
    One of several rates has `levels`, their count, and `at_level(n)`, itself with
    evaluation and codec at level n, 0 the fewest bytes; where there is a "noise" rng it
    draws one an example and also gives {"rate_weight": f32[B]} (VariableRatePrior).
    A subclass also has `codec(params, shape) -> Codec`, for one example's latent
    shape; it is left out here, so that a module without one is found by its absence.
    """

    # Whether `calibrated` reads latents: it is called where it does.
    needs_latents = False

    def calibrated(self, params: Mapping[str, Any], latents: Any) -> Mapping[str, Any]:
        """The parameters solved from latents f32[N, C], once the net is trained."""
        del latents
        return params

    def settle(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters as evaluation and the codec read them, after each phase."""
        return params
