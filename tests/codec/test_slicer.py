"""The filter, blocks and widths of SLICER against loops in plain Python."""

from dataclasses import replace

import numpy as np
import pytest

from sc_jax.codec import rans
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.slicer import HEADER, UNIT, SlicerCodec, tables_of
from sc_jax.codec.tables import TOTAL
from sc_jax.codec.top_k import TopKCodec


def activations(kind: str, shape=(6, 5, 4)) -> np.ndarray:
    z = np.random.default_rng(0).laplace(0.2, 2.0, shape)
    z = {
        "signed": z,
        "relu": np.maximum(z, 0),
        "sparse": np.where(np.abs(z) > 4, z, 0),
        "ties": np.round(z),
        "one": np.full(shape, -3.0),
        "zero": np.zeros(shape),
    }[kind]
    return z.astype(np.float32)


def by_hand(codec: SlicerCodec, z: np.ndarray) -> tuple[np.ndarray, list, int]:
    """(decoded latent, [block] of places in order of magnitude, bits of all codes)."""
    flat, n = z.reshape(-1), z.size
    factor = np.float32(codec.asymmetry)
    score = [float(-v * factor if v < 0 else v) for v in flat]
    best = sorted(range(n), key=lambda i: -score[i])[: codec.keep]
    kept = [i for i in best if flat[i] != 0] or best[:1]
    kept.sort(key=lambda i: abs(flat[i]))
    chunks = [
        [i for r, i in enumerate(kept) if r * codec.blocks // len(kept) == m]
        for m in range(codec.blocks)
    ]
    low, high = abs(flat[kept[0]]), abs(flat[kept[-1]])
    scale = (high - low) * np.float32(1 / (2**codec.bits - 1)) or np.float32(1)
    zero = np.rint(low / scale)
    q = {i: int(np.rint(abs(flat[i]) / scale) - zero) for i in kept}
    q = {i: min(max(v, 0), 2**codec.bits - 1) for i, v in q.items()}
    out, total = np.zeros(n, np.float32), 0
    for chunk in filter(None, chunks):
        first, last = q[chunk[0]], q[chunk[-1]]

        def back(i, drop, first=first):
            return first + ((q[i] - first) >> drop << drop) + (1 << drop) // 2

        drop = 0
        while (last - first) >> drop:
            mismatch = sum(abs(q[i] - back(i, drop + 1)) for i in chunk)
            if mismatch * UNIT > codec.distortion * len(chunk):
                break
            drop += 1
        total += len(chunk) * ((last - first) >> drop).bit_length()
        for i in chunk:
            value = (np.float32(back(i, drop)) + zero) * scale
            out[i] = -value if flat[i] < 0 else value
    return out.reshape(z.shape), chunks, total


@pytest.mark.parametrize("kind", ["signed", "relu", "sparse", "ties", "one", "zero"])
@pytest.mark.parametrize(
    "settings",
    [(24, 1.0, 4, 8, 16), (120, 2.5, 7, 5, 40), (60, 0.5, 1, 8, 0), (3, 1.0, 8, 1, 8)],
)
def test_a_payload_is_what_loops_in_python_make(kind, settings):
    z = activations(kind)
    codec = SlicerCodec(z.shape, *settings)
    data = codec.encode(z)
    expected, chunks, code_bits = by_hand(codec, z)
    np.testing.assert_array_equal(codec.decode(data), expected)
    # Blocks of equal cardinality: none has two values more than another.
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1
    kept, negatives = np.frombuffer(data, "<u4", 2, 8)
    assert kept == sum(sizes) <= codec.keep
    assert negatives == sum(z.flat[i] < 0 for chunk in chunks for i in chunk)
    symbols = np.zeros(z.size, np.int32)
    for m, chunk in enumerate(chunks):
        for i in chunk:
            symbols[i] = -m - 1 if z.flat[i] < 0 else m + 1
    tables = tables_of(z.size, int(kept), int(negatives), codec.blocks)
    begin = HEADER + 2 * codec.blocks + (code_bits + 7) // 8
    assert data[begin:] == rans.encode(symbols, tables)


@pytest.mark.parametrize("kind", ["signed", "relu", "ties"])
def test_one_block_without_a_budget_is_top_k_of_magnitudes(kind):
    z = activations(kind)
    sliced = SlicerCodec(z.shape, 30, blocks=1, distortion=0)
    found = sliced.decode(sliced.encode(z))
    kept = TopKCodec(z.shape, 30, 16)
    exact = kept.decode(kept.encode(z))
    np.testing.assert_array_equal(found != 0, np.abs(exact) > 1e-3)
    half = np.abs(np.ptp(np.abs(z[found != 0]))) / 255 / 2
    np.testing.assert_allclose(found[found != 0], z[found != 0], atol=half * 1.01)


def test_asymmetry_decides_how_many_of_the_kept_are_negative():
    z = activations("signed")
    negatives = []
    for asymmetry in (0.25, 1.0, 4.0):
        data = SlicerCodec(z.shape, 40, asymmetry).encode(z)
        kept, below = np.frombuffer(data, "<u4", 2, 8)
        assert kept == 40
        negatives.append(below)
    assert negatives[0] < negatives[1] < negatives[2]


def test_a_larger_budget_never_takes_more_bytes():
    z, before = activations("signed", (20, 20, 4)), None
    for distortion in (0, 8, 16, 32, 64, 160, 1000):
        codec = SlicerCodec(z.shape, 400, distortion=distortion)
        data = codec.encode(z)
        error = np.abs(codec.decode(data) - z)[codec.decode(data) != 0]
        step = np.frombuffer(data, "<f4", 1)[0]
        assert error.mean() <= (distortion / UNIT + 0.5) * step
        assert before is None or len(data) <= before
        before = len(data)


@pytest.mark.parametrize(
    "shape", [(1, 1, 0, 1), (9, 3, 0, 2), (9, 9, 9, 4), (10**9, 10**8, 5, 16)]
)
def test_a_table_follows_from_four_numbers_and_codes_every_symbol(shape):
    tables = tables_of(*shape)
    assert tables.cdf[0, tables.length[0]] == TOTAL
    assert tables.length[0] == 2 * shape[3] + 2 and tables.offset[0] == -shape[3]


def damaged(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_hostile_payloads_are_one_line_before_they_take_memory():
    z = activations("signed")
    codec = SlicerCodec(z.shape, 40, bits=6, distortion=0)
    data = codec.encode(z)
    number = (2**32 - 1).to_bytes(4, "little")
    for bad, says in [
        (damaged(data, 8, number), "4294967295 values"),
        (damaged(data, 8, bytes(4)), "0 values"),
        (damaged(data, 12, number), "4294967295 below 0"),
        (damaged(data, HEADER, b"\x40"), "beyond 6 bits"),
        (damaged(data, HEADER + 1, b"\x16"), "beyond 6 bits"),
        (damaged(data, HEADER + 1, b"\x06")[:40], "bytes"),
        (damaged(data, 0, b"\xff\xff\xff\xff"), "scale"),
        (data[: HEADER - 1], "15 bytes"),
        (damaged(data, 12, bytes(4)), "corrupt stream"),
    ]:
        with pytest.raises(CorruptStream, match=says) as caught:
            codec.decode(bad)
        assert "\n" not in str(caught.value)
    # The same bytes under another count of blocks, or one value fewer.
    for other in (replace(codec, blocks=2), replace(codec, keep=39)):
        with pytest.raises(CorruptStream):
            other.decode(data)


@pytest.mark.parametrize(
    "settings",
    [
        *((0,), (121,), (9, 0.0), (9, np.inf), (9, np.nan), (9, 1.0, 0), (9, 1.0, 33)),
        *((9, 1.0, 4, 0), (9, 1.0, 4, 9), (9, 1.0, 4, 8, -1), (9, 1.0, 4, 8, 2049)),
        (9, 1e-39),  # XLA takes it for 0
    ],
)
def test_settings_beyond_their_ranges_are_refused(settings):
    with pytest.raises(ValueError, match="slicer of"):
        SlicerCodec((6, 5, 4), *settings)


def test_a_value_beyond_float32_is_refused_and_the_largest_is_not():
    z = np.float32(3.4e38) * np.array([1e-3, -2e-3, 0.22, 1], np.float32)
    codec = SlicerCodec((4,), 4, blocks=2, distortion=0)
    assert np.isfinite(codec.decode(codec.encode(z))).all()
    # The middle of five dropped bits lies 9 steps above the block's last integer.
    with pytest.raises(ValueError, match="overflows"):
        replace(codec, distortion=200).encode(z)
