"""Image files through Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sc_jax.codec import codec
from sc_jax.codec.codec import Outputs
from sc_jax.codec.reference import CorruptStream


@dataclass(frozen=True)
class ImageCodec:
    """An image file format through Pillow; uint8[H, W, C], C 1 or 3, both ways.

    format: 'PNG', 'JPEG' or 'WEBP'. quality: 0 to 100, or None for lossless (PNG
    always, WEBP; JPEG has no lossless form). It stands at the input: no head before it.
    """

    kind: ClassVar[str] = "image"
    id: ClassVar[int] = 3
    latent_dtype: ClassVar[type[np.generic]] = np.uint8
    exports: ClassVar[bool] = False
    in_float: ClassVar[tuple[str, ...]] = ()

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
        # Best tables at the same quality: a baseline should not be beaten by defaults.
        return {"optimize": True, **quality}

    def encode(self, z: np.ndarray) -> bytes:
        from PIL import Image  # late: a device without image codecs has no Pillow

        z = np.asarray(z)
        if z.shape != self.shape or z.dtype != np.uint8:
            raise ValueError(f"image is {z.dtype}{z.shape}, not uint8{self.shape}")
        image = Image.fromarray(z[..., 0] if z.shape[2] == 1 else z)
        if self.format == "WEBP":
            # WebP has no grey images.
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
        return codec.header(self) | image | {"quality": np.array(quality, np.int32)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ImageCodec:
        quality = int(arrays["quality"])
        format = codec.text_of(arrays["format"])
        return cls(format, None if quality < 0 else quality, codec.shape_of(arrays))
