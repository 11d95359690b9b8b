"""One image file as pixels: 8 bits a channel, upright, of bounded size.

- Formats: whatever this Pillow reads by a file's suffix, but for those of `_REFUSED`.
- EXIF orientation is applied: a photograph stands as its camera was held.
- Greyscale of 16 bits a pixel becomes 8 by the nearest of value / 257; of colour with
  16 bits a channel Pillow hands over the upper eight. 32 bits a channel are refused.
- More than PIXEL_LIMIT pixels: a JPEG of one scan is decoded at a half, quarter or
  eighth of its sides, what no such step makes small enough is refused unread.
"""

import errno
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from struct import error as struct_error
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from sc_jax.errors import Unread, UsageError

T = TypeVar("T")
# 33.5 million, 5,792 squared: 100 MB decoded, in each of up to 16 threads.
PIXEL_LIMIT = 1 << 25
# Of one file, before it is read: holds PIXEL_LIMIT pixels of any format, uncompressed.
FILE_LIMIT_BYTES = 1 << 28
# Formats that run another program (EPS), are read by the operating system (WMF), are
# unpacked without bound (FITS), hold pictures of a size of their own (icons), or of
# which Pillow knows the name alone.
_REFUSED = {"EPS", "WMF", "FITS", "ICO", "CUR", "ICNS"}
_REFUSED |= {"BUFR", "GRIB", "HDF5", "IPTC", "MPEG"}
# What Pillow and zipfile raise at damaged, encrypted or truncated files.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, ArithmeticError)
DAMAGED += (LookupError, TypeError, AttributeError, MemoryError, struct_error)
DAMAGED += (zipfile.BadZipFile, zlib.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
# It warns from 89 million pixels on; PIXEL_LIMIT stands for that here. For good, as
# `warnings.catch_warnings` changes what all threads do, and many decode at once.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@lru_cache
def suffixes() -> dict[str, str]:
    """ ".jpg" -> "JPEG" and so on, of every format that is read here."""
    known = Image.registered_extensions()  # loads Pillow's plugins
    return {
        suffix: name
        for suffix, name in known.items()
        if name in Image.OPEN and name not in _REFUSED
    }


def header(name: str, data: bytes) -> tuple[tuple[int, int], bool]:
    """((width, height) as it will stand, whether it is grey) without decoding."""

    def look(image: Image.Image) -> tuple[tuple[int, int], bool]:
        width, height = image.size
        # Pillow turns a TIFF's size itself, and decodes a whole PNG to look for EXIF.
        early = image.format != "TIFF" and "exif" in image.info
        turned = early and _orientation(image) in (5, 6, 7, 8)
        size = (height, width) if turned else (width, height)
        return size, image.mode in ("L", "1") or _is_16_bit(image)

    return _opened(name, data, look)


def pixels(name: str, data: bytes, mode: str = "RGB") -> np.ndarray:
    """uint8 [h, w, 3], or [h, w, 1] with mode "L"."""

    def decode(image: Image.Image) -> np.ndarray:
        image.load()
        turn = _TURNS.get(_orientation(image))
        if _is_16_bit(image):
            wide = np.asarray(image).astype(np.uint32)
            image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
        # Pillow warns where a palette with transparency becomes RGB at once.
        if "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert(mode)
        image = image if turn is None else image.transpose(turn)
        array = np.asarray(image)
        return array.reshape(*array.shape[:2], -1)

    return _opened(name, data, decode)


def _opened(name: str, data: bytes, use: Callable[[Image.Image], T]) -> T:
    """use(image); UsageError of one line where the file is not one to read."""
    try:
        # By formats, as what a file is called says nothing of what is in it.
        formats = tuple(sorted({*suffixes().values()}))
        with Image.open(BytesIO(data), formats=formats) as image:
            if image.mode[0] in "IF" and not _is_16_bit(image):
                raise UsageError(f"{name} has 32 bits a channel: save it with 8 or 16")
            _bound(name, image, data)
            return use(image)
    except UsageError:
        raise
    except UnidentifiedImageError as error:
        raise UsageError(f"{name} is not an image that Pillow can read") from error
    except _BOMB as error:
        raise UsageError(_too_large(name, None)) from error
    except DAMAGED as error:
        raise damaged(name, error) from error


def damaged(name: str, error: BaseException) -> UsageError:
    """What to raise for one of DAMAGED: Unread where it says nothing of the file."""
    reason = " ".join(str(error).split()) or type(error).__name__
    line = f"cannot read the image {name}: {reason}"
    # Pillow's own errors have no number. EINVAL: a place that a zip's fields name.
    system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return (Unread if system or isinstance(error, MemoryError) else UsageError)(line)


def _bound(name: str, image: Image.Image, data: bytes) -> None:
    """Lets a large JPEG be decoded smaller; UsageError for what stays large."""
    width, height = image.size
    # All its coefficients are held, 6 bytes a pixel in colour, whatever the step.
    if width * height > PIXEL_LIMIT and _many_scans(data):
        raise UsageError(_too_large(name, (width, height)))
    fits = [s for s in (1, 2, 4, 8) if (width // s) * (height // s) <= PIXEL_LIMIT]
    step = fits[0] if fits else 8
    if step > 1:
        image.draft(None, (width // step, height // step))  # only JPEGs take notice
    # A side that the step does not divide is rounded up.
    if (image.size[0] - 1) * (image.size[1] - 1) > PIXEL_LIMIT:
        raise UsageError(_too_large(name, (width, height)))


def _many_scans(data: bytes) -> bool:
    """Whether a JPEG is progressive, or its first scan lacks some of its components.

    Read as libjpeg does it: markers up to the first scan (ITU-T T.81, annex B).
    """
    if data[:3] != b"\xff\xd8\xff":
        return False
    place, components = 2, 0
    while 0 <= (place := data.find(b"\xff", place)) < len(data) - 4:
        place += 1
        marker = data[place]
        if marker == 0xFF:  # fills up
            continue
        if marker == 0xDA:
            return data[place + 3] < components
        if marker in (0xC2, 0xC6, 0xCA, 0xCE):
            return True
        if marker in (0xC0, 0xC1, 0xC9):
            components = data[place + 8] if place + 8 < len(data) else 0
        # None of these has a length.
        bare = marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8
        place += 1 if bare else 1 + int.from_bytes(data[place + 1 : place + 3], "big")
    return False


def _too_large(name: str, size: tuple[int, int] | None) -> str:
    found = "far" if size is None else f"{size[0]} x {size[1]},"
    limit = PIXEL_LIMIT / 1e6
    return f"{name} has {found} more than {limit:.1f} million pixels: shrink it"


def _is_16_bit(image: Image.Image) -> bool:
    # Pillow opens .pgm of more than 8 bits as 32, scaled to 65535.
    return image.mode[:4] == "I;16" or (image.mode == "I" and image.format == "PPM")


def _orientation(image: Image.Image) -> int:
    """1 to 8, 1 where nothing is said; damaged EXIF says nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DAMAGED:
        return 1
