"""Codecs without a model: the values as they are, quantised, or as an image file."""

import io
import math
from dataclasses import dataclass

import numpy as np

from sc_jax.codec.rans import CorruptStream

INT32_EDGE = np.float32(2147483520)  # the largest float32 below 2^31
TINY = np.finfo(np.float32).tiny


def checked(z: np.ndarray, shape: tuple[int, ...], *, finite: bool) -> np.ndarray:
    """z as float32 of this shape; ValueError otherwise."""
    z = np.asarray(z)
    if z.shape != shape or z.dtype != np.float32:
        raise ValueError(f"latent is {z.dtype}{z.shape}, not float32{shape}")
    if finite and not np.isfinite(z).all():
        raise ValueError("latent has values that are not finite")
    return z


def _expect(data: bytes, size: int) -> None:
    if len(data) != size:
        raise CorruptStream(f"corrupt stream: {len(data)} bytes, not {size}")


@dataclass(frozen=True)
class RawCodec:
    """The values themselves, little-endian; float16 rounds, and overflows to infinity.

    z and the decoded value float32[shape]. dtype: 'float32' or 'float16'.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"raw codec of {self.dtype!r}, not float32 or float16")

    def _wire(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")

    def encode(self, z: np.ndarray) -> bytes:
        with np.errstate(over="ignore"):
            return checked(z, self.shape, finite=False).astype(self._wire()).tobytes()

    def pack(self, latent: np.ndarray) -> bytes:
        return self.encode(latent)

    def decode(self, data: bytes) -> np.ndarray:
        _expect(data, math.prod(self.shape) * self._wire().itemsize)
        return np.frombuffer(data, self._wire()).astype(np.float32).reshape(self.shape)


@dataclass(frozen=True)
class AffineCodec:
    """Uniform quantiser over an example's own range; bits a value, 1 to 16.

    z finite float32[shape]; decoded (q + zero) * scale: the product comes last, so no
    fused multiply-add can make two machines differ.
    """

    shape: tuple[int, ...]
    bits: int = 8

    def __post_init__(self):
        if not 1 <= self.bits <= 16:
            raise ValueError(f"affine codec of {self.bits} bits, not 1 to 16")

    def quantise(self, z) -> tuple[np.ndarray, np.float32, np.float32]:
        """(symbols, zero, scale), all in float32 arithmetic."""
        z = checked(z, self.shape, finite=True)
        lo, hi = (z.min(), z.max()) if z.size else (np.float32(0), np.float32(0))
        top = np.float32(2**self.bits - 1)
        with np.errstate(over="ignore"):
            scale = (hi - lo) * np.float32(1 / (2**self.bits - 1))
        if not np.isfinite(scale):
            raise ValueError("latent range overflows float32")
        scale = scale if scale >= TINY else np.float32(1)  # also where hi == lo
        zero = np.clip(np.rint(lo / scale), -INT32_EDGE, INT32_EDGE)
        q = np.clip(np.rint(z / scale) - zero, np.float32(0), top)
        return q.astype(np.int32), zero, scale

    def symbols(self, z: np.ndarray) -> np.ndarray:
        """q int32[shape] in 0 .. 2^bits - 1."""
        return self.quantise(z)[0]

    def encode(self, z: np.ndarray) -> bytes:
        return self.pack(*self.quantise(z))

    def pack(self, symbols: np.ndarray, zero, scale) -> bytes:
        """The bytes of symbols int32[shape] with their zero point and scale."""
        places = np.arange(self.bits, dtype=np.int32)
        packed = np.packbits((symbols.reshape(-1, 1) >> places) & 1, bitorder="little")
        head = np.array(scale, "<f4").tobytes() + np.array(zero, "<i4").tobytes()
        return head + packed.tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        count = math.prod(self.shape) * self.bits
        _expect(data, 8 + (count + 7) // 8)
        scale = np.frombuffer(data, "<f4", 1)[0]
        zero = np.frombuffer(data, "<i4", 1, 4)[0].astype(np.float32)
        ones = np.unpackbits(np.frombuffer(data, np.uint8, -1, 8), bitorder="little")
        if not (np.isfinite(scale) and scale >= TINY) or abs(zero) > INT32_EDGE:
            raise CorruptStream("corrupt stream: scale or zero out of range")
        if ones[count:].any():
            raise CorruptStream("corrupt stream: padding bits are set")
        weights = np.left_shift(1, np.arange(self.bits), dtype=np.int32)
        q = ones[:count].reshape(*self.shape, self.bits) @ weights
        with np.errstate(over="ignore"):
            z = (q.astype(np.float32) + zero) * scale
        if not np.isfinite(z).all():
            raise CorruptStream("corrupt stream: values overflow float32")
        return z


@dataclass(frozen=True)
class ImageCodec:
    """An image file format through Pillow; uint8[H, W, C], C 1 or 3, both ways.

    format: 'PNG', 'JPEG' or 'WEBP'. quality: 0 to 100, or None for lossless (PNG
    always, WEBP; JPEG has no lossless form).
    """

    format: str
    quality: int | None
    shape: tuple[int, ...]

    def __post_init__(self):
        if self.format not in ("PNG", "JPEG", "WEBP"):
            raise ValueError(f"image format {self.format!r}, not PNG, JPEG or WEBP")
        if len(self.shape) != 3 or self.shape[2] not in (1, 3) or 0 in self.shape:
            raise ValueError(f"image shape {self.shape}, not (H, W, 1 or 3)")
        lossless = {"PNG": True, "JPEG": False}.get(self.format, self.quality is None)
        if (self.quality is None) != lossless or not 0 <= (self.quality or 0) <= 100:
            raise ValueError(f"{self.format} cannot have quality {self.quality}")

    def _options(self) -> dict:
        quality: dict = {} if self.quality is None else {"quality": self.quality}
        if self.format == "WEBP":
            return {"method": 6, "lossless": self.quality is None, **quality}
        return {"optimize": True, **quality}

    def encode(self, z: np.ndarray) -> bytes:
        from PIL import Image

        z = np.asarray(z)
        if z.shape != self.shape or z.dtype != np.uint8:
            raise ValueError(f"image is {z.dtype}{z.shape}, not uint8{self.shape}")
        image = Image.fromarray(z[..., 0] if z.shape[2] == 1 else z)
        if self.format == "WEBP":
            image = image.convert("RGB")
        out = io.BytesIO()
        image.save(out, self.format, **self._options())
        return out.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        from PIL import Image

        height, width, channels = self.shape
        try:
            image = Image.open(io.BytesIO(data), formats=[self.format])
            if image.size != (width, height):  # before any pixel is decoded
                raise CorruptStream(f"image of {image.size}, not {width, height}")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except Exception as error:  # Pillow's decoders raise many kinds
            raise CorruptStream(f"corrupt {self.format} image: {error}") from error
        return pixels.reshape(self.shape)
