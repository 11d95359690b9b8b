"""What a net's splits send: each compressor settled, tried, and as its codec."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from sc_jax.codec.codecs import KINDS, Codec, from_arrays
from sc_jax.compressors import contexts
from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, INPUT, Net, SplitPoint, head
from sc_jax.nets.run import Variables, init, run, variable_shapes


def settle(net: Net, variables: Variables) -> Variables:
    """The same variables with every compressor's parameters settled.

    Runs at the end of each phase: what only evaluation and codecs read (quantiles of a
    prior) need not follow every step.
    """
    params = dict(variables.params)
    for split in net.splits:
        compressor: Any = split.compressor
        params[split.name] = compressor.settle(params[split.name])
    return Variables(params, variables.state)


POSITIONS = 1 << 24  # numbers that a compressor is solved from
EXAMPLES = 500


def needs_latents(net: Net) -> bool:
    """Whether a compressor of `net` is solved from what its head gives."""
    return any(getattr(s.compressor, "needs_latents", False) for s in net.splits)


def calibrated(net: Net, variables: Variables, inputs: contexts.Batches) -> Variables:
    """The same variables with such compressors solved from latents of `inputs`.

    inputs(): batches of one size, and how many rows of each are examples; of each
    example the same places, drawn once, and of the first split first.
    """
    params = dict(variables.params)
    for split in net.splits:
        compressor: Any = split.compressor
        if not getattr(compressor, "needs_latents", False):
            continue
        read = jax.jit(partial(_latent, head(net, split.after), split.after))
        own, found, seen = Variables(params, variables.state), [], 0
        for images, count in inputs():
            found.append(sampled(np.asarray(read(own, images))[:count]))
            if (seen := seen + count) >= EXAMPLES:
                break
        latents = np.concatenate(found)
        params[split.name] = compressor.calibrated(params[split.name], latents)
    return Variables(params, variables.state)


def sampled(z: np.ndarray) -> np.ndarray:
    """f32[N, C] of latents [B, ..., C]: as many places as POSITIONS allows."""
    flat = z.reshape(len(z), -1, z.shape[-1]).astype(np.float32)
    count = max(1, POSITIONS // EXAMPLES // z.shape[-1])
    # Drawn, not strided: a stride would take whole columns and leave others.
    places = np.random.default_rng(0).permutation(flat.shape[1])[:count]
    return flat[:, np.sort(places)].reshape(-1, z.shape[-1])


def _latent(device: Net, after: str, variables: Variables, images: Any) -> Any:
    if not device.stages:  # at the input
        return images
    return run(device, variables, images)[0].features[after]


def codecs_of(net: Net, variables: Variables, example: Any) -> dict[str, Codec]:
    """Split name -> codec, for inputs like `example` [1, ...]."""
    found = {}
    for split, latent in _latents(net, variables, example):
        compressor: Any = split.compressor
        shape = tuple(latent.shape[1:])
        found[split.name] = compressor.codec(variables.params[split.name], shape)
    return found


def levels_of(net: Net) -> int:
    """How many rates one trained net sends at: 1, or those of its compressors."""
    return max((getattr(s.compressor, "levels", 1) for s in net.splits), default=1)


def at_level(net: Net, level: int) -> Net:
    """`net` with compressors of several rates evaluated at one, 0 the fewest bytes.

    Its parameters and those of `net` are the same.
    """
    splits: list[SplitPoint] = []
    for split in net.splits:
        compressor: Any = split.compressor
        if getattr(compressor, "levels", 1) > 1:
            split = replace(split, compressor=compressor.at_level(level))
        splits.append(split)
    return replace(net, splits=tuple(splits))


def check(net: Net, example: Any, context: int = 0) -> None:
    """UsageError, one line, unless every compressor of `net` can end a run.

    Each is tried alone, untrained, on an example of its latent's shape: settled, made a
    codec that is saved and read again, and a latent coded and decoded.
    context: of the recipe; above 0 every codec must have symbols for it.
    """
    found = {}
    for split, latent in _latents(net, variable_shapes(net, example), example):
        shape = tuple(latent.shape[1:])
        found[split.name] = _checked(split.compressor, shape, latent.dtype.name)
    if context:
        contexts.check(found, context)


def _latents(net: Net, variables: Variables, example: Any) -> list[tuple]:
    """(split, shape and type of its latent [1, ...]); nothing is computed."""

    def latents(variables, x):
        found = {}
        for split in net.splits:
            before = head(net, split.after)
            # Of a split at the input no stage stands before it: the latent is the
            # image.
            out = run(before, variables, x)[0].features if before.stages else {}
            found[split.name] = out[split.after] if out else x
        return found

    found = jax.eval_shape(latents, variables, example)
    for split in net.splits:
        if (count := len(jax.tree.leaves(found[split.name]))) != 1:
            raise UsageError(
                f"stage {split.after!r} gives {count} arrays, a compressor takes one: "
                "split behind another stage"
            )
    return [(split, found[split.name]) for split in net.splits]


def _checked(compressor: Any, shape: tuple[int, ...], dtype: str) -> Codec:
    """A codec of one compressor for one example's latent, tried as `check` says."""
    name = type(compressor).__name__
    for method in ("settle", "codec"):
        if not callable(getattr(compressor, method, None)):
            raise UsageError(
                f"compressor {name} has no method {method}: derive it from sc_jax."
                "compressors.Compressor and give it codec(params, shape) -> Codec"
            )
    # A net of nothing but the split: the same code as in training, in a moment.
    alone = Net((), splits=(SplitPoint(INPUT, compressor),))
    # Two examples: with one, a sum over the batch would pass for one a row.
    z = np.random.default_rng(0).normal(0, 2, (2, *shape)).astype(dtype)
    try:
        variables = settle(alone, init(alone, jax.random.key(0), z))
        variables = calibrated(alone, variables, lambda: iter([(z, len(z))]))
        out = jax.eval_shape(lambda v, z: run(alone, v, z)[0], variables, z)
        codec = codecs_of(alone, variables, z[:1])["split@input"]
        if KINDS.get(codec.kind) is not type(codec):
            raise ValueError(
                f"its codec's kind {codec.kind!r} is not entered in "
                f"sc_jax.codec.codecs.KINDS (known: {', '.join(KINDS)})"
            )
        decoded = from_arrays(codec.to_arrays()).decode(codec.encode(z[0]))
    except Exception as error:  # whatever a compressor of one's own may raise
        line = " ".join(str(error).split())
        raise UsageError(f"compressor {name}, latent {shape}: {line}") from error
    (bits,), z_hat = out.bits.values(), out.predictions[FINAL]
    if bits.shape != (2,) or z_hat.shape != z.shape or decoded.shape != shape:
        raise UsageError(
            f"compressor {name} makes {z_hat.shape} of a latent {z.shape} with bits "
            f"{bits.shape}, not {z.shape} with {z.shape[:1]}"
        )
    return codec
