"""Sample weights get the gradient of what their step leads to, others their own."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.data.pipeline import Data
from sc_jax.errors import UsageError
from sc_jax.exits.decision import top_fraction
from sc_jax.losses.exits import AssignedCrossEntropy, WeighedCrossEntropy
from sc_jax.losses.terms import Context, Term, total
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.exit_classifiers.gated import Weighing
from sc_jax.nets.layers.blocks import ConvNorm, Normalise
from sc_jax.nets.net import Exit, Net, Stage
from sc_jax.nets.run import Outputs, init, run
from sc_jax.recipes import build, tiny
from sc_jax.train.recipe import LookAhead, Optimiser, Phase, Recipe
from sc_jax.train.step import begin, look_ahead, make_step
from sc_jax.train.validation import validate

EXITS, SIZE = ("exit@a", "final"), 0.3
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (8, 2, 2, 3), dtype=np.uint8),
    "label": RNG.integers(3, size=8),
}
JUDGED = (Term(AssignedCrossEntropy(EXITS, (0.5, 0.5))),)
WEIGHED = (Term(WeighedCrossEntropy(EXITS, "exit@b", 0.9)),)


@pytest.fixture(scope="module")
def problem():
    exits = Exit("a", PooledLinear(3)), Exit("b", Weighing(PooledLinear(3), 2, 4))
    net = Net((Stage("a", Normalise()), Stage("b", Normalise())), exits)
    variables = init(net, jax.random.key(0), BATCH["image"])

    def loss_of(hot, cold, state, taught, batch, step, key, terms=WEIGHED):
        out, _ = run(net, variables._replace(params=hot), batch["image"])
        return total(terms, Context(out, None, batch), step, "mean")[0], None

    return variables.params, loss_of


def test_the_weighers_gradient_is_that_of_the_loss_one_step_ahead(problem):
    hot, loss_of = problem
    rest = ({}, {}, None, BATCH, 0, None)
    plain = jax.grad(lambda p: loss_of(p, *rest)[0])(hot)
    ahead = LookAhead("weigher", JUDGED, SIZE)
    got = jax.jit(lambda h, g: look_ahead(ahead, loss_of, h, g, rest))(hot, plain)

    def after(weigher):
        """Written out: a step on the first half, judged on the second."""
        first = {k: v[:4] for k, v in BATCH.items()}
        second = {k: v[4:] for k, v in BATCH.items()}
        own = hot | {"exit@b": hot["exit@b"] | {"weigher": weigher}}
        slope = jax.grad(lambda p: loss_of(p, {}, {}, None, first, 0, None)[0])(own)
        moved = jax.tree.map(lambda a, g: a - SIZE * g, own, slope)
        moved = moved | {"exit@b": moved["exit@b"] | {"weigher": weigher}}
        return loss_of(moved, {}, {}, None, second, 0, None, JUDGED)[0]

    weigher, found = hot["exit@b"]["weigher"], got["exit@b"]["weigher"]
    after = jax.jit(after)
    for name in ("w2", "b2"):
        at = np.unravel_index(np.abs(found[name]).argmax(), found[name].shape)
        assert abs(found[name][at]) > 1e-5
        step = jnp.zeros_like(weigher[name]).at[at].set(0.05)
        up, down = (after(weigher | {name: weigher[name] + s}) for s in (step, -step))
        np.testing.assert_allclose(found[name][at], (up - down) / 0.1, rtol=0.05)
    rest_got = {k: v for k, v in got["exit@b"].items() if k != "weigher"}
    rest_plain = {k: v for k, v in plain["exit@b"].items() if k != "weigher"}
    for a, b in zip(*map(jax.tree.leaves, (rest_got, rest_plain))):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*map(jax.tree.leaves, (got["exit@a"], plain["exit@a"]))):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def stepped():
    """The parameters after one step of the trainer, by what a phase asks of it."""
    exits = Exit("a", PooledLinear(3)), Exit("b", Weighing(PooledLinear(3), 2, 4))
    net = Net((Stage("a", ConvNorm(4)), Stage("b", ConvNorm(4))), exits)
    images = RNG.normal(size=(8, 4, 4, 3)).astype(np.float32)
    variables = init(net, jax.random.key(0), images)
    plain = Phase("p", 10, WEIGHED, ("*",), Optimiser("sgd", 0.1))
    batch = {"image": images, "label": BATCH["label"]}

    def after(**more):
        recipe = Recipe("r", "R", Data(batch_size=8), net, (replace(plain, **more),))
        state = begin(recipe, recipe.phases[0], variables)
        state = jax.tree.map(jnp.copy, state)
        step = make_step(recipe, recipe.phases[0])
        return step(state, {}, None, batch, 0, jax.random.key(0))[0].hot

    return after


def test_the_trainers_step_takes_what_its_phase_asks_for(stepped):
    """Look ahead moves the weigher alone; equilibrium moves the trunk alone."""
    plain = stepped()
    ahead = stepped(look_ahead=LookAhead("weigher", JUDGED, SIZE))
    met = stepped(gradients="equilibrium")

    def moved(a, b):
        return not all(
            np.allclose(x, y, atol=1e-7) for x, y in zip(*map(jax.tree.leaves, (a, b)))
        )

    last, others = plain["exit@b"], {k: v for k, v in plain.items() if k != "exit@b"}
    assert moved(last["weigher"], ahead["exit@b"]["weigher"])
    assert not moved(others, {k: ahead[k] for k in others})
    assert moved(plain["a"], met["a"])
    assert not moved(plain["exit@a"], met["exit@a"]) and not moved(last, met["exit@b"])


@pytest.mark.parametrize("centring", ["mat", "col"])
def test_weights_are_one_plus_what_the_weigher_says_beside_its_mean(centring):
    z = jnp.asarray(RNG.normal(size=(2, 8, 3)), jnp.float32)
    told = {
        "w1": RNG.normal(size=(2, 4)),
        "b1": RNG.normal(size=4),
        "w2": RNG.normal(size=(4, 2)),
        "b2": RNG.normal(size=2),
    }
    extras = {"exit@b": {"weigher": jax.tree.map(jnp.asarray, told)}}
    student = Outputs({}, dict(zip(EXITS, z)), {}, extras)
    batch = {"label": jnp.asarray(BATCH["label"])}
    loss = WeighedCrossEntropy(EXITS, "exit@b", 0.4, centring)
    got = loss(Context(student, None, batch))
    log_p = np.asarray(jax.nn.log_softmax(z))
    each = -log_p[:, np.arange(8), BATCH["label"]]
    hidden = np.maximum(each.T @ told["w1"] + told["b1"], 0)
    raw = np.tanh(hidden @ told["w2"] + told["b2"])
    middle = raw.mean() if centring == "mat" else raw.mean(1, keepdims=True)
    weights = 1 + 0.4 * (raw - middle)
    np.testing.assert_allclose(got, (weights.T * each).sum(0), rtol=1e-4)
    # An exit's own weights do not average 1: weight goes from exit to exit.
    assert weights.mean() == pytest.approx(1) and abs(weights.mean(0) - 1).max() > 0.01

    def total_of(z):
        seen = student._replace(predictions=dict(zip(EXITS, z)))
        return loss(Context(seen, None, batch)).sum()

    softmax = np.asarray(jax.nn.softmax(z)) - np.eye(3)[BATCH["label"]]
    expected = weights.T[..., None] * softmax  # no gradient through the weights
    np.testing.assert_allclose(jax.grad(total_of)(z), expected, rtol=1e-3, atol=1e-5)


def test_an_unknown_centring_is_one_line():
    with pytest.raises(UsageError, match="mat, col"):
        WeighedCrossEntropy(EXITS, "exit@b", 0.4, "row")


def test_what_looks_ahead_must_be_trained():
    recipe = build("l2w_den", tiny("l2w_den"))
    wrong = replace(recipe.phases[0].look_ahead, learns="weiger")
    phases = (replace(recipe.phases[0], look_ahead=wrong),)
    with pytest.raises(UsageError, match="did you mean 'weigher'"):
        validate(replace(recipe, phases=phases), np.zeros((1, 28, 28, 1), np.uint8))


def test_assigned_examples_are_judged_at_their_own_exit():
    three = ("exit@a", "exit@b", "final")
    z = jnp.asarray(RNG.normal(size=(3, 8, 3)), jnp.float32)
    student = Outputs({}, dict(zip(three, z)), {}, {})
    got = AssignedCrossEntropy(three, (0.25, 0.5, 0.25))(
        Context(student, None, {"label": jnp.asarray(BATCH["label"])})
    )
    taken = top_fraction(np.asarray(jax.nn.softmax(z).max(-1)), (0.25, 0.5, 0.25))
    assert np.bincount(taken).tolist() == [2, 4, 2]
    log_p = np.asarray(jax.nn.log_softmax(z))
    expected = -log_p[taken, np.arange(8), BATCH["label"]]
    # Each exit's mean counts once, whatever its number: 2, 4 and 2 of 8.
    expected *= 8 / np.array([2, 4, 2])[taken]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
