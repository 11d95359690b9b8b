"""The sparse form of 2511.11664 against loops, and its columns against all others."""

import numpy as np
import pytest

from sc_jax.codec import affine, rans
from sc_jax.codec.affine import AffineCodec
from sc_jax.codec.csr import (
    HEADER,
    CSRCodec,
    columns_of,
    divisors,
    model_bits,
    octaves_of,
    tables_of,
)
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import TOTAL


def activations(kind: str, shape=(6, 8, 10)) -> np.ndarray:
    z = np.random.default_rng(0).laplace(0.2, 2.0, shape)
    z = {
        "signed": z,
        "relu": np.maximum(z - 1, 0),
        "sparse": np.where(np.abs(z) > 9, z, 0),
        "positive": np.abs(z) + 5,
        "one": np.full(shape, -3.0),
        "zero": np.zeros(shape),
    }[kind]
    return z.astype(np.float32)


KINDS = ["signed", "relu", "sparse", "positive", "one", "zero"]


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_is_the_affine_quantiser_in_a_form_made_by_loops(kind, bits):
    z = activations(kind)
    codec, plain = CSRCodec(z.shape, bits), AffineCodec(z.shape, bits)
    data = codec.encode(z)
    np.testing.assert_array_equal(codec.decode(data), plain.decode(plain.encode(z)))
    assert data[:8] == plain.encode(z)[:8]
    q, zero, _ = plain.quantise(z)
    columns = int(np.frombuffer(data, "<u2", 1, 12)[0])
    values, places, counts = [], [], []
    for row in q.reshape(-1, columns).tolist():
        found = [(v, c) for c, v in enumerate(row) if v + int(zero) != 0]
        values += [v for v, _ in found]
        places += [c for _, c in found]
        counts.append(len(found))
    stream = np.array(values + places + counts)
    assert np.frombuffer(data, "<u4", 1, 8)[0] == len(values)
    octaves = octaves_of(np.bincount(stream))
    assert np.frombuffer(data, "<u2", 1, 14)[0] == octaves.size == stream.max() + 1
    present, tables = tables_of(octaves)
    slots = np.array([present.tolist().index(s) for s in stream], np.int32)
    end = HEADER + (octaves.size + 1) // 2
    assert data[end:] == rans.encode(slots, tables)
    digits = [int(d, 16) for byte in data[HEADER:end] for d in f"{byte:02x}"[::-1]]
    assert digits[: octaves.size] == octaves.tolist()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_modelled_columns_are_nearly_the_best_of_all(bits, share):
    rng = np.random.default_rng(1)
    z = rng.exponential(1.0, (12, 10, 16)) * (rng.random((12, 10, 16)) < share)
    codec = CSRCodec(z.shape, bits)
    found = codec._affine.quantise(z.astype(np.float32))
    sizes = {k: len(codec.pack(*found, columns=k)) for k in divisors(z.size)}
    chosen, best = len(codec.pack(*found)), min(sizes.values())
    assert best <= chosen <= 1.03 * best + 8
    # The model itself: within a tenth of the bytes, header apart, where it matters.
    values = found[0][found[0] != -int(found[1])]
    for columns, size in sizes.items():
        if size < 1.5 * best:
            model = model_bits(z.size, columns, values.size, np.bincount(values)) / 8
            assert abs(model - (size - HEADER)) < 0.1 * size + 8


@pytest.mark.parametrize("size", [1, 7, 4093, 4099, 7840, 1 << 20])
def test_columns_divide_what_they_cut(size):
    known = divisors(size)
    assert known == tuple(k for k in range(1, 4096) if size % k == 0)
    assert columns_of(size, np.zeros(1, int)) in known


