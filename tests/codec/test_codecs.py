import numpy as np
import pytest
from PIL import features

from sc_jax.codec import codecs
from sc_jax.codec.codecs import (
    AffineCodec,
    ClippedCodec,
    CSRCodec,
    FactorizedCodec,
    ImageCodec,
    RawCodec,
    SlicerCodec,
    TiledCodec,
)
from sc_jax.codec.image import data_bytes
from sc_jax.codec.rans import CorruptStream
from sc_jax.codec.tables import from_pmf

SHAPE = (5, 7, 3)
TABLES = from_pmf([[0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.01, 0.98, 0.01]], [-1, 0, -1])
FACTORIZED = FactorizedCodec(SHAPE, TABLES, np.array([0.25, -0.5, 3.0], np.float32))
IMAGES = [
    ImageCodec(format, quality, (9, 11, channels))
    for format, quality in [("PNG", None), ("WEBP", None), ("WEBP", 60), ("JPEG", 90)]
    for channels in (1, 3)
]
LATENT = [
    RawCodec(SHAPE),
    RawCodec(SHAPE, "float16"),
    AffineCodec(SHAPE, 1),
    AffineCodec(SHAPE, 8),
    AffineCodec(SHAPE, 11),
    FACTORIZED,
    TiledCodec(SHAPE, 5),
    SlicerCodec(SHAPE, 40, 1.5, 3, 6, 8),
    CSRCodec(SHAPE, 3),
    ClippedCodec(
        SHAPE, from_pmf([[0.3, 0.3, 0.4]] * 3, 0), [-1.0, 1.0], [-2.0, 0.0, 2.0]
    ),
]


