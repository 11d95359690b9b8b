"""Quantised channels side by side in one grey image file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import affine, codec
from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.codec import Outputs
from sc_jax.codec.image import ImageCodec
from sc_jax.codec.reference import CorruptStream


@dataclass(frozen=True)
class TiledCodec:
    """Scale, zero point, and a grey image file of a mosaic of the channels.

    z finite float32[H, W, C]; of other ranks [N] one row of pixels, [T, D] one tile.
    Quantised to 1 to 8 bits as `affine.quantise` does. The mosaic is 2^ceil(n/2) tiles
    wide, n = ceil(log2 C), channel 0 first and row by row; what is left of its last row
    is 0. format, quality: of ImageCodec; a lossy one takes 8 bits.
    """

    kind: ClassVar[str] = "tiled"
    id: ClassVar[int] = 8
    latent_dtype: ClassVar[type[np.generic]] = np.float32
    exports: ClassVar[bool] = True
    in_float: ClassVar[tuple[str, ...]] = AffineCodec.in_float

    shape: tuple[int, ...]
    bits: int = 8
    format: str = "PNG"
    quality: int | None = None

    def __post_init__(self):
        if not 1 <= self.bits <= 8:
            raise ValueError(f"tiled codec of {self.bits} bits, not 1 to 8")
        if not 1 <= len(self.shape) <= 3 or 0 in self.shape:
            raise ValueError(f"tiled codec of a latent {self.shape}, not [H, W, C]")
        if self.quality is not None and self.bits != 8:
            # Pixels are the integers themselves: of fewer bits all were nearly black.
            raise ValueError(f"a lossy {self.format} takes 8 bits, not {self.bits}")
        _ = self._image

    @property
    def _sides(self) -> tuple[int, int, int]:
        """(H, W, C) of a tile and how many."""
        if len(self.shape) == 3:
            return self.shape  # type: ignore[return-value]
        return (*((1,) * (2 - len(self.shape))), *self.shape, 1)  # type: ignore

    @property
    def _grid(self) -> tuple[int, int]:
        """(rows, columns) of tiles: as many columns as rows or twice as many."""
        channels = self._sides[2]
        columns = 2 ** math.ceil(math.ceil(math.log2(channels)) / 2)
        return -(-channels // columns), columns

    @property
    def _image(self) -> ImageCodec:
        (height, width, _), (rows, columns) = self._sides, self._grid
        shape = (rows * height, columns * width, 1)
        return ImageCodec(self.format, self.quality, shape)

    def mosaic(self, symbols: np.ndarray) -> np.ndarray:
        """uint8[rows H, columns W, 1] of integers [shape]."""
        (height, width, channels), (rows, columns) = self._sides, self._grid
        tiles = np.zeros((rows * columns, height, width), np.uint8)
        tiles[:channels] = np.moveaxis(symbols.reshape(self._sides), 2, 0)
        tiles = tiles.reshape(rows, columns, height, width).swapaxes(1, 2)
        return tiles.reshape(rows * height, columns * width, 1)

    def symbols(self, mosaic: np.ndarray) -> np.ndarray:
        """int32[shape] of a mosaic's pixels: the inverse of `mosaic`."""
        (height, width, channels), (rows, columns) = self._sides, self._grid
        tiles = mosaic.reshape(rows, height, columns, width).swapaxes(1, 2)
        tiles = tiles.reshape(rows * columns, height, width)[:channels]
        # C order: a compiled tail takes the array as it is.
        found = np.moveaxis(tiles, 0, 2).astype(np.int32, order="C")
        return found.reshape(self.shape)

    @property
    def _affine(self) -> AffineCodec:
        return AffineCodec(self.shape, self.bits)

    def encode(self, z: np.ndarray) -> bytes:
        return self.pack(*self._affine.quantise(z))

    def decode(self, data: bytes) -> np.ndarray:
        if len(data) <= 8:
            raise CorruptStream(f"corrupt stream: {len(data)} bytes")
        zero, scale = affine.range_of(data)
        symbols = self.symbols(self._image.decode(data[8:]))
        if symbols.max() >> self.bits:
            raise CorruptStream(f"corrupt stream: a pixel above {self.bits} bits")
        return affine.values(symbols, zero, scale)

    def outputs(self, z, xp):
        return self._affine.outputs(z, xp)

    def pack(self, symbols: np.ndarray, zero, scale) -> bytes:
        """The bytes of symbols int32[shape] with their zero point and scale."""
        file = self._image.encode(self.mosaic(symbols))
        return affine.header(zero, scale) + file

    def difference(self, z: np.ndarray, outputs: Outputs):
        return self._affine.difference(z, outputs)

    def refit(self, outputs: Iterable[Outputs]) -> TiledCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        quality = -1 if self.quality is None else self.quality
        return codec.header(self) | {
            "bits": np.array(self.bits, np.int32),
            "format": codec.ascii_of(self.format),
            "quality": np.array(quality, np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TiledCodec:
        quality = int(arrays["quality"])
        return cls(
            codec.shape_of(arrays),
            int(arrays["bits"]),
            codec.text_of(arrays["format"]),
            None if quality < 0 else quality,
        )
