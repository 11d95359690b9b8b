"""Sample weights get the gradient of what their step leads to, others their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.config import LookAhead
from sc_jax.losses.exits import AssignedCrossEntropy, WeighedCrossEntropy
from sc_jax.losses.terms import Context, Term, total
from sc_jax.nets.blocks import Normalise
from sc_jax.nets.heads import PooledLinear
from sc_jax.nets.judging import Weighing
from sc_jax.nets.net import Exit, Net, Stage
from sc_jax.nets.run import Outputs, init, run
from sc_jax.train.step import look_ahead

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


def test_assigned_examples_are_judged_at_their_own_exit():
    z = jnp.asarray(RNG.normal(size=(2, 8, 3)), jnp.float32)
    student = Outputs({}, dict(zip(EXITS, z)), {}, {})
    got = AssignedCrossEntropy(EXITS, (0.25, 0.75))(
        Context(student, None, {"label": jnp.asarray(BATCH["label"])})
    )
    sure = np.argsort(-np.asarray(jax.nn.softmax(z[0]).max(-1)))[:2]
    log_p = np.asarray(jax.nn.log_softmax(z))
    expected = -log_p[1, np.arange(8), BATCH["label"]]
    expected[sure] = -log_p[0, sure, BATCH["label"][sure]]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
