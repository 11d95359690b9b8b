"""A linear context over integers: symbols choose the tables of those behind them.

As in a joint autoregressive model (Minnen, Ballé, Toderici, NeurIPS 2018,
https://arxiv.org/abs/1809.02736) what was decoded predicts what comes, here by one
linear map, and in integers alone: two machines cannot come to different tables. It is
fitted to a trained network's symbols and changes none of them, only their bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sc_jax.codec import rans
from sc_jax.codec.reference import NEIGHBOURS, REACH
from sc_jax.codec.tables import Tables

PARTS = len(NEIGHBOURS) + 1  # four neighbours' channels, and those before at the place


@dataclass(frozen=True, eq=False)
class Context:
    """Symbols int32[H, W, C], place by place, under one of K tables of their channel.

    A symbol's sum weighs the symbols, clipped to +-127, of all channels left, up,
    up-left and up-right of it (0 beyond the border) and of the channels before its own
    at its place. weights int16[5 C, C], in that order. edges int32[C, K - 1], not
    falling: as many as the sum has reached are its class k, and row c K + k of `tables`
    codes the symbol. ValueError where these do not hold or a sum could leave int32.
    """

    weights: np.ndarray
    edges: np.ndarray
    tables: Tables

    def __post_init__(self):
        for name, dtype in (("weights", np.int16), ("edges", np.int32)):
            array = np.array(getattr(self, name), order="C")
            if array.dtype != dtype or array.ndim != 2:
                raise ValueError(f"context: {name} is {array.dtype}{array.shape}")
            # The compiled coder trusts what was checked.
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        channels = self.channels
        if self.weights.shape != (PARTS * channels, channels):
            raise ValueError(f"context: weights {self.weights.shape}, not [5 C, C]")
        rows = channels * self.classes
        if len(self.edges) != channels or self.tables.rows != rows:
            raise ValueError(
                f"context: edges {self.edges.shape} and {self.tables.rows} table rows "
                f"for {channels} channels"
            )
        if (np.diff(self.edges.astype(np.int64)) < 0).any():
            raise ValueError("context: a channel's edges fall")
        wide = np.abs(self.weights.astype(np.int64))
        if (REACH * wide.sum(0) > np.iinfo(np.int32).max).any():
            raise ValueError("context: a sum of weights may leave int32")
        here = wide[-channels:]
        if np.tril(here).any():
            raise ValueError("context: a channel weighs one that is not before it")

    @property
    def channels(self) -> int:
        return self.weights.shape[1]

    @property
    def classes(self) -> int:
        """K, tables a channel."""
        return self.edges.shape[1] + 1

    def __eq__(self, other):
        if not isinstance(other, Context):
            return NotImplemented
        mine, theirs = self.to_arrays(), other.to_arrays()
        return all(np.array_equal(mine[k], theirs[k]) for k in mine)

    def encode(self, symbols: np.ndarray) -> bytes:
        """The stream of int32[..., C]; ValueError for other symbols."""
        if symbols.dtype != np.int32 or symbols.shape[-1:] != (self.channels,):
            raise ValueError(f"symbols are {symbols.dtype}{symbols.shape}")
        symbols = np.ascontiguousarray(symbols.reshape(as_grid(symbols.shape)))
        rows = rans.context_rows(symbols, self.weights, self.edges)
        return rans.encode(symbols.reshape(-1), self.tables, rows)

    def decode(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
        """int32[shape] of a stream; CorruptStream."""
        grid = as_grid(shape)[:2]
        found = rans.decode_in_context(
            data, grid, self.tables, self.weights, self.edges
        )
        return found.reshape(shape)

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {"weights": self.weights, "edges": self.edges}
        return self.tables.to_arrays() | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Context:
        tables = Tables.from_arrays(arrays)
        return cls(arrays["weights"], arrays["edges"], tables)


def as_grid(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of [..., W, C]: leading axes are rows, a sequence is one row."""
    *rows, width, channels = (1, 1, *shape)[-max(3, len(shape)) :]
    return math.prod(rows), width, channels
