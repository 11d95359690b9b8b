"""A segment's outputs beside JAX's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from sc_jax.codec.codecs import AffineCodec, Codec, FactorizedCodec, RawCodec
from sc_jax.deploy.device.runtime import FEATURE, Runner

CLOSE = 1e-4  # of a half: there float32 of two runtimes may round either way


@dataclass(frozen=True)
class Parity:
    """How a segment's outputs differ from JAX's over some real examples."""

    examples: int
    symbols: int  # numbers compared: symbols, and values of exits and features
    different: int  # other symbols, or values beyond CLOSE of their tensor's size
    ties: int  # of the different, symbols with |frac - 1/2| < CLOSE in JAX
    largest: float  # difference of a symbol, or of a value beyond CLOSE


def compare(
    model: bytes,
    pairs: Iterable[tuple[Mapping, Mapping]],
    codec: Codec | None,
) -> Parity:
    """Runs a segment on inputs by name; each pair tells JAX's outputs beside them.

    With a codec JAX's "feature" is the latent, of which the segment gives symbols.
    """
    runner = Runner(model)
    count, total, different, tied, largest = 0, 0, 0, 0, 0.0
    for inputs, exact in pairs:
        exact = jax.device_get(dict(exact))
        outputs = runner(inputs)
        latents = exact.pop(FEATURE) if codec is not None else ()
        found = [_real(outputs.pop(name), value) for name, value in exact.items()]
        for i, z in enumerate(latents):
            found.append(_distance(codec, z, {k: v[i] for k, v in outputs.items()}))
        for distance, tie in found:
            total += distance.size
            different += int((distance > 0).sum())
            tied += int(((distance > 0) & tie).sum())
            largest = max(largest, float(distance.max(initial=0)))
        count += len(next(iter(inputs.values())))
    return Parity(count, total, different, tied, largest)


def _real(got: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|difference| where it is more than float32's own, and no ties.

    A number near 0 may be a sum of large ones: the tensor's median counts too.
    """
    finite = np.isfinite(exact)
    size = np.median(np.abs(exact[finite])) if finite.any() else 0
    with np.errstate(invalid="ignore"):  # inf - inf
        distance = np.abs(got - exact)
        near = finite & (distance <= CLOSE * np.maximum(max(1, size), np.abs(exact)))
    near |= got == exact
    distance = np.where(near, 0, np.nan_to_num(distance, nan=np.inf))
    return distance, np.zeros(exact.shape, bool)


def _distance(
    codec: Codec, z: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(|difference| of each number, whether JAX's own was near a rounding tie)."""
    if isinstance(codec, RawCodec):
        (got,) = outputs.values()
        return _real(got, z)
    assert isinstance(codec, FactorizedCodec | AffineCodec)
    if isinstance(codec, FactorizedCodec):
        exact, ours = z - codec.medians, np.moveaxis(codec.symbols(z), 0, -1)
    else:
        ours, zero, scale = codec.quantise(z)
        exact = z / scale
        told = (outputs["zero"].item(), zero), (outputs["scale"].item() / scale, 1.0)
        beside = np.array([_real(*map(np.float64, pair))[0].item() for pair in told])
    distance = np.abs(outputs["symbols"].astype(np.int64) - ours)
    tie = (np.abs(exact - np.floor(exact) - 0.5) < CLOSE) & (distance == 1)
    if isinstance(codec, AffineCodec):
        distance = np.append(distance, beside)
        tie = np.append(tie, np.zeros(beside.size, bool))
    return distance, tie
