"""Image files through Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import codec
from sc_jax.codec.codec import Outputs
from sc_jax.codec.reference import CorruptStream

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")


def data_bytes(file: bytes) -> int:
    """Bytes of a file that are image data: without container, header and tables.

    PNG: its IDAT chunks. JPEG: its scans, without markers' segments, as of a file whose
    quantisation and Huffman tables both sides know ("abbreviated", ITU-T T.81 B.5).
    WEBP: the VP8 or VP8L chunk. AVIF: the media data box. A bound in the files' favour,
    since no decoder reads that alone; no bytes of such a file: ValueError.
    """
    if file[:8] == b"\x89PNG\r\n\x1a\n":
        return sum(n for kind, n in _png(file) if kind == b"IDAT")
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return sum(n for kind, n in _riff(file) if kind in (b"VP8 ", b"VP8L"))
    if file[:2] == b"\xff\xd8":
        return _scan_bytes(file)
    if file[4:8] == b"ftyp":
        return sum(n - 8 for kind, n in _boxes(file) if kind == b"mdat")
    raise ValueError("not a PNG, JPEG, WebP or AVIF file")


def _png(file: bytes) -> Iterator[tuple[bytes, int]]:
    """(kind, bytes of its data) of each chunk."""
    place = 8
    while place < len(file):
        (size,) = struct.unpack(">I", file[place : place + 4])
        yield file[place + 4 : place + 8], size
        place += 12 + size  # its size, kind and checksum


def _riff(file: bytes) -> Iterator[tuple[bytes, int]]:
    place = 12
    while place < len(file):
        (size,) = struct.unpack("<I", file[place + 4 : place + 8])
        yield file[place : place + 4], size
        place += 8 + size + size % 2


def _boxes(file: bytes) -> Iterator[tuple[bytes, int]]:
    """(kind, bytes of the whole box) of each at the top."""
    place = 0
    while place < len(file):
        (size,) = struct.unpack(">I", file[place : place + 4])
        # 0 reaches to the end.
        size = size or len(file) - place
        yield file[place + 4 : place + 8], size
        place += size


def _scan_bytes(file: bytes) -> int:
    """Entropy-coded bytes of a JPEG, stuffing and restart markers included."""
    place, total = 2, 0
    while file[place : place + 2] != b"\xff\xd9":
        (length,) = struct.unpack(">H", file[place + 2 : place + 4])
        scan = file[place + 1] == 0xDA
        place += 2 + length
        if scan:
            start = place
            # FF 00 is a byte of data, FF D0 to FF D7 restart it; else a marker follows.
            while file[place] != 0xFF or file[place + 1] in (0, *range(0xD0, 0xD8)):
                place += 1
            total += place - start
    return total


@dataclass(frozen=True)
class ImageCodec:
    """An image file format through Pillow; uint8[H, W, C], C 1 or 3, both ways.

    format: 'PNG', 'JPEG', 'WEBP' or, where Pillow was built with it, 'AVIF'. quality: 0
    to 100, or None for lossless (PNG always, WEBP; JPEG has no lossless form, AVIF none
    here). It stands at the input: no head before it. side: of the file, the smaller of
    its two, in pixels; such a file is enlarged again where it is decoded (0: as it is).
    """

    kind: ClassVar[str] = "image"
    id: ClassVar[int] = 3
    latent_dtype: ClassVar[type[np.generic]] = np.uint8
    exports: ClassVar[bool] = False
    in_float: ClassVar[tuple[str, ...]] = ()

    format: str
    quality: int | None
    shape: tuple[int, ...]
    side: int = 0

    def __post_init__(self):
        if self.format not in FORMATS:
            known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise ValueError(f"image format {self.format!r}, not {known}")
        if len(self.shape) != 3 or self.shape[2] not in (1, 3) or 0 in self.shape:
            raise ValueError(f"image shape {self.shape}, not (H, W, 1 or 3)")
        lossless = self.format == "PNG" or (
            self.format == "WEBP" and self.quality is None
        )
        if (self.quality is None) != lossless or not 0 <= (self.quality or 0) <= 100:
            raise ValueError(f"{self.format} cannot have quality {self.quality}")
        if not 0 <= self.side <= min(self.shape[:2]):
            raise ValueError(f"side {self.side} of an image of {self.shape[:2]}")

    def _options(self) -> dict:
        quality: dict = {} if self.quality is None else {"quality": self.quality}
        if self.format == "WEBP":
            return {"method": 6, "lossless": self.quality is None, **quality}
        if self.format == "AVIF":
            # Slower saves little more; threads would only make runs differ.
            return {"speed": 4, "max_threads": 1, **quality}
        # Best tables at the same quality: a baseline should not be beaten by defaults.
        return {"optimize": True, **quality}

    @property
    def _size(self) -> tuple[int, int]:
        """(width, height) of the file."""
        height, width = self.shape[:2]
        share = (self.side or min(height, width)) / min(height, width)
        return round(width * share), round(height * share)

    def encode(self, z: np.ndarray) -> bytes:
        from PIL import Image  # late: a device without image codecs has no Pillow

        z = np.asarray(z)
        if z.shape != self.shape or z.dtype != np.uint8:
            raise ValueError(f"image is {z.dtype}{z.shape}, not uint8{self.shape}")
        image = Image.fromarray(z[..., 0] if z.shape[2] == 1 else z)
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.LANCZOS)
        if self.format in ("WEBP", "AVIF"):
            # WebP has no grey images, and Pillow writes no grey AVIF.
            image = image.convert("RGB")
        out = io.BytesIO()
        image.save(out, self.format, **self._options())
        return out.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        from PIL import Image

        height, width, channels = self.shape
        try:
            image = Image.open(io.BytesIO(data), formats=[self.format])
            if image.size != self._size:  # before any pixel is decoded
                raise CorruptStream(f"image of {image.size}, not {self._size}")
            image = image.convert("L" if channels == 1 else "RGB")
            if self.side:
                image = image.resize((width, height), Image.Resampling.BICUBIC)
            pixels = np.asarray(image)
        except Exception as error:  # Pillow's decoders raise many kinds
            raise CorruptStream(f"corrupt {self.format} image: {error}") from error
        return pixels.reshape(self.shape)

    def outputs(self, z, xp):
        return {"image": z}

    def pack(self, image: np.ndarray) -> bytes:
        return self.encode(image)

    def difference(self, z: np.ndarray, outputs: Outputs):
        distance = np.abs(outputs["image"].astype(np.int64) - z)
        return distance, np.zeros(z.shape, bool)

    def refit(self, outputs: Iterable[Outputs]) -> ImageCodec:
        return self

    def to_arrays(self) -> dict[str, np.ndarray]:
        quality = -1 if self.quality is None else self.quality
        image = {"format": codec.ascii_of(self.format)}
        # Left out where it says nothing: arrays of before stay the same.
        side = {"side": np.array(self.side, np.int32)} if self.side else {}
        own = image | {"quality": np.array(quality, np.int32)} | side
        return codec.header(self) | own

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ImageCodec:
        quality = int(arrays["quality"])
        format = codec.text_of(arrays["format"])
        side = int(arrays["side"]) if "side" in arrays else 0
        shape = codec.shape_of(arrays)
        return cls(format, None if quality < 0 else quality, shape, side)
