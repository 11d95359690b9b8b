"""Losses against formulas in NumPy: shapes, targets, gradients, reductions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.losses.distillation import Hint, KnowledgeDistillation, Reconstruction
from sc_jax.losses.rate import Rate
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Context, Term, total
from sc_jax.nets.run import Outputs
from sc_jax.recipes import build

RNG = np.random.default_rng(0)
B, K = 6, 5
STUDENT = RNG.normal(0, 3, (B, K)).astype(np.float32)
TEACHER = RNG.normal(0, 3, (B, K)).astype(np.float32)
LABELS = np.arange(B) % K
MAP = RNG.normal(0, 1, (2, B, 3, 4, 2)).astype(np.float32)
BITS = {"split@a": np.arange(B, dtype=np.float32), "split@b": np.full(B, 7, np.float32)}


def context(student=STUDENT, teacher=TEACHER, mine=MAP[0], theirs=MAP[1]) -> Context:
    taught = Outputs({"stage": theirs}, {"final": teacher}, {}, {})
    own = Outputs(
        {"decoder": mine}, {"final": student, "exit@a": 2 * student}, BITS, {}
    )
    own = jax.tree.map(jnp.asarray, own)
    return Context(own, jax.tree.map(jnp.asarray, taught), {"label": jnp.array(LABELS)})


def softmax(logits):
    e = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_cross_entropy_is_equation_2():
    expected = -np.log(softmax(STUDENT)[np.arange(B), LABELS])
    np.testing.assert_allclose(CrossEntropy()(context()), expected, rtol=2e-6)
    smooth = 0.9 * expected - 0.1 * np.log(softmax(STUDENT)).mean(-1)
    np.testing.assert_allclose(
        CrossEntropy(smoothing=0.1)(context()), smooth, rtol=2e-6
    )
    sure = 100 * np.eye(K, dtype=np.float32)[LABELS]
    assert not CrossEntropy()(context(sure)).any()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_distillation_is_equations_3_and_4(alpha, tau):
    q, p = softmax(STUDENT / tau), softmax(TEACHER / tau)
    hard = -np.log(softmax(STUDENT)[np.arange(B), LABELS])
    divergence = (p * np.log(p / q)).sum(-1)  # KL(teacher || student), in nats
    expected = alpha * hard + (1 - alpha) * tau**2 * divergence
    got = KnowledgeDistillation(alpha, tau)(context())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_distillation_is_zero_where_logits_agree(tau):
    loss = KnowledgeDistillation(0.0, tau)
    np.testing.assert_allclose(loss(context(TEACHER)), 0, atol=1e-6)
    np.testing.assert_allclose(loss(context(TEACHER + 3)), 0, atol=1e-5)
    slope = jax.grad(lambda z: loss(context(z)).sum())(jnp.asarray(TEACHER))
    np.testing.assert_allclose(slope, 0, atol=1e-5)


def test_hints_are_squared_distances():
    square = ((MAP[0].astype(np.float64) - MAP[1]) ** 2).reshape(B, -1)
    summed, mean = Hint("decoder", "stage"), Hint("decoder", "stage", "mean")
    np.testing.assert_allclose(summed(context()), square.sum(1), rtol=1e-6)
    np.testing.assert_allclose(mean(context()), square.mean(1), rtol=1e-6)
    for loss in (summed, mean):
        assert not loss(context(theirs=MAP[0])).any()


@pytest.mark.parametrize("variant", ["choi", "jankowski", "squares"])
def test_a_reconstruction_is_the_norm_of_its_paper(variant):
    """Survey Eq. 5, of the recipe's own loss."""
    error = (MAP[1].astype(np.float64) - MAP[0]).reshape(B, -1)
    expected = {
        "choi": np.sqrt(((error + 1e-6) ** 2).sum(1)),
        "jankowski": np.abs(error).sum(1),
        "squares": (error**2).sum(1),
    }[variant]
    (term,) = build("reconstruction", {"variant": variant}).phases[0].terms
    loss = dataclasses.replace(term.loss, decoded="decoder", original="stage")
    np.testing.assert_allclose(loss(context()), expected, rtol=1e-6)
    np.testing.assert_allclose(loss(context(theirs=MAP[0])), 0, atol=1e-5)
    # eps is added to z - z_dec, not to its opposite.
    shifted = dataclasses.replace(loss, eps=0.5)
    apart = context(theirs=MAP[0] + 1.0)
    assert (shifted(apart) > loss(apart)).all()


def test_a_norm_that_is_neither_papers_nor_a_square_is_one_line():
    for norm, power in ((3, 3), (1, 2), (2, 3)):
        with pytest.raises(UsageError, match="norm is 1 or 2") as caught:
            Reconstruction("decoder", "stage", norm, power)
        assert "\n" not in str(caught.value)


def test_hints_of_half_precision_are_summed_in_float32():
    mine = jnp.full((B, 1000), 1.0, jnp.bfloat16)
    value = Hint("decoder", "stage")(context(mine=mine, theirs=mine * 0))
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, 1000)


def test_shapes_that_differ_are_one_line():
    with pytest.raises(UsageError, match="hint shapes differ") as caught:
        Hint("decoder", "stage")(context(theirs=MAP[1][:, :2]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "loss",
    [KnowledgeDistillation(), Hint("decoder", "stage"), Reconstruction("decoder", "a")],
    ids=repr,
)
def test_a_missing_teacher_is_one_line(loss):
    with pytest.raises(UsageError, match="teacher"):
        loss(context()._replace(teacher=None))


def test_rate_is_bits():
    np.testing.assert_array_equal(Rate()(context()), np.arange(B) + 7)
    np.testing.assert_array_equal(Rate("split@a")(context()), np.arange(B))


def test_only_total_reduces():
    terms = (
        Term(Hint("decoder", "stage"), 0.5, "hint"),
        Term(Rate(), lambda step: 0.1 * step),
    )
    hint = float(Hint("decoder", "stage")(context()).sum())
    bits = float(Rate()(context()).sum())
    loss, values = total(terms, context(), 3, "sum")
    assert float(values["hint"]) == pytest.approx(hint)
    assert float(values["Rate"]) == pytest.approx(bits)
    assert float(loss) == pytest.approx(0.5 * hint + 0.3 * bits)
    mean, values = total(terms, context(), 3, "mean")
    assert float(mean) == pytest.approx(float(loss) / B)
    assert float(values["Rate"]) == pytest.approx(bits / B)
