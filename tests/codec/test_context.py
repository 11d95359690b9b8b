"""Contexts: exact on both coders, as short as theory says, refused where they break."""

from dataclasses import replace

import numpy as np
import pytest

from sc_jax.codec import codecs, context_fit, rans, reference
from sc_jax.codec.clipped import ClippedCodec
from sc_jax.codec.context import Context, as_grid
from sc_jax.codec.factorized import FactorizedCodec
from sc_jax.codec.in_context import InContextCodec
from sc_jax.codec.reference import CorruptStream
from sc_jax.codec.tables import bits, from_pmf
from sc_jax.codec.variable_rate import VariableRateCodec, bins_of

SHAPE = (5, 7, 3)


def flat_tables(rows: int, most: int = 4):
    p = np.exp(-0.5 * np.abs(np.arange(-most, most + 1)))
    return from_pmf(np.tile(p / p.sum(), (rows, 1)), -most, 1e-4)


def drawn(seed: int, channels: int = 3, classes: int = 4) -> Context:
    """A context of random weights, whose tables differ from row to row."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-900, 900, (5 * channels, channels)).astype(np.int16)
    weights[-channels:] = np.triu(weights[-channels:], 1)
    edges = np.sort(rng.integers(-5000, 5000, (channels, classes - 1)), 1)
    rows = rng.dirichlet(np.ones(9), channels * classes)
    tables = from_pmf(rows, -4, 1e-3)
    return Context(weights, edges.astype(np.int32), tables)


def symbols(seed: int, shape=SHAPE, wild: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.integers(-5, 6, shape, dtype=np.int32)
    if wild:  # escapes, and what a sum clips
        found.flat[::3] = rng.integers(-(2**31), 2**31, found.flat[::3].size)
    return found


@pytest.fixture(params=["c", "python"])
def coder(request, monkeypatch):
    if request.param == "c" and rans._kernel() is None:
        pytest.skip("no compiled coder")
    monkeypatch.setenv("SC_JAX_CODER", request.param)


@pytest.mark.parametrize("shape", [(3,), (6, 3), SHAPE, (2, 3, 4, 3), (1, 1, 3)])
def test_any_symbols_come_back(coder, shape):
    for seed in range(6):
        context, sent = drawn(seed), symbols(seed, shape, wild=seed % 2 == 1)
        data = context.encode(sent)
        assert np.array_equal(context.decode(data, shape), sent)


def test_a_row_is_chosen_by_what_stands_before():
    """By the definition: one at a time, of its neighbours and the channels before."""
    context, sent = drawn(9), symbols(9, wild=True)
    rows = reference.context_rows(sent, context.weights, context.edges)
    near, (height, width, channels) = np.clip(sent, -127, 127).astype(int), SHAPE
    at = iter(rows.tolist())
    for y in range(height):
        for x in range(width):
            around = [(y, x - 1), (y - 1, x), (y - 1, x - 1), (y - 1, x + 1)]
            inside = [i >= 0 and 0 <= j < width for i, j in around]
            none = np.zeros(channels, int)
            seen = [near[p] if ok else none for p, ok in zip(around, inside)]
            for c in range(channels):
                here = np.where(np.arange(channels) < c, near[y, x], 0)
                total = np.concatenate([*seen, here]) @ context.weights[:, c]
                reached = int((total >= context.edges[c]).sum())
                assert next(at) == c * context.classes + reached
    if rans._kernel() is not None:
        ours = rans.context_rows(sent, context.weights, context.edges)
        assert np.array_equal(ours, rows)


def test_both_coders_write_the_same_bytes(monkeypatch):
    if rans._kernel() is None:
        pytest.skip("no compiled coder")
    for seed in range(20):
        context, sent = drawn(seed, classes=1 + seed % 5), symbols(seed, wild=True)
        monkeypatch.setenv("SC_JAX_CODER", "c")
        data = context.encode(sent)
        monkeypatch.setenv("SC_JAX_CODER", "python")
        assert context.encode(sent) == data
        assert np.array_equal(context.decode(data, SHAPE), sent)


def test_damage_is_refused_or_decodes_to_other_symbols(coder):
    context, sent = drawn(1), symbols(1)
    data, rng = context.encode(sent), np.random.default_rng(2)
    bad = [b"", data[:-1], data + b"\0", *map(rng.bytes, range(40))]
    for _ in range(60):
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        bad.append(bytes(flipped))
    refused = 0
    for stream in bad:
        try:
            found = context.decode(stream, SHAPE)
            # A stream that decodes is the one of its symbols: no second spelling.
            assert context.encode(found) == stream
        except CorruptStream:
            refused += 1
    assert refused > len(bad) / 2


def test_what_could_leave_integers_is_refused():
    good = drawn(3)

    def refused(words, **fields):
        with pytest.raises(ValueError, match=words):
            replace(good, **fields)

    wide = np.full((5 * 140, 140), 32767, np.int16)
    wide[-140:] = 0
    whole = {"edges": np.zeros((140, 0), np.int32), "tables": flat_tables(140)}
    refused("leave int32", weights=wide, **whole)
    assert Context(wide // 2, **whole).classes == 1
    late = good.weights.copy()
    late[-1, 0] = 1
    refused("not before it", weights=late)
    refused("edges fall", edges=good.edges[:, ::-1].copy())
    refused("weights", weights=good.weights.astype(np.int32))
    refused("not \\[5 C, C\\]", weights=good.weights[:-1])
    refused("table rows", tables=flat_tables(5))


def field(count: int, seed: int) -> np.ndarray:
    """int32[N, 12, 12, 2]: each symbol 0.9 of its left one and noise of deviation 1.5;
    the second channel is the first one's negative and noise.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((count, 12, 12, 2))
    left = np.zeros((count, 12))
    for x in range(12):
        left = np.rint(0.9 * left + rng.normal(0, 1.5, left.shape))
        found[:, :, x, 0] = left
    noise = rng.normal(0, 1.5, found.shape[:-1])
    found[..., 1] = np.rint(-found[..., 0] + noise)
    return found.astype(np.int32)


