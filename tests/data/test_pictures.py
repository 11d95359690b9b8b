"""One image file as pixels: upright, 8 bits, bounded, or refused in one line."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from sc_jax.data import pictures
from sc_jax.errors import UsageError

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
# What is stored -> what EXIF's orientation says it is (EXIF 3.0, 4.6.5.4.6).
TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def saved(image, suffix, **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "WEBP"])
def test_pictures_stand_upright(turn, suffix):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if suffix == "WEBP" else {}
    data = saved(Image.fromarray(NOISE), suffix, exif=exif, **options)
    upright = TURNED[turn](NOISE)
    assert np.array_equal(pictures.pixels("x", data), upright)
    size, grey = pictures.header("x", data)
    assert size == upright.shape[1::-1] and not grey


def test_an_orientation_in_a_jpeg_turns_its_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(NOISE), "JPEG", exif=exif, quality=95)
    straight = pictures.pixels("x", saved(Image.fromarray(NOISE), "JPEG", quality=95))
    assert np.array_equal(pictures.pixels("x", data), np.rot90(straight, -1))
    assert pictures.header("x", data)[0] == (6, 9)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_is_divided_by_257(suffix):
    wide = np.array([[0, 128, 129, 257, 385, 386], [65535, 65407, 65406, 32768, 1, 2]])
    data = saved(Image.fromarray(wide.astype(np.uint16)), suffix)
    expected = np.array([[0, 0, 1, 1, 1, 2], [255, 255, 254, 128, 0, 0]], np.uint8)
    assert np.array_equal(pictures.pixels("x", data, "L")[..., 0], expected)
    assert np.array_equal(pictures.pixels("x", data)[..., 2], expected)
    assert pictures.header("x", data) == ((6, 2), True)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bits_are_refused(kind):
    data = saved(Image.fromarray(np.zeros((4, 4), kind)), "TIFF")
    with pytest.raises(UsageError, match="32 bits a channel: save it with 8 or 16"):
        pictures.pixels("x", data)


def test_pillow_names_what_is_read():
    known = pictures.suffixes()
    assert {".pgm", ".jfif", ".jpg", ".png", ".tif", ".webp"} <= {*known}
    assert not {".eps", ".ps", ".pdf", ".h5", ".ico", ".mpg"} & {*known}
    # By content: a PostScript program called .png starts no Ghostscript.
    with pytest.raises(UsageError, match="not an image that Pillow can read"):
        pictures.pixels("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def test_pixels_are_bounded(monkeypatch):
    monkeypatch.setattr(pictures, "PIXEL_LIMIT", 10_000)
    ramp = np.linspace(0, 255, 301).astype(np.uint8)[None].repeat(203, 0)
    image = Image.fromarray(ramp)
    for suffix in ("PNG", "WEBP", "BMP"):
        with pytest.raises(UsageError, match=r"301 x 203, more than 0\.0 million"):
            pictures.pixels("x", saved(image, suffix))
    data = saved(image, "JPEG", quality=95)
    half = pictures.pixels("x", data, "L")  # a quarter of the sides fits, a half not
    assert half.shape == (51, 76, 1)
    assert pictures.header("x", data)[0] == (76, 51)
    assert np.abs(half[25, :75, 0] - ramp[0, 2:300:4].astype(float)).max() < 4


def scans_apart(ramp):
    """A JPEG of three scans, one a component, that is not progressive.

    Of constant blocks: each codes nothing but the categories 0 of its two Huffman
    tables, one bit each.
    """
    height, width = ramp.shape[:2]

    def segment(marker, body):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body

    blocks = -(-height // 8) * -(-width // 8)
    frame = struct.pack(">BHHB", 8, height, width, 3)
    frame += b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
    data = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([1] * 64))
    data += segment(0xC0, frame)
    for kind in (0x00, 0x10):  # one code of one bit: category 0, and end of block
        data += segment(0xC4, bytes([kind, 1]) + bytes(15) + bytes([0]))
    for i in (1, 2, 3):
        data += segment(0xDA, bytes([1, i, 0, 0, 63, 0]))
        data += bytes(-(-blocks * 2 // 8))
    return data + b"\xff\xd9"


def test_a_large_jpeg_of_several_scans_is_refused(monkeypatch):
    ramp = np.linspace(0, 255, 301).astype(np.uint8)[None].repeat(203, 0)
    grey = Image.fromarray(ramp)
    several = [
        saved(grey, "JPEG", progressive=True),
        saved(grey.convert("RGB"), "JPEG", progressive=True),
        scans_apart(ramp),
    ]
    for data in several:  # as they are up to the limit
        assert pictures.pixels("x", data).shape == (203, 301, 3)
    monkeypatch.setattr(pictures, "PIXEL_LIMIT", 10_000)
    for data in several:
        for use in (pictures.pixels, pictures.header):
            with pytest.raises(UsageError, match=r"301 x 203, more than"):
                use("x", data)
    exif = Image.Exif()
    exif[0x0112] = 6  # its own marker stands before the frame's
    one = saved(grey.convert("RGB"), "JPEG", exif=exif)
    assert pictures.pixels("x", one).shape == (76, 51, 3)


def test_pillow_warns_of_nothing_that_is_bounded_here():
    data = png_of(11_000, 11_000)  # above Pillow's 89 million, below its 179
    code = (
        "import sys; from sc_jax.data import pictures\n"
        "try: pictures.header('x', sys.stdin.buffer.read())\n"
        "except ValueError as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True
    )
    assert ran.stdout.startswith(b"x has 11000 x 11000, more than 33.6 million")
    assert not ran.stderr


def png_of(width, height):
    """A PNG that says it is so large, and holds a few bytes of zlib."""
    chunks = (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)), (
        b"IDAT", zlib.compress(bytes(99))
    )  # fmt: skip
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in (*chunks, (b"IEND", b"")):
        check = struct.pack(">I", zlib.crc32(kind + body))
        data += struct.pack(">I", len(body)) + kind + body + check
    return data


def test_a_bomb_is_refused_before_it_is_decoded():
    for side, words in ((13_300, "13300 x 13300, more"), (1 << 30, "far more")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, at 89 million
            for use in (pictures.pixels, pictures.header):
                with pytest.raises(UsageError, match=f"{words} than 33.6 million"):
                    use("x", png_of(side, side))


@pytest.mark.parametrize(
    "suffix", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "TGA", "PCX", "QOI"]
)
def test_mutants_are_read_or_refused_in_one_line(suffix):
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif} if suffix in ("PNG", "JPEG", "TIFF", "WEBP") else {}
    image = Image.fromarray(NOISE.repeat(4, 0).repeat(4, 1))
    whole = saved(image, suffix, **more)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            data[place] = rng.integers(256)
        data = bytes(data[: rng.integers(1, len(data) + 1)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = pictures.pixels("x", data)
            except UsageError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
        assert found.dtype == np.uint8 and found.shape[2] == 3
    assert refused