def example(codec, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if codec.latent_dtype is np.uint8:
        ramp = np.add.outer(np.arange(codec.shape[0]), np.arange(codec.shape[1]))
        return np.repeat((ramp * 12)[..., None], codec.shape[2], 2).astype(np.uint8)
    return rng.normal(0, 2, codec.shape).astype(np.float32)


@pytest.mark.parametrize("codec", LATENT + IMAGES, ids=repr)
def test_shape_type_idempotence_and_checkpoint(codec):
    z = example(codec)
    data = codec.encode(z)
    out = codec.decode(data)
    assert isinstance(data, bytes)
    assert out.shape == z.shape and out.dtype == z.dtype and out.flags.c_contiguous
    arrays = codec.to_arrays()
    assert all(
        isinstance(a, np.ndarray) and a.dtype.kind in "iuf" for a in arrays.values()
    )
    again = codecs.from_arrays(arrays)
    assert again == codec
    assert np.array_equal(again.decode(data), out)
    assert codec.id in range(1, 256)


@pytest.mark.parametrize("codec", LATENT + IMAGES, ids=repr)
def test_garbage_raises_corrupt_stream_only(codec):
    rng = np.random.default_rng(1)
    data = codec.encode(example(codec))
    bad = [
        b"",
        data[:-1],
        data + b"\0",
        rng.bytes(len(data)),
        *map(rng.bytes, range(40)),
    ]
    for _ in range(150):
        flipped = bytearray(data)
        for _ in range(3):
            flipped[int(rng.integers(len(data)))] = int(rng.integers(256))
        bad.append(bytes(flipped))
    for stream in bad:
        try:
            out = codec.decode(stream)
        except CorruptStream:
            continue
        assert out.shape == codec.shape
    with pytest.raises(CorruptStream):
        codec.decode(data[: len(data) // 2])


def test_images_of_another_size_or_format_are_refused():
    one, other = (
        ImageCodec("PNG", None, (9, 11, 3)),
        ImageCodec("PNG", None, (9, 12, 3)),
    )
    data = one.encode(example(one))
    for codec in (other, ImageCodec("WEBP", None, (9, 11, 3))):
        with pytest.raises(CorruptStream):
            codec.decode(data)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lossless_images(format, channels):
    codec = ImageCodec(format, None, (16, 9, channels))
    z = np.random.default_rng(2).integers(0, 256, codec.shape).astype(np.uint8)
    assert np.array_equal(codec.decode(codec.encode(z)), z)


AVIF = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "WEBP", pytest.param("AVIF", marks=AVIF)]
)
def test_image_data_are_what_a_file_of_noise_has_more_than_one_of_one_colour(
    format, channels
):
    shape = (64, 80, channels)
    codec = ImageCodec(format, None if format == "PNG" else 60, shape)
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    full, flat = codec.encode(noise), codec.encode(np.full(shape, 128, np.uint8))
    rest = [len(file) - data_bytes(file) for file in (full, flat)]
    # Container, headers, tables: nearly the same for both, and never of the image.
    assert min(rest) >= 20 and max(rest) < 800 and data_bytes(full) > 5 * max(rest)


def test_what_is_no_image_file_has_no_image_data():
    with pytest.raises(ValueError, match="not a PNG, JPEG, WebP or AVIF file"):
        data_bytes(b"GIF89a" + bytes(20))


@AVIF
def test_an_avif_is_small_and_comes_back():
    codec = ImageCodec("AVIF", 60, (64, 64, 3))
    z = example(codec)
    file = codec.encode(z)
    assert file == codec.encode(z) and len(file) < z.size / 4
    assert np.abs(codec.decode(file).astype(int) - z).mean() < 12
    with pytest.raises(ValueError, match="AVIF cannot have quality None"):
        ImageCodec("AVIF", None, (64, 64, 3))


def test_a_smaller_file_is_enlarged_and_its_size_checked():
    small, whole = (ImageCodec("JPEG", 90, (64, 96, 3), side) for side in (32, 0))
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    z = np.repeat(ramp[..., None], 3, 2)
    file = small.encode(z)
    assert len(file) < len(whole.encode(z))
    assert np.abs(small.decode(file).astype(int) - z).mean() < 2
    assert ImageCodec.from_arrays(small.to_arrays()) == small != whole
    assert "side" not in whole.to_arrays()  # as such codecs were kept before
    for codec, other in ((small, whole), (whole, small)):
        with pytest.raises(CorruptStream, match="image of"):
            codec.decode(other.encode(z))
    with pytest.raises(ValueError, match="side 65 of an image of"):
        ImageCodec("JPEG", 90, (64, 96, 3), 65)


def test_lossy_images_are_close():
    for codec in IMAGES:
        z = example(codec)
        gap = codec.decode(codec.encode(z)).astype(int) - z
        assert np.abs(gap).mean() < 12


def test_raw_is_exact():
    z = np.array([0.1, -0.0, np.inf, np.nan, 1e-42, 7e4], np.float32)
    out = RawCodec((6,)).decode(RawCodec((6,)).encode(z))
    assert out.tobytes() == z.tobytes()
    half = RawCodec((6,), "float16")
    with np.errstate(over="ignore"):
        assert np.array_equal(
            half.decode(half.encode(z)), z.astype("f2").astype("f4"), equal_nan=True
        )


@pytest.mark.parametrize("bits", range(1, 17))
def test_affine_is_the_written_formula(bits):
    codec = AffineCodec((4, 37), bits)
    z = np.random.default_rng(bits).normal(1, 3, codec.shape).astype(np.float32)
    lo, hi = z.min(), z.max()
    scale = (hi - lo) * np.float32(1 / (2**bits - 1))
    zero = np.rint(lo / scale)
    q = np.clip(np.rint(z / scale) - zero, 0, 2**bits - 1)
    data = codec.encode(z)
    assert np.array_equal(codec.quantise(z)[0], q)
    assert np.array_equal(codec.decode(data), (q + zero) * scale)
    assert len(data) == 8 + -(-z.size * bits // 8)
    assert np.abs(codec.decode(data) - z).max() <= scale * 1.01
    packed = int.from_bytes(data[8:], "little")
    assert packed & (2**bits - 1) == q.flat[0]
    assert packed >> bits * (z.size - 1) == q.flat[-1]


def test_affine_limits():
    codec = AffineCodec((3,), 8)
    for constant in (0.0, 3.0, -7.0, 1e30):
        z = np.full(3, constant, np.float32)
        assert np.isfinite(codec.decode(codec.encode(z))).all()
    assert codec.decode(codec.encode(np.full(3, 3.0, np.float32))).tolist() == [3.0] * 3
    tiny = np.array([0, 1e-42, 1e-40], np.float32)
    assert codec.decode(codec.encode(tiny)).tolist() == [0.0] * 3
    for bad in ([0, np.nan, 1], [0, np.inf, 1], [-3e38, 0, 3e38]):
        with pytest.raises(ValueError):
            codec.encode(np.array(bad, np.float32))


def test_factorized_is_rounding_about_the_median():
    z = example(FACTORIZED)
    out = FACTORIZED.decode(FACTORIZED.encode(z))
    assert np.array_equal(out, np.rint(z - FACTORIZED.medians) + FACTORIZED.medians)
    symbols = FACTORIZED.symbols(z)
    assert symbols.shape == SHAPE and symbols.dtype == np.int32
    assert np.array_equal(symbols[..., 1], np.rint(z[..., 1] + np.float32(0.5)))


def test_factorized_limits():
    z = np.zeros(SHAPE, np.float32)
    z[0, 0] = 3e38, -3e38, 2.0**31
    out = FACTORIZED.decode(FACTORIZED.encode(z))
    assert out[0, 0].tolist() == [2147483520, -2147483520, 2147483520]
    for bad in (np.nan, np.inf):
        z[0, 0, 0] = bad
        with pytest.raises(ValueError, match="finite"):
            FACTORIZED.encode(z)


@pytest.mark.parametrize("codec", LATENT + IMAGES[:1], ids=repr)
def test_wrong_inputs_are_refused(codec):
    z = example(codec)
    for bad in (z[1:], z.astype(np.float64), z[None]):
        with pytest.raises(ValueError, match="not"):
            codec.encode(bad)


@pytest.mark.parametrize("codec", LATENT, ids=repr)
def test_a_shape_that_is_none_is_refused_before_it_takes_memory(codec):
    arrays = codec.to_arrays()
    last = SHAPE[-1]
    for shape in (
        *([-1, last], [-2, -2, last], [65536, 65536, last], [2.0, last], [[2, last]]),
        *([2**31 - 1, 2**31 - 1, last], last),
    ):
        with pytest.raises(ValueError, match="shape"):
            codecs.from_arrays(arrays | {"shape": np.array(shape)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: RawCodec(SHAPE, "int8"),
        lambda: AffineCodec(SHAPE, 0),
        lambda: AffineCodec(SHAPE, 17),
        lambda: ImageCodec("GIF", None, (4, 4, 3)),
        lambda: ImageCodec("JPEG", None, (4, 4, 3)),
        lambda: ImageCodec("PNG", 50, (4, 4, 3)),
        lambda: ImageCodec("WEBP", 101, (4, 4, 3)),
        lambda: ImageCodec("PNG", None, (4, 4, 2)),
        lambda: FactorizedCodec((4, 4, 2), TABLES, np.zeros(2, np.float32)),
        lambda: FactorizedCodec(SHAPE, TABLES, np.full(3, np.nan, np.float32)),
        lambda: codecs.from_arrays(
            {"kind": np.frombuffer(b"magic", np.uint8), "shape": np.array([1])}
        ),
    ],
)
def test_bad_codecs_are_refused(make):
    with pytest.raises(ValueError):
        make()