def test_a_fitted_context_comes_near_the_entropy_of_what_is_left():
    """Rounded noise of deviation 1.5 has 2.63 bits; alone the symbols have far more."""
    tables = flat_tables(2, 12)
    context = context_fit.fit(field(200, 0), tables, 16)
    other = field(60, 1)
    whole = other.size
    coded = sum(8 * len(context.encode(each)) for each in other) / whole
    plain = from_pmf(
        [np.bincount(other[..., c].ravel() + 40, minlength=81) for c in (0, 1)], -40
    )
    alone = (
        sum(
            bits(plain, np.ascontiguousarray(np.moveaxis(each, -1, 0)).reshape(-1))
            for each in other
        )
        / whole
    )
    left = 0.5 * np.log2(2 * np.pi * np.e * (1.5**2 + 1 / 12))
    assert alone > 1.15 * left
    assert left - 0.02 < coded < 1.05 * left


def test_symbols_that_nothing_predicts_cost_no_more():
    rng = np.random.default_rng(4)
    train, other = (np.rint(rng.normal(0, 2, (n, 9, 9, 2))) for n in (200, 60))
    context = context_fit.fit(train.astype(np.int32), flat_tables(2, 8), 8)
    coded = 0.0
    for each in other.astype(np.int32):
        rows = rans.context_rows(each, context.weights, context.edges)
        coded += bits(context.tables, each.reshape(-1), rows)
    assert coded / other.size < 1.01 * 0.5 * np.log2(2 * np.pi * np.e * (2**2 + 1 / 12))


def test_channels_of_few_values_have_classes_to_spare():
    few = np.zeros((20, 4, 4, 3), np.int32)
    few[..., 0] = np.random.default_rng(0).integers(0, 2, few.shape[:-1])
    context = context_fit.fit(few, flat_tables(3), 8)
    assert context.classes == 8 and context.tables.rows == 24
    assert np.array_equal(context.decode(context.encode(few[3]), (4, 4, 3)), few[3])
    one = context_fit.fit(few, flat_tables(3), 1)
    assert one.edges.shape == (3, 0)
    assert np.array_equal(one.decode(one.encode(few[3]), (4, 4, 3)), few[3])


