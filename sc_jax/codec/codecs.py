"""The codecs: one example's latent <-> bytes. docs/bitstream.md has the layouts.

A codec of one's own is a class that promises `Codec`, with an id of 128 to 255. Every
program that reads its bytes or tables enters it: `codecs.KINDS["mine"] = MineCodec`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.codec.codec import Codec, text_of
from sc_jax.codec.csr import CSRCodec
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.image import ImageCodec
from sc_jax.codec.in_context import InContextCodec
from sc_jax.codec.raw import RawCodec
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.slicer import SlicerCodec
from sc_jax.codec.tiled import TiledCodec
from sc_jax.codec.top_k import TopKCodec
from sc_jax.codec.variable_rate import VariableRateCodec
from sc_jax.errors import UsageError

__all__ = [
    "KINDS",
    "AffineCodec",
    "CSRCodec",
    "ClippedCodec",
    "Codec",
    "CorruptStream",
    "FactorizedCodec",
    "ImageCodec",
    "InContextCodec",
    "RawCodec",
    "SlicerCodec",
    "TiledCodec",
    "TopKCodec",
    "VariableRateCodec",
    "at_level",
    "from_arrays",
]

KINDS: dict[str, type[Codec]] = {
    "raw": RawCodec,
    "affine": AffineCodec,
    "image": ImageCodec,
    "factorized": FactorizedCodec,
    "top_k": TopKCodec,
    "variable_rate": VariableRateCodec,
    "in_context": InContextCodec,
    "tiled": TiledCodec,
    "clipped": ClippedCodec,
    "slicer": SlicerCodec,
    "csr": CSRCodec,
}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Codec:
    """The codec of `to_arrays`; ValueError for an unknown kind."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    kind = text_of(arrays["kind"])
    if kind not in KINDS:
        raise ValueError(f"unknown codec kind {kind!r}; known: {', '.join(KINDS)}")
    return KINDS[kind].from_arrays(arrays)


def levels_of(codec: Codec | None) -> int:
    """How many rates one codec encodes at; 1 where it says nothing of it."""
    return getattr(codec, "levels", 1)


def at_level(codec: Any, level: int) -> Any:
    """The codec encoding at another of its rates, 0 the fewest bytes; UsageError."""
    if not 0 <= level < (count := levels_of(codec)):
        raise UsageError(
            f"level {level} is not one of the {count} rates that there are (0 is the "
            "fewest bytes); entropic_student:rates=4 trains four"
        )
    return codec.at_level(level) if count > 1 else codec
