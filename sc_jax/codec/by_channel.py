"""Symbols of a latent as one stream, channel by channel, a table row each."""

from __future__ import annotations

import math

import numpy as np

from sc_jax.codec import rans
from sc_jax.codec.tables import Tables


def checked(symbols: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """int32 `symbols` of one example's latent; ValueError for another shape."""
    if symbols.shape != shape or symbols.dtype != np.int32:
        raise ValueError(f"symbols are {symbols.dtype}{symbols.shape}")
    return symbols


def encode(symbols: np.ndarray, tables: Tables) -> bytes:
    """int32[..., C] under tables of C rows: a symbol's place says its row."""
    flat = np.moveaxis(symbols, -1, 0).reshape(-1)
    return rans.encode(np.ascontiguousarray(flat), tables)


def decode(data: bytes, shape: tuple[int, ...], tables: Tables) -> np.ndarray:
    """The int32[shape] that `encode` was given; CorruptStream."""
    flat = rans.decode(data, math.prod(shape), tables)
    return flat.reshape(shape[-1], -1).T.reshape(shape)