def test_a_table_is_within_an_octave_of_the_counts():
    counts = np.array([0, 1, 5, 0, 1000, 1 << 20, 3])
    octaves = octaves_of(counts)
    assert octaves.tolist() == [0, 1, 1, 0, 5, 15, 1]
    present, tables = tables_of(octaves)
    assert present.tolist() == [1, 2, 4, 5, 6]
    assert tables.cdf[0, tables.length[0]] == TOTAL
    # A message's ideal length lies within half an octave's cost of its entropy.
    counts = np.random.default_rng(0).integers(1, 5000, 60)
    present, tables = tables_of(octaves_of(counts))
    _, p, _ = tables.pmf(0)
    entropy = -(counts * np.log2(counts / counts.sum())).sum()
    assert entropy <= -(counts * np.log2(p)).sum() <= entropy + 0.07 * counts.sum()


def packed(kept, columns, stream, head=None) -> bytes:
    """A payload of any stream of symbols, valid or not."""
    stream = np.array(stream)
    octaves = octaves_of(np.bincount(stream))
    present, tables = tables_of(octaves)
    data = head or affine.header(-1, 0.5)
    data += np.array(kept, "<u4").tobytes()
    data += np.array([columns, octaves.size], "<u2").tobytes()
    pairs = np.append(octaves, [0] * (octaves.size % 2)).reshape(-1, 2) @ [1, 16]
    slots = np.searchsorted(present, stream).astype(np.int32)
    return data + pairs.astype(np.uint8).tobytes() + rans.encode(slots, tables)


def test_hostile_payloads_are_one_line():
    codec = CSRCodec((2, 3), 2)
    # Values 0 and 3 in the columns 0 and 2 of the first row of three.
    good = packed(2, 3, [0, 3, 0, 2, 2, 0])
    expected = [[-0.5, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(codec.decode(good), expected)
    assert codec.encode(np.array(expected, np.float32))[:8] == good[:8]
    for bad, says in [
        (packed(2, 3, [0, 3, 0, 2, 1, 0]), "rows of other sizes"),
        (packed(2, 3, [0, 3, 0, 3, 2, 0]), "rows of other sizes"),
        (packed(2, 3, [0, 3, 2, 0, 2, 0]), "do not rise"),
        (packed(2, 3, [0, 3, 1, 1, 2, 0]), "do not rise"),
        (packed(2, 3, [1, 3, 0, 2, 2, 0]), "beyond 2 bits"),
        (packed(2, 3, [4, 3, 0, 2, 2, 0]), "a table of 5 symbols"),
        (packed(7, 3, [0, 3, 0, 2, 2, 0]), "7 values"),
        (packed(2**32 - 1, 3, [0, 3, 0, 2, 2, 0]), "4294967295 values"),
        (packed(2, 0, [0, 3, 0, 2, 2, 0]), "0 columns"),
        (packed(2, 4, [0, 3, 0, 2, 2, 0]), "4 columns"),
        (packed(2, 3, [0, 3, 0, 2, 2, 0, 1]), "corrupt stream"),
        (good[:14] + b"\0\0" + good[16:], "a table of 0 symbols"),
        (good[:14] + b"\3\0" + good[16:], "a table cut short"),
        (good[:17], "a table cut short"),
        (good[:15], "15 bytes"),
        (packed(2, 3, [1, 3, 0, 2, 2, 0], affine.header(0, 3e38)), "overflow"),
    ]:
        with pytest.raises(CorruptStream, match=says) as caught:
            codec.decode(bad)
        assert "\n" not in str(caught.value)


def test_the_escape_is_no_symbol():
    # One symbol alone, so that the stream may hold the escape of its table.
    _, tables = tables_of(np.array([15]))
    slots = np.array([0, 5], np.int32)
    head = affine.header(-1, 0.5) + bytes(4) + np.array([3, 1], "<u2").tobytes()
    data = head + b"\x0f" + rans.encode(slots, tables)
    with pytest.raises(CorruptStream, match="a symbol that there is not"):
        CSRCodec((2, 3), 2).decode(data)


@pytest.mark.parametrize(("shape", "bits"), [((4,), 0), ((4,), 9), ((4, 0), 4)])
def test_settings_beyond_their_ranges_are_refused(shape, bits):
    with pytest.raises(ValueError, match="csr codec of"):
        CSRCodec(shape, bits)
