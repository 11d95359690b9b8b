"""What every registered compressor must do: a row in COMPRESSORS is tested here."""

import ast
import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from fitted import (
    SCALES,
    check_bytes,
    check_exact,
    fitted,
    hard,
    latents,
    pixels,
    settled,
    soft,
)

from sc_jax.codec import codecs
from sc_jax.codec.codecs import CorruptStream
from sc_jax.codec.in_context import INNER
from sc_jax.compressors import COMPRESSORS, Compressor, contexts
from sc_jax.compressors.affine import Affine
from sc_jax.compressors.splits import at_level, check, codecs_of
from sc_jax.errors import UsageError
from sc_jax.nets.net import INPUT, Net, SplitPoint, Stage
from sc_jax.nets.run import init, run

ROOT, TOPS = Path(__file__).parents[2], ("sc_jax", "launch", "benchmarks")
SAMPLES = [(row, sample) for row in COMPRESSORS.values() for sample in row.samples]
IDS = [f"{name}{i}" for name, r in COMPRESSORS.items() for i in range(len(r.samples))]
every = pytest.mark.parametrize(("row", "module"), SAMPLES, ids=IDS)


def examples(row, rate: str, seed: int, batch: int = 4) -> np.ndarray:
    if row.dtype == "uint8":
        return pixels(row.shape)
    return latents(SCALES[rate], seed, batch)


def params_of(row, module, rate: str) -> dict:
    return {} if row.dtype == "uint8" else fitted(module, rate)


@every
@pytest.mark.parametrize("rate", SCALES)
def test_bytes_are_the_estimate_and_decode_to_the_hard_run(row, module, rate):
    if row.dtype == "uint8" and rate != "middle":
        return
    params, z = params_of(row, module, rate), examples(row, rate, 7)  # not fitted on
    bits = check_exact(module, params, z)
    if rate == "middle" and module == row.samples[0]:
        check_exact(module, params, z[:1], jit=False)
    check_bytes(module.codec(params, row.shape), z, bits, row.bytes_share)


@every
def test_training_costs_no_less_than_evaluation(row, module):
    """The mean over examples, to 3 %: additive noise bounds the rounded rate."""
    params, z = params_of(row, module, "middle"), examples(row, "middle", 8, 16)
    z_hat, bits = soft(module, params, z)
    assert z_hat.shape == z.shape and bits.shape == z.shape[:1]
    assert np.mean(bits) >= 0.97 * hard(module, params, z)[1].mean()


@every
def test_settled_once_is_settled(row, module):
    params = params_of(row, module, "middle")
    jax.tree.map(np.testing.assert_array_equal, settled(module, params), params)


@every
def test_a_codec_outlives_its_arrays_and_refuses_damage(row, module):
    z = examples(row, "middle", 7)[0]
    codec = module.codec(params_of(row, module, "middle"), row.shape)
    arrays = codec.to_arrays()
    assert {a.dtype.kind for a in arrays.values()} <= set("iuf")
    again = codecs.from_arrays(arrays)
    assert again == codec and again.encode(z) == codec.encode(z)
    assert codecs.KINDS[codec.kind] is type(codec) and codec.id in range(1, 256)
    outputs = {name: value[0] for name, value in codec.outputs(z[None], np).items()}
    assert codec.pack(**outputs) == codec.encode(z)
    assert not codec.difference(z, outputs)[0].any()
    data, rng = codec.encode(z), np.random.default_rng(1)
    bad = [b"", data[:-1], data + b"\0", *map(rng.bytes, range(30))]
    for _ in range(50):
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        bad.append(bytes(flipped))
    for stream in bad:
        try:
            assert codec.decode(stream).shape == row.shape
        except CorruptStream:
            continue


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return 20 * nn.Conv(4, (4, 4), (4, 4), "VALID")(x.astype("float32") / 255)


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(x.mean((1, 2)))