MEDIANS = np.array([0.25, -0.5, 0.125], np.float32)
WIDTHS = np.array([[2.0, 1.5, 3.0], [0.5, 0.75, 1.0]])
INNER = {
    "factorized": FactorizedCodec(SHAPE, flat_tables(3), MEDIANS),
    "variable_rate": VariableRateCodec(
        SHAPE, (flat_tables(3), flat_tables(3, 9)), MEDIANS, bins_of(WIDTHS, MEDIANS), 1
    ),
    "clipped": ClippedCodec(
        SHAPE,
        from_pmf([[1.0] * 8] * 3, 0),
        np.linspace(-4.5, 4.5, 7),
        np.linspace(-5.25, 5.25, 8),
    ),
}


def latents(count: int, seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).normal(0, 1, (count, *SHAPE))
    return np.cumsum(z, 2).astype(np.float32)


@pytest.mark.parametrize("kind", INNER)
def test_what_is_decoded_is_what_the_codec_itself_decodes(kind):
    inner, z = INNER[kind], latents(3, 1)
    known = latents(120, 0)
    batches = [inner.outputs(known[:60], np), inner.outputs(known[60:], np)]
    made = InContextCodec.fit(inner, iter(batches), 4)
    again = codecs.from_arrays(made.to_arrays())
    assert again == made and codecs.KINDS[made.kind] is InContextCodec
    for level in range(codecs.levels_of(made)):
        ours, theirs = codecs.at_level(again, level), codecs.at_level(inner, level)
        sizes = [], []
        for each in z:
            data, plain = ours.encode(each), theirs.encode(each)
            assert np.array_equal(again.decode(data), inner.decode(plain))
            row = {k: v[0] for k, v in ours.outputs(each[None], np).items()}
            assert ours.pack(**row) == data
            sizes[0].append(len(data)), sizes[1].append(len(plain))
        assert sum(sizes[0]) < 0.9 * sum(sizes[1])
    # Tables follow what a head really gives.
    assert made.refit(iter(batches)) == made
    assert made.refit(iter(batches[:1])) != made
    for bad in (b"", b"\x02" + data[1:]) if codecs.levels_of(made) > 1 else ():
        with pytest.raises(CorruptStream, match="level"):
            again.decode(bad)
    with pytest.raises(ValueError, match="there are none"):
        InContextCodec.fit(inner, iter(()), 4)


@pytest.mark.parametrize("kind", INNER)
def test_what_is_of_no_latent_is_refused_before_the_coder(kind):
    """As of a head of another bundle: the coder sizes its room by the context."""
    inner, z = INNER[kind], latents(60, 0)
    made = InContextCodec.fit(inner, [inner.outputs(z, np)], 2)
    (name,), wide = inner.outputs(z, np), np.zeros((60, 60, 1), np.int32)
    good = inner.outputs(z, np)[name][0]
    for bad in (wide, good[..., :2], good[:4], good.astype(np.float64), good[0]):
        with pytest.raises(ValueError):
            made.pack(**{name: bad})
    with pytest.raises(ValueError):
        made.contexts[0].encode(wide)
    with pytest.raises(ValueError):
        rans.context_rows(wide, made.contexts[0].weights, made.contexts[0].edges)
    if good.dtype.kind == "f":
        with pytest.raises(ValueError, match="not finite"):
            made.pack(**{name: np.where(np.arange(3) == 1, np.nan, good)})
    arrays = made.to_arrays()
    for shape in ([9, 9, 3], [5, 7]):
        with pytest.raises(ValueError):
            InContextCodec.from_arrays(arrays | {"shape": np.array(shape, np.int32)})
    for sides in ([-1, 7, 3], [65536, 65536, 3], [0, 7, 3]):
        other = np.array(sides, np.int32)
        with pytest.raises(ValueError):
            InContextCodec.from_arrays(arrays | {"shape": other, "inner.shape": other})


def test_axes_before_the_last_two_are_rows():
    shapes = [(64,), (7, 64), (14, 14, 64), (2, 3, 4, 5)]
    grids = [(1, 1, 64), (1, 7, 64), (14, 14, 64), (6, 4, 5)]
    assert [as_grid(shape) for shape in shapes] == grids
