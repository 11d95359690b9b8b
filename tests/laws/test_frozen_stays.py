"""Law: what a run or a phase does not train keeps every bit, batch statistics too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.compressors import FactorizedPrior
from sc_jax.data.pipeline import Data
from sc_jax.losses.rate import Rate
from sc_jax.losses.task import CrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones.registry import backbone, classifier_net
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.graft import graft
from sc_jax.nets.net import FINAL, inject, match
from sc_jax.nets.run import init, run
from sc_jax.train.recipe import Optimiser, Phase, Recipe
from sc_jax.train.step import begin, divide, make_step

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def student():
    family = backbone("cnn")
    net = classifier_net("cnn", 5)
    pair = PAIRS["cr"](4, family.target, family.strides, family.small)
    return inject(net, family.replaced, pair, FactorizedPrior())


def same(a, b) -> bool:
    equal = jax.tree.map(np.array_equal, jax.device_get(a), jax.device_get(b))
    return all(jax.tree.leaves(equal))


@pytest.fixture(scope="module")
def net():
    return student()


@pytest.fixture(scope="module")
def variables(net):
    return init(net, jax.random.key(3), IMAGES)


@pytest.mark.parametrize(
    "trained", [("encoder",), ("layer2", "fc"), ("split@encoder",)]
)
def test_a_run_changes_only_the_state_of_named_parts(net, variables, trained):
    parts = match(net, trained)
    step = jax.jit(lambda v, x, k: run(net, v, x, train=parts, key=k))
    _, state = step(variables, IMAGES, jax.random.key(0))
    assert state.keys() == variables.state.keys()
    for part, before in variables.state.items():
        hot = part in parts and bool(jax.tree.leaves(before))
        assert same(state[part], before) != hot, part


def test_an_evaluation_keeps_all_state_and_needs_no_key(net, variables):
    evaluate = jax.jit(lambda v, x: run(net, v, x))
    first, state = evaluate(variables, IMAGES)
    again, _ = evaluate(variables, IMAGES)
    assert same(state, variables.state)
    assert same(first.predictions, again.predictions)


def test_noise_follows_the_key_and_only_in_training(net, variables):
    parts = frozenset({"split@encoder"})
    latent = jax.jit(lambda v, x, k: run(net, v, x, train=parts, key=k)[0])
    outs = [latent(variables, IMAGES, jax.random.key(k)) for k in (1, 1, 2)]
    finals = [np.asarray(out.predictions[FINAL]) for out in outs]
    assert np.array_equal(finals[0], finals[1])
    assert not np.array_equal(finals[0], finals[2])


def test_a_training_step_changes_the_trainable_parts_alone(net, variables):
    trainable = ("encoder", "split@encoder", "layer2")
    phase = Phase(
        "some",
        5,
        (Term(CrossEntropy()), Term(Rate(), 0.01)),
        trainable,
        Optimiser("adam", 1e-2),
    )
    recipe = Recipe("law", "Law", Data(batch_size=4), net, (phase,))
    chosen = match(net, trainable)
    hot, cold = divide(recipe, phase, variables)
    assert set(hot) == chosen and set(cold) == set(variables.params) - chosen
    before = jax.device_get(variables)
    advance = make_step(recipe, phase)
    batch = {"image": jnp.asarray(IMAGES), "label": jnp.arange(4)}
    current = jax.tree.map(jnp.copy, begin(recipe, phase, variables))
    for step in range(2):
        key = jax.random.fold_in(jax.random.key(0), step)
        current, values = advance(current, cold, None, batch, step, key)
    assert np.isfinite(values["loss"])
    assert same(variables, before)  # donation took copies
    for part in net.parts:
        after = current.hot.get(part, cold.get(part))
        assert same(after, before.params[part]) != (part in chosen), part
        stateful = part in chosen and bool(jax.tree.leaves(before.state[part]))
        assert same(current.state[part], before.state[part]) != stateful, part
    assert not any(part in str(jax.tree.structure(current.optimiser)) for part in cold)


def test_quantiles_of_the_prior_get_no_gradient(net, variables):
    parts = frozenset({"split@encoder", "encoder"})

    def bits(params):
        own = variables._replace(params=params)
        key = jax.random.key(0)
        out, _ = run(net, own, IMAGES, stop="encoder", train=parts, key=key)
        return out.bits["split@encoder"].sum()

    gradient = jax.jit(jax.grad(bits))(variables.params)
    prior = gradient["split@encoder"]
    assert not np.any(prior["quantiles"])
    assert all(np.any(prior[f"b{k}"]) for k in range(5))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient["encoder"]))


def test_graft_takes_the_donors_own_bits(net, variables):
    donor = jax.tree.map(lambda leaf: leaf + 1, variables)
    names = match(net, ("layer2",))
    mixed = graft(variables, donor, names)
    for part in net.parts:
        source = donor if part in names else variables
        assert same(mixed.params[part], source.params[part])
        assert same(mixed.state[part], source.state[part])
