"""Exits of more outputs than logits: ensembles, confidences, gates, filters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sc_jax.errors import UsageError
from sc_jax.exits.scores import features
from sc_jax.nets.exit_classifiers.classifiers import MixedPool, PooledLinear
from sc_jax.nets.exit_classifiers.gated import (
    Ensembled,
    Filter,
    Gated,
    Identity,
    LearnedConfidence,
    Pruned,
    Softening,
    uncertainties,
)

K, B = 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, 9, 9, 6)).astype(np.float32)
KEY = jax.random.key(0)


def test_the_first_ensemble_is_its_classifier_and_the_next_joins_both_geometrically():
    module = Ensembled(MixedPool(K, cascade=True))
    variables = module.init(KEY, X, None, train=False)
    _, told = module.apply(variables, X, None, train=False)
    carry = told["carry"]
    np.testing.assert_array_equal(told["own"], carry[:, 0])
    second = module.init(jax.random.key(1), X, carry, train=False)
    w, b = np.array([0.3, -0.2], np.float32), np.arange(K, dtype=np.float32)
    second = {"params": second["params"] | {"w": w, "b": b}}
    joined, told = module.apply(second, X, carry, train=False)
    assert told["carry"].shape == (B, 2, K)
    log_p = np.asarray(jax.nn.log_softmax(told["carry"]), np.float64)
    expected = b + (np.exp(w)[None, :, None] * log_p).mean(1)
    np.testing.assert_allclose(joined, expected, rtol=1e-5)


def test_ensembles_train_their_weights_and_never_a_classifier():
    module = Ensembled(PooledLinear(K))
    carry = jnp.asarray(RNG.normal(size=(B, 1, K)), jnp.float32)
    params = module.init(KEY, X, carry, train=False)["params"]

    def joined(params, carry, x):
        logits, _ = module.apply({"params": params}, x, carry, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.arange(B)
        ).sum()

    gradient, before, x = jax.grad(joined, (0, 1, 2))(params, carry, X)
    assert np.abs(gradient["w"]).min() > 0 and np.abs(gradient["b"]).max() > 0
    assert not any(np.abs(g).any() for g in jax.tree.leaves(gradient["head"]))
    assert not np.abs(before).any() and not np.abs(x).any()
    own = jax.grad(
        lambda p: module.apply({"params": p}, X, carry, train=False)[1]["own"].sum()
    )
    assert np.abs(jax.tree.leaves(own(params)["head"])[0]).max() > 0


def test_given_logits_are_an_exit_of_their_own():
    logits = RNG.normal(size=(B, K)).astype(np.float32)
    assert not Identity().init(KEY, logits, None, train=False)
    np.testing.assert_array_equal(
        Identity().apply({}, logits, None, train=False), logits
    )


def test_a_confidence_is_sampled_in_training_and_exact_otherwise():
    module = LearnedConfidence(PooledLinear(K + 1))
    variables = module.init({"params": KEY, "noise": KEY}, X, None, train=False)
    logits, told = module.apply(variables, X, None, train=False)
    both = jnp.concatenate([logits, told["confidence"][:, None]], -1)
    inner = {"params": variables["params"]["head"]}
    np.testing.assert_array_equal(
        both, PooledLinear(K + 1).apply(inner, X, None, train=False)
    )
    sure = jax.nn.sigmoid(told["confidence"])
    assert not told["noise"].any() and (told["uniform"] == 1).all()
    draw = jax.vmap(
        lambda key: module.apply(variables, X, None, train=True, rngs={"noise": key})[1]
    )
    drawn = draw(jax.random.split(KEY, 4000))
    # P(confidence + noise > 0) is the confidence itself, whatever the temperature.
    deviation = np.sqrt(sure * (1 - sure) / 4000)
    chosen = drawn["confidence"] + drawn["noise"] > 0
    assert (np.abs(chosen.mean(0) - sure) < 4 * deviation).all()
    # Who is masked is drawn apart from who leaves.
    uniform = np.asarray(drawn["uniform"]).ravel()
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * uniform.size)
    assert abs(np.corrcoef(uniform, np.ravel(drawn["noise"]))[0, 1]) < 0.03


def test_a_temperature_grows_a_step_at_a_time_while_its_answers_are_sharp():
    head, x = Identity(), 5 * RNG.normal(size=(B, K)).astype(np.float32)
    module = Softening(head, sharpness=0.5, growth=1.5)
    state, tau = module.init(KEY, x, None, train=False), 1.0
    for _ in range(8):
        (logits, told), grown = module.apply(
            state, x, None, train=True, mutable="batch_stats"
        )
        np.testing.assert_array_equal(logits, x)
        np.testing.assert_allclose(told["temperature"], tau, rtol=1e-6)
        if jax.nn.softmax(x / tau).max(-1).mean() > 0.5:
            tau *= 1.5
        state = dict(state) | grown
    assert 1.5 < tau < 1.5**8  # it grew, and stopped
    told = module.apply(state, x, None, train=False)[1]
    np.testing.assert_allclose(told["temperature"], tau, rtol=1e-6)
    with pytest.raises(UsageError, match=r"sharpness is in 0.25..1, not 0.2"):
        Softening(head, sharpness=0.2).init(KEY, x, None, train=False)


def test_a_gate_reads_the_uncertainties_that_scores_read_and_trains_no_classifier():
    module = Gated(PooledLinear(K))
    variables = module.init(KEY, X, None, train=False)
    logits, _ = module.apply(variables, X, None, train=False)
    expected = features(np.asarray(logits)[None])[0]
    np.testing.assert_allclose(uncertainties(logits), expected, atol=1e-5)

    def confidence(params):
        told = module.apply({"params": params}, X, None, train=False)[1]
        return told["confidence"].sum()

    gradient = jax.grad(confidence)(variables["params"])
    assert not any(np.abs(g).any() for g in jax.tree.leaves(gradient["head"]))
    assert np.abs(gradient["Dense_0"]["kernel"]).max() > 0


def test_a_filters_cross_entropy_is_that_of_its_two_classes_and_a_constant():
    for side, negative in ((9, 2), (130, 0)):
        x = RNG.normal(size=(B, side, side, 3)).astype(np.float32)
        module = Filter(K, negative, width=0.25)
        variables = module.init(KEY, x, None, train=False)
        logits = np.asarray(module.apply(variables, x, None, train=False))
        others = np.arange(K) != negative
        assert np.ptp(logits[:, others], axis=1).max() == 0
        two = np.stack(
            [logits[:, negative], logits[:, others][:, 0] + np.log(K - 1)], 1
        )
        ce = optax.softmax_cross_entropy_with_integer_labels
        for label in range(K):
            many = ce(logits, np.full(B, label))
            binary = ce(two, np.full(B, int(label != negative)))
            constant = 0.0 if label == negative else np.log(K - 1)
            np.testing.assert_allclose(many, binary + constant, rtol=1e-4, atol=1e-5)


def test_a_pruned_class_cannot_be_answered_any_more():
    logits = jnp.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    module = Pruned(Identity(), keep=2)

    def answer(previous, train=False):
        return module.apply({}, logits, previous, train=train)

    np.testing.assert_array_equal(answer(None), logits)
    before = jnp.array([[0.0, 1.0, 2.0, 3.0], [9.0, 0.0, 8.0, 0.0]])
    np.testing.assert_array_equal(answer(before, train=True), logits)
    second = answer(before)
    assert second.argmax(-1).tolist() == [2, 2]
    np.testing.assert_array_equal(second > -1e8, before >= 2)
    np.testing.assert_array_equal(answer(second) > -1e8, second > -1e8)
    assert np.isfinite(jax.nn.log_softmax(second)).all()
    with pytest.raises(UsageError, match="1 to 4 classes: 5"):
        Pruned(Identity(), 5).apply({}, logits, None, train=False)
