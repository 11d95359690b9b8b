"""Integers to bytes: tables, the rANS coder, and codecs of one example. NumPy only."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.codec.codecs import KINDS as KINDS
    from sc_jax.codec.codecs import AffineCodec as AffineCodec
    from sc_jax.codec.codecs import Codec as Codec
    from sc_jax.codec.codecs import FactorizedCodec as FactorizedCodec
    from sc_jax.codec.codecs import ImageCodec as ImageCodec
    from sc_jax.codec.codecs import InContextCodec as InContextCodec
    from sc_jax.codec.codecs import RawCodec as RawCodec
    from sc_jax.codec.codecs import VariableRateCodec as VariableRateCodec
    from sc_jax.codec.codecs import from_arrays as from_arrays
    from sc_jax.codec.reference import CorruptStream as CorruptStream
    from sc_jax.codec.tables import Tables as Tables

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "codecs": [
            "KINDS",
            "AffineCodec",
            "Codec",
            "FactorizedCodec",
            "ImageCodec",
            "InContextCodec",
            "RawCodec",
            "VariableRateCodec",
            "from_arrays",
        ],
        "reference": [
            "CorruptStream",
        ],
        "tables": [
            "Tables",
        ],
    },
)
