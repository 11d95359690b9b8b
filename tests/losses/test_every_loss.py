"""Every registered loss: one value an example, zero at its target, finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.losses import LOSSES
from sc_jax.losses.terms import Context
from sc_jax.nets.backbones.skipnet import Carry
from sc_jax.nets.run import Outputs

B, K = 6, 4
EXITS = ("exit@a", "exit@b", "final")
RNG = np.random.default_rng(1)
LABEL = np.arange(B) % K
SAMPLES = [sample for samples in LOSSES.values() for sample in samples]


def draw(*shape):
    return RNG.normal(0, 2, shape).astype(np.float32)


LOGITS, OWN, TEACHER = draw(3, B, K), draw(3, B, K), draw(B, K)
SURE, FEATURE, THEIRS = draw(2, B), draw(B, 3, 2), draw(B, 3, 2)
GATES = RNG.uniform(size=(B, 3)).astype(np.float32)
WEIGHER = {"w1": draw(3, 5), "b1": draw(5), "w2": draw(5, 3), "b2": draw(3)}


def context(binary, logits=LOGITS, own=OWN, teacher=TEACHER, sure=SURE, more=None):
    """What a loss may read; `binary`: whether the targets are K labels at once."""
    features, theirs, gates, bits = more or (FEATURE, THEIRS, GATES, np.arange(B) + 1.0)
    rows = [
        {"own": own[i], "confidence": sure[i], "noise": 0 * sure[i]}
        | {"uniform": 1 + 0 * sure[i]}
        for i in (0, 1)
    ]
    extras = dict(zip(EXITS, rows))
    extras["final"] = {"temperature": np.float32(2.0), "weigher": WEIGHER}
    gated = Carry(gates, np.zeros((B, 1)), np.zeros((B, 1)), np.zeros((B, 2, 2, 1)))
    bits = {"split@a": bits.astype(np.float32)}
    student = Outputs(
        {"decoder": features, "gated": gated}, dict(zip(EXITS, logits)), bits, extras
    )
    taught = Outputs({"a": theirs}, {"final": teacher}, {}, {})
    label = np.eye(K, dtype=bool)[LABEL] if binary else LABEL
    return jax.tree.map(jnp.asarray, Context(student, taught, {"label": label}))


def is_binary(loss):
    return type(loss).__name__.startswith("Binary")


@pytest.mark.parametrize("loss", SAMPLES, ids=repr)
def test_one_value_an_example_wherever_it_stands(loss):
    start = context(is_binary(loss))
    value = loss(start)
    assert value.shape == (B,) and value.dtype == jnp.float32
    assert np.isfinite(value).all() and (value >= -1e-6).all()
    assert loss == type(loss)(**vars(loss)) and hash(loss) is not None  # frozen data

    def turned(leaf):
        return jnp.roll(leaf, 1, 0) if leaf.shape[:1] == (B,) else leaf

    np.testing.assert_allclose(
        loss(jax.tree.map(turned, start)), np.roll(value, 1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("loss", SAMPLES, ids=repr)
def test_zero_at_its_target(loss):
    right = np.stack([60 * np.eye(K, dtype=np.float32)[LABEL] - 30] * 3)
    exact = (FEATURE, FEATURE, np.full((B, 3), 0.25, np.float32), np.zeros(B))
    confident = np.full((2, B), 60, np.float32)
    value = loss(context(is_binary(loss), right, right, right[0], confident, exact))
    np.testing.assert_allclose(value, 0, atol=1e-5)


@pytest.mark.parametrize("loss", SAMPLES, ids=repr)
def test_gradients_are_finite_even_far_out(loss):
    slope = jax.grad(lambda s, start: loss(start._replace(student=s)).sum())
    for scale in (0.0, 1.0, 1e3):
        more = (scale * FEATURE, scale * THEIRS, GATES, scale * (np.arange(B) + 1.0))
        start = context(
            is_binary(loss), scale * LOGITS, scale * OWN, scale * TEACHER,
            scale * SURE, more,
        )  # fmt: skip
        gradient = slope(start.student, start)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)), scale
