"""Integers to bytes: tables, the rANS coder, and codecs of one example. NumPy only."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "codecs": [
            "KINDS",
            "AffineCodec",
            "Codec",
            "FactorizedCodec",
            "ImageCodec",
            "RawCodec",
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
