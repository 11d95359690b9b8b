"""From a trained compressor to the integer tables that device and server share."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from sc_jax.codec import codecs, tables
from sc_jax.compressors import prior
from sc_jax.compressors.simple import Affine, Image, Raw
from sc_jax.nets.net import Net, head
from sc_jax.nets.run import Variables, run


def settle(net: Net, variables: Variables) -> Variables:
    """The same variables with every prior's quantiles solved from its own density.

    Runs at the end of each phase: training's noise needs no quantiles, rounding does.
    """
    params = dict(variables.params)
    for split in net.splits:
        if isinstance(split.compressor, prior.FactorizedPrior):
            own = dict(params[split.name])
            solved = prior.solve_quantiles(jax.device_get(own))
            own["quantiles"] = jax.numpy.asarray(solved)
            params[split.name] = own
    return Variables(params, variables.state)


def freeze(compressor, params: Mapping, shape: tuple[int, ...]) -> codecs.Codec:
    """The codec of a compressor for latents of `shape` (one example, no batch axis)."""
    if isinstance(compressor, Raw):
        return codecs.RawCodec(shape, compressor.dtype)
    if isinstance(compressor, Affine):
        return codecs.AffineCodec(shape, compressor.bits)
    if isinstance(compressor, Image):
        return codecs.ImageCodec(compressor.format, compressor.quality, shape)
    if isinstance(compressor, prior.FactorizedPrior):
        params = jax.device_get(dict(params))
        rows, offsets, tails = prior.pmfs(params, compat=compressor.compat)
        build = tables.compat_from_pmf if compressor.compat else tables.from_pmf
        medians = np.asarray(params["quantiles"][:, 1], np.float32)
        return codecs.FactorizedCodec(shape, build(rows, offsets, tails), medians)
    raise TypeError(f"no codec for {type(compressor).__name__}")


def freeze_all(net: Net, variables: Variables, example) -> dict[str, codecs.Codec]:
    """Split name -> codec, for inputs like `example` [1, ...]."""

    def latents(x):
        shapes = {}
        for split in net.splits:
            before = head(net, split.after)
            if not before.stages:
                shapes[split.name] = x
                continue
            out, _ = run(before, variables, x)
            shapes[split.name] = out.features[split.after]
        return shapes

    made = {}
    for name, latent in jax.eval_shape(latents, example).items():
        split = next(s for s in net.splits if s.name == name)
        shape = tuple(latent.shape[1:])
        made[name] = freeze(split.compressor, variables.params[name], shape)
    return made
