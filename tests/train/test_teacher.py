"""A teacher in portions says what it says of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.compressors import FactorizedPrior
from sc_jax.nets.bottlenecks.fp import FPDecoder, FPEncoder
from sc_jax.nets.layers.blocks import Classifier, ConvNorm
from sc_jax.nets.layers.convolution import plain
from sc_jax.nets.net import INPUT, Net, Stage, inject, insert
from sc_jax.nets.run import init, run
from sc_jax.train import teacher as frozen

TEACHER = Net((
    Stage("first", ConvNorm(4)), Stage("second", ConvNorm(4, stride=2)),
    Stage("third", ConvNorm(4)), Stage("fc", Classifier(3)),
))  # fmt: skip
PAIR = FPEncoder(4), FPDecoder(4)
STUDENT = inject(TEACHER, ("first", "second"), PAIR, FactorizedPrior())


def test_portions_change_no_bit(monkeypatch):
    monkeypatch.setattr(frozen, "_PIXELS", 2 * 12**2)
    monkeypatch.setattr(frozen, "_LEAST", 1)
    x = jax.random.normal(jax.random.key(1), (8, 12, 12, 3))
    assert frozen.portions(x) == 4
    variables = init(TEACHER, jax.random.key(0), x[:1])
    got = jax.jit(lambda v, x: frozen.taught(TEACHER, STUDENT, v, x))(variables, x)
    want = jax.jit(lambda v, x: run(TEACHER, v, x)[0])(variables, x)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_only_what_the_student_replaces_at_the_front_is_portioned():
    assert frozen.replaced(TEACHER, STUDENT) == "second"
    # Nothing is replaced, or all of it: a teacher of another kind, however deep.
    inserted = insert(TEACHER, "first", PAIR, FactorizedPrior())
    assert frozen.replaced(TEACHER, inserted) == INPUT
    assert frozen.replaced(TEACHER, Net((Stage("mine", Classifier(3)),))) == INPUT


def test_small_images_and_other_forms_stay_whole():
    # A large batch of small images too: portions would keep cores waiting.
    large, small = jnp.zeros((16, 112, 112, 3)), jnp.zeros((128, 28, 28, 1))
    assert frozen.portions(large) == 8 and frozen.portions(small) == 1
    assert frozen.portions(jnp.zeros((16, 20))) == 1
    # A prime number of images does not divide.
    assert frozen.portions(large[:13]) == 1
    with plain():
        assert frozen.portions(large) == 1
