"""The k values of largest magnitude, with their positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import codec, rans, tables
from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.codec import Outputs
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import TOTAL, Tables


@dataclass(frozen=True)
class TopKCodec:
    """k quantised values of an example and where they stand; every other one is 0.

    z finite float32[shape]; of equal magnitudes the first ones are kept. Values as
    AffineCodec of `bits` writes them, positions as a mask of k ones under a table that
    k and the size alone give: every example has the same estimate of its bits.
    """

    kind: ClassVar[str] = "top_k"
    id: ClassVar[int] = 5
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = ()

    shape: tuple[int, ...]
    k: int
    bits: int = 8

    def __post_init__(self):
        if not 1 <= self.k <= math.prod(self.shape):
            raise ValueError(f"top-k codec of {self.k} values in a latent {self.shape}")
        AffineCodec((self.k,), self.bits)

    @property
    def _values(self) -> AffineCodec:
        return AffineCodec((self.k,), self.bits)

    @property
    def _tables(self) -> Tables:
        """One row of counts for 0, 1 and the escape, which never comes."""
        # Both symbols keep a count, also where nearly all or none are kept.
        ones = max(1, min(self.k * (TOTAL - 1) // math.prod(self.shape), TOTAL - 2))
        cdf = np.array([[0, TOTAL - 1 - ones, TOTAL - 1, TOTAL]], np.uint32)
        return Tables(cdf, np.array([3], np.int32), np.zeros(1, np.int32))

    def estimate_bits(self) -> float:
        """Of any example: scale and zero, k values, the mask's ideal code length."""
        mask = np.arange(math.prod(self.shape)) < self.k
        return 64 + self.k * self.bits + tables.bits(self._tables, mask.astype("i4"))

    def encode(self, z: np.ndarray) -> bytes:
        flat = codec.checked(z, self.shape, finite=True).reshape(-1)
        mask = np.zeros(flat.size, np.int32)
        # Stable: of equal magnitudes the first, as jax.lax.top_k keeps them.
        mask[np.argsort(-np.abs(flat), kind="stable")[: self.k]] = 1
        values = self._values.encode(flat[mask == 1])
        return values + rans.encode(mask, self._tables)

    def decode(self, data: bytes) -> np.ndarray:
        first = 8 + (self.k * self.bits + 7) // 8
        values = self._values.decode(data[:first])
        mask = rans.decode(data[first:], math.prod(self.shape), self._tables)
        # The escape slot exists in every table, and no encoder uses it here.
        if not np.isin(mask, (0, 1)).all() or mask.sum() != self.k:
            raise CorruptStream(f"corrupt stream: not {self.k} positions")
        z = np.zeros(mask.size, np.float32)
        z[mask == 1] = values
        return z.reshape(self.shape)

    def outputs(self, z, xp):
        # Runtimes of heads lack a sort: the device chooses, from the whole latent.
        return {"latent": z}

    def pack(self, latent: np.ndarray) -> bytes:
        return self.encode(latent)

    def difference(self, z: np.ndarray, outputs: Outputs):
        return codec.real_difference(outputs["latent"], z)

    def refit(self, outputs: Iterable[Outputs]) -> TopKCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        own = {"k": np.array(self.k, np.int32), "bits": np.array(self.bits, np.int32)}
        return codec.header(self) | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TopKCodec:
        return cls(codec.shape_of(arrays), int(arrays["k"]), int(arrays["bits"]))