@pytest.mark.parametrize(
    ("name", "context"),
    [*((name, 0) for name in COMPRESSORS), *((name, 3) for name in INNER)],
)
def test_a_head_exports_and_a_tail_serves_its_frames(name, context):
    """A device's bytes, from LiteRT's outputs, answered as JAX alone would."""
    pytest.importorskip("litert_converter", reason="the extra export is not installed")
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from sc_jax.deploy.device.runtime import Runner
    from sc_jax.deploy.export import segments
    from sc_jax.deploy.server import infer, tails
    from sc_jax.deploy.wire import frame

    row, x = COMPRESSORS[name], pixels((16, 12, 3))
    cut = INPUT if row.dtype == "uint8" else "encoder"
    stages = (Stage("encoder", Encoder()), Stage("classifier", Classifier()))
    net = Net(stages, splits=(SplitPoint(cut, row.samples[0]),))
    variables = init(net, jax.random.key(0), x)
    split = net.splits[0].name
    variables.params[split] = settled(row.samples[0], variables.params[split])
    own: Any = codecs_of(net, variables, x[:1])
    if context:
        own = contexts.fitted(net, variables, own, lambda: iter([(x, len(x))]), context)
    codec = own[split]
    if not codec.exports:
        outputs = codec.outputs(x, np)
    else:
        made = segments.head_segment(net, variables, cut, codec, x)
        assert made.parity.different <= made.parity.ties
        outputs = Runner(made.model)(x)
    (served,) = tails.tails(net, variables, {split: codec})
    # One head and one tail, at every rate that there is.
    for level in range(codecs.levels_of(codec)):
        sender, found = codecs.at_level(codec, level), []
        for i in range(len(x)):
            payload = sender.pack(**{key: each[i] for key, each in outputs.items()})
            data = frame.pack(codec.id, 0, codec.shape, payload)
            found.append(infer.latent(data, (served,), 1 << 20)[1])
        at = at_level(net, level)
        whole = jax.jit(lambda v, x, at=at: run(at, v, x)[0].predictions["final"])
        logits = served.reply(np.stack(found))["logits"]
        np.testing.assert_allclose(logits, whole(variables, x), rtol=1e-3, atol=1e-3)


class NoCodec(Compressor):
    @nn.compact
    def __call__(self, z, *, train):
        return z, jax.numpy.zeros(len(z))


class OneNumber(Affine):
    @nn.compact
    def __call__(self, z, *, train):
        return z, jax.numpy.float32(0)


class Unknown(Affine):
    def codec(self, params, shape):
        return type("Mine", (codecs.AffineCodec,), {"kind": "mine"})(shape)


@pytest.mark.parametrize(
    ("module", "says"),
    [(NoCodec(), "has no method codec"), (OneNumber(), "bits"), (Unknown(), "KINDS")],
)
def test_what_cannot_end_a_run_is_one_line_before_it(module, says):
    net = Net((Stage("encoder", Encoder()),), splits=(SplitPoint("encoder", module),))
    with pytest.raises(UsageError, match=says) as caught:
        check(net, pixels((16, 12, 3))[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_context_is_refused_before_training_where_no_symbols_are_sent(name):
    row = COMPRESSORS[name]
    cut = INPUT if row.dtype == "uint8" else "encoder"
    stages = (Stage("encoder", Encoder()),)
    with pytest.raises(UsageError, match="nothing is sent"):
        check(Net(stages), pixels((16, 12, 3))[:1], context=8)
    net, x = Net(stages, splits=(SplitPoint(cut, row.samples[0]),)), pixels((16, 12, 3))
    codec = codecs_of(net, init(net, jax.random.key(0), x), x[:1])[f"split@{cut}"]
    if codec.kind in INNER:
        check(net, x[:1], context=8)
        with pytest.raises(UsageError, match="at most context=16384"):
            check(net, x[:1], context=20000)
    else:
        with pytest.raises(UsageError, match=f"sends {codec.kind}: leave it at 0"):
            check(net, x[:1], context=8)


def test_no_one_asks_which_codec_or_compressor_it_has():
    """Neither isinstance nor match on a registered class: the part itself answers."""
    kinds = {kind.__name__ for kind in codecs.KINDS.values()}
    names = kinds | {row.compressor.__name__ for row in COMPRESSORS.values()}
    assert {"RawCodec", "Affine"} <= names
    for path in (p for top in TOPS for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            asked: list[ast.AST] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                asked = [node.args[1]]
            elif isinstance(node, ast.MatchClass):
                asked = [node.cls]
            words = set(re.findall(r"\w+", " ".join(map(ast.unparse, asked))))
            assert not words & (names - {"Image"}), f"{path}: {words}"  # Pillow's too


def test_registered_kinds_and_ids_are_one_to_one():
    kinds = codecs.KINDS
    assert all(kind == codec.kind for kind, codec in kinds.items())
    assert len({codec.id for codec in kinds.values()}) == len(kinds)
    assert {k: c.id for k, c in kinds.items()}.items() >= {
        *{"raw": 1, "affine": 2, "image": 3, "factorized": 4, "top_k": 5}.items(),
        ("variable_rate", 6),
    }
