"""Losses of several exits: exact values, where gradients stop, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sc_jax.errors import UsageError
from sc_jax.losses.exits import (
    AdaptiveWeights,
    ExitDistillation,
    OwnCrossEntropy,
)
from sc_jax.losses.gates import (
    ConfidenceTarget,
    GateCost,
    GatedCrossEntropy,
    GateTarget,
    Halving,
    Mixture,
    Rising,
    leaving_shares,
    shares,
)
from sc_jax.losses.terms import Context
from sc_jax.nets.backbones.skipnet import Carry
from sc_jax.nets.run import Outputs

B, K = 6, 4
EXITS = ("exit@a", "exit@b", "final")
RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(3, B, K)) * 2, jnp.float32)
SURE = jnp.asarray(RNG.normal(size=(2, B)), jnp.float32)
LABEL = jnp.asarray(RNG.integers(K, size=B))
COSTS = (0.1, 0.5, 1.0)


def context(
    logits=LOGITS, sure=SURE, own=None, noise=0 * SURE, uniform=1 + 0 * SURE
) -> Context:
    extras = {
        name: {"confidence": sure[i], "noise": noise[i], "uniform": uniform[i]}
        | ({} if own is None else {"own": own[i]})
        for i, name in enumerate(EXITS[:-1])
    }
    extras["final"] = {"temperature": jnp.float32(2.0)}
    student = Outputs({}, dict(zip(EXITS, logits)), {}, extras)
    return Context(student, None, {"label": LABEL})


def ce(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABEL)


def test_own_cross_entropy_reads_the_logits_before_joining():
    own = LOGITS[:2] + 1.0 * RNG.normal(size=(2, B, K)).astype(np.float32)
    got = OwnCrossEntropy("exit@b")(context(own=own))
    np.testing.assert_allclose(got, ce(own[1]), rtol=1e-6)
    with pytest.raises(
        UsageError, match=r"has no 'own' \(confidence, noise, uniform\)"
    ):
        OwnCrossEntropy("exit@b")(context())
    bare = context()._replace(student=Outputs({}, {"final": LOGITS[2]}, {}, {}))
    with pytest.raises(UsageError, match="logits only"):
        OwnCrossEntropy("final")(bare)


def divergence(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def test_distillation_from_later_exits_is_the_divergence_in_the_direction_said():
    a, b, last = (np.asarray(jax.nn.softmax(z / 2.0), np.float64) for z in LOGITS)
    forward = ExitDistillation("exit@a", ("exit@b", "final"), tau=2.0)(context())
    expected = 4 * (divergence(b, a) + divergence(last, a)) / 2
    np.testing.assert_allclose(forward, expected, rtol=1e-4)
    reverse = ExitDistillation("exit@a", tau=2.0, direction="reverse")(context())
    np.testing.assert_allclose(reverse, 4 * divergence(a, last), rtol=1e-4)
    same = jnp.broadcast_to(LOGITS[:1], LOGITS.shape)
    np.testing.assert_allclose(ExitDistillation("exit@a")(context(same)), 0, atol=1e-6)


def test_a_temperature_may_be_a_schedule_or_the_teachers_own():
    rising = ExitDistillation("exit@a", tau=lambda step: 1.0 + step)
    for step in (0, 3):
        fixed = ExitDistillation("exit@a", tau=1.0 + step)(context())
        np.testing.assert_array_equal(rising(context()._replace(step=step)), fixed)
    own = ExitDistillation("exit@a", tau=None)(context())
    np.testing.assert_array_equal(own, ExitDistillation("exit@a", tau=2.0)(context()))


def test_teachers_of_exits_get_no_gradient():
    loss = ExitDistillation("exit@a", ("exit@b", "final"), tau=3.0)
    gradient = jax.grad(lambda z: loss(context(z)).sum())(LOGITS)
    assert np.abs(gradient[0]).max() > 0 and not np.abs(gradient[1:]).any()


def test_a_mixture_of_certain_confidences_is_one_exit():
    certain, never = jnp.full((2, B), 1e3), jnp.full((2, B), -1e3)
    first = Mixture(EXITS)(context(sure=certain))
    np.testing.assert_allclose(first, ce(LOGITS[0]) + ce(LOGITS[2]), rtol=1e-5)
    none = Mixture(EXITS)(context(sure=never))  # no logits: every class alike
    np.testing.assert_allclose(none, np.log(K) + ce(LOGITS[2]), rtol=1e-5)
    second = Mixture(EXITS, "losses")(context(sure=jnp.stack([never[0], certain[0]])))
    np.testing.assert_allclose(second, ce(LOGITS[1]) + ce(LOGITS[2]), rtol=1e-5)
    weights = shares(list(jax.nn.sigmoid(SURE)))
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)
    c = jax.nn.sigmoid(SURE)
    np.testing.assert_allclose(weights[1], c[1] * (1 - c[0]), rtol=1e-6)


def test_a_mixture_of_logits_leaves_the_last_exit_out_and_masks_the_others():
    """As published: it has its own loss, and no gradient from the mixture."""
    uniform = jnp.stack([jnp.zeros(B), jnp.ones(B)])  # the first is masked, always
    c = jax.nn.sigmoid(SURE / 2.0)
    mixed = c[1][:, None] * LOGITS[1]
    got = Mixture(EXITS, temperature=2.0)(context(uniform=uniform))
    np.testing.assert_allclose(got, ce(mixed) + ce(LOGITS[2]), rtol=1e-5)
    # A mask that drops one exit gives its whole share to those behind it.
    both = c[0][:, None] * LOGITS[0] + ((1 - c[0]) * c[1])[:, None] * LOGITS[1]
    whole = Mixture(EXITS, temperature=2.0, masked=False)(context(uniform=uniform))
    np.testing.assert_allclose(whole, ce(both) + ce(LOGITS[2]), rtol=1e-5)
    slope = jax.grad(lambda z: Mixture(EXITS)(context(z)).sum())(LOGITS)
    own = jax.grad(lambda z: ce(z).sum())(LOGITS[2])
    np.testing.assert_allclose(slope[2], own, rtol=1e-5, atol=1e-7)
    assert np.abs(slope[:2]).max() > 0


def test_the_weight_of_confidences_rises_behind_a_fifth_of_the_steps():
    rising = Rising(100, 2.0)
    found = [float(rising(step)) for step in (0, 19, 20, 60, 100, 200)]
    assert found == pytest.approx([0, 0, 0.2, 1.1, 2, 2])


def test_confidences_are_relaxed_samples_at_a_temperature_that_halves():
    noise = jnp.asarray(RNG.logistic(size=SURE.shape), jnp.float32)
    halves = Halving(10)
    for step, tau in ((0, 20.0), (9, 20.0), (10, 10.0), (20, 5.0), (99, 5.0)):
        loss = Mixture(EXITS, "losses", halves)(
            context(noise=noise)._replace(step=step)
        )
        c = 1 / (1 + np.exp(-np.asarray(SURE + noise, np.float64) / tau))
        expected = ce(LOGITS[2]) + sum(c[i] * ce(LOGITS[i]) for i in range(2))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_confidences_weigh_right_and_wrong_answers_alike():
    right = np.asarray(LOGITS[0].argmax(-1) == LABEL)
    assert 0 < right.sum() < B
    plain = np.logaddexp(0, np.where(right, -1, 1) * np.asarray(SURE[0]))
    expected = (plain[right].mean() + plain[~right].mean()) / 2
    got = ConfidenceTarget("exit@a")(context()).mean()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gates_and_heads_of_jei_dnn_send_each_other_no_gradient():
    heads = jax.grad(lambda z, t: GatedCrossEntropy(EXITS)(context(z, t)).sum(), (0, 1))
    logits, gates = heads(LOGITS, SURE)
    assert np.abs(logits).max() > 0 and not np.abs(gates).any()
    aims = GateTarget(EXITS, COSTS)
    logits, gates = jax.grad(lambda z, t: aims(context(z, t)).sum(), (0, 1))(
        LOGITS, SURE
    )
    assert not np.abs(logits).any() and np.abs(gates).min() > 0


def test_exits_of_jei_dnn_weigh_what_their_gates_say_and_no_product():
    g = np.array([[0.2, 0.9, 0.6], [0.5, 0.7, 0.4]], np.float32)
    expected = np.array([[0.2, 0.9, 0.6], [0.5, 0.1, 0.4], [0.3, 0.0, 0.0]])
    np.testing.assert_allclose(leaving_shares(list(g)), expected, atol=1e-6)
    p = np.asarray(jax.nn.sigmoid(SURE), np.float64)
    left = np.clip(np.minimum(p[1], 1 - p[0]), 0, None)
    each = np.stack([ce(z) for z in LOGITS])
    rest = np.maximum(1 - p[0] - p[1], 0)
    weighed = p[0] * each[0] + left * each[1] + rest * each[2]
    np.testing.assert_allclose(GatedCrossEntropy(EXITS)(context()), weighed, rtol=1e-5)


def test_gates_aim_at_the_exit_of_least_loss_and_price():
    dear = GateTarget(EXITS, COSTS, price=1e6)(context())  # all should leave at once
    np.testing.assert_allclose(dear, (np.logaddexp(0, -SURE) / 2).mean(0), rtol=1e-5)
    best = np.stack([ce(z) for z in LOGITS]).argmin(0)
    free = GateTarget(EXITS, COSTS, price=0.0)(context())
    expected = np.zeros(B)
    for e in range(2):
        aim = best <= e
        share = np.where(aim, aim.mean(), 1 - aim.mean())
        expected += np.logaddexp(0, np.where(aim, -1, 1) * SURE[e]) / (2 * share)
    np.testing.assert_allclose(free, expected / 2, rtol=1e-5)


def test_adaptive_weights_follow_the_gradient_of_logarithms():
    priorities = (0.5, 1.0, 2.0)

    def logarithms(z):
        means = jnp.stack([ce(row).mean() for row in z])
        return (jnp.array(priorities) * jnp.log(means)).sum()

    loss = AdaptiveWeights(EXITS, priorities)
    got = jax.grad(lambda z: loss(context(z)).mean())(LOGITS)
    expected = jax.grad(logarithms)(LOGITS)
    np.testing.assert_allclose(got, expected, rtol=5e-3, atol=1e-6)


def test_mistakes_are_one_line():
    for mistake, message in [
        (lambda: ExitDistillation("a", direction="up"), "forward"),
        (lambda: ExitDistillation("a", ()), "takes teachers"),
        (lambda: ExitDistillation("a", tau=0.0), "above 0"),
        (lambda: GateTarget(EXITS, (1.0,)), "1 costs for 3 exits"),
        (lambda: AdaptiveWeights(EXITS, (1.0,)), "1 priorities for 3 exits"),
        (lambda: Mixture(EXITS, "answers"), "logits"),
    ]:
        with pytest.raises(UsageError, match=message) as caught:
            mistake()
        assert "\n" not in str(caught.value)


def test_the_cost_of_gates_is_how_far_their_mean_share_is_from_the_target():
    gates = jnp.asarray(RNG.uniform(size=(B, 3)), jnp.float32)
    nothing = jnp.zeros((B, 1))
    feature = Carry(gates, nothing, nothing, jnp.zeros((B, 2, 2, 1)))
    student = Outputs({"last": feature}, {}, {}, {})
    got = GateCost("last", 0.25)(Context(student, None, {"label": LABEL}))
    np.testing.assert_allclose(got, np.full(B, (gates.mean() - 0.25) ** 2), rtol=1e-5)
