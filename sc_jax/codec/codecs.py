"""The codecs: one example's latent <-> bytes. docs/bitstream.md has the layouts.

A codec of one's own is a class that promises `Codec`, with an id of 128 to 255. Every
program that reads its bytes or tables enters it: `codecs.KINDS["mine"] = MineCodec`.
"""

from collections.abc import Mapping

import numpy as np

from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.codec import Codec, text_of
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.image import ImageCodec
from sc_jax.codec.raw import RawCodec
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.top_k import TopKCodec

__all__ = [
    "KINDS",
    "AffineCodec",
    "Codec",
    "CorruptStream",
    "FactorizedCodec",
    "ImageCodec",
    "RawCodec",
    "TopKCodec",
    "from_arrays",
]

KINDS: dict[str, type[Codec]] = {
    "raw": RawCodec,
    "affine": AffineCodec,
    "image": ImageCodec,
    "factorized": FactorizedCodec,
    "top_k": TopKCodec,
}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Codec:
    """The codec of `to_arrays`; ValueError for an unknown kind."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    kind = text_of(arrays["kind"])
    if kind not in KINDS:
        raise ValueError(f"unknown codec kind {kind!r}; known: {', '.join(KINDS)}")
    return KINDS[kind].from_arrays(arrays)
