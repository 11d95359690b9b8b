"""Laws of every registered exit classifier, as nets.net.Exit promises them."""

import jax
import numpy as np
import pytest

from sc_jax.nets.exit_classifiers.registry import EXIT_CLASSIFIERS

K, B = 5, 3
# What nets.net.Exit names; another extra would reach no loss, trace or executor.
EXTRAS = {
    "confidence": (B,),
    "noise": (B,),
    "uniform": (B,),
    "own": (B, K),
    "temperature": (),
}
SAMPLES = [
    pytest.param(row, sample, id=f"{name}-{i}")
    for name, row in EXIT_CLASSIFIERS.items()
    for i, sample in enumerate(row.samples)
]
KEY = jax.random.key(0)
RNGS = {"params": KEY, "noise": KEY, "dropout": KEY}


def answered(result):
    logits, extras = result if isinstance(result, tuple) else (result, {})
    return logits, extras, extras.get("carry", logits)


def exits(row, sample):
    """(module, variables, x, previous) of a first and a second exit."""
    shape = (K,) if row.feature is None else row.feature
    x = np.random.default_rng(0).normal(size=(B, *shape)).astype(np.float32)
    module, previous = sample(K), None
    for _ in range(2):
        variables = module.init(RNGS, x, previous, train=False)
        yield module, variables, x, previous
        previous = answered(module.apply(variables, x, previous, train=False))[2]


@pytest.mark.parametrize(("row", "sample"), SAMPLES)
def test_it_gives_float32_logits_and_known_extras(row, sample):
    for module, variables, x, previous in exits(row, sample):
        assert type(module) is row.module
        logits, extras, _ = answered(module.apply(variables, x, previous, train=False))
        assert logits.shape == (B, K) and logits.dtype == np.float32
        assert np.isfinite(logits).all() and np.unique(np.asarray(logits)).size >= B
        for name in extras.keys() - {"carry", "weigher"}:
            assert extras[name].shape == EXTRAS[name], name
        # A loss reads the same extras in training as shapes promised.
        trained, _ = module.apply(
            variables, x, previous, train=True, rngs=RNGS, mutable=["batch_stats"]
        )
        assert answered(trained)[0].shape == (B, K)
        assert answered(trained)[1].keys() == extras.keys()


@pytest.mark.parametrize(("row", "sample"), SAMPLES)
def test_an_example_alone_is_answered_as_in_a_batch(row, sample):
    """Executors regroup examples, and a device has one."""
    for module, variables, x, previous in exits(row, sample):
        logits, _, carry = answered(module.apply(variables, x, previous, train=False))
        for i in range(B):
            before = None if previous is None else previous[i : i + 1]
            alone = answered(module.apply(variables, x[i : i + 1], before, train=False))
            np.testing.assert_allclose(alone[0][0], logits[i], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(alone[2][0], carry[i], rtol=1e-4, atol=1e-5)
