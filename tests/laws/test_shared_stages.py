"""Law: stages that share an owner's parameters can be cut apart, as any others."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.nets.net import FINAL, INPUT, Net, Stage, cut_at, head, match, tail
from sc_jax.nets.run import Variables, init, run, variable_shapes


class Block(nn.Module):
    """Residual, with noise: one layer of a stack whose layers are all the same."""

    @nn.compact
    def __call__(self, x, *, train):
        y = nn.Dense(x.shape[-1])(nn.relu(x))
        return x + nn.Dropout(0.5, deterministic=not train)(y)


class Classes(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(x)


NET = Net(
    (
        Stage("block.0", Block()),
        Stage("block.1", Block(), owner="block.0"),
        Stage("block.2", Block(), owner="block.0"),
        Stage("fc", Classes()),
    )
)
X = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    return init(NET, jax.random.key(0), X)


forward = jax.jit(lambda net, v, x: run(net, v, x)[0], static_argnums=0)


def of(net: Net, variables: Variables) -> Variables:
    """What a machine that runs `net` gets: the variables of its parts alone."""
    return Variables(*({n: tree[n] for n in net.parts} for tree in variables))


def test_the_owners_parameters_are_there_once(variables):
    assert set(variables.params) == {"block.0", "fc"} == set(NET.parts)
    assert match(NET, ("block",)) == {"block.0"}


@pytest.mark.parametrize("cut", (INPUT, *NET.names))
def test_head_then_tail_is_the_whole_at_every_cut(cut, variables):
    whole = forward(NET, variables, X).predictions[FINAL]
    before, after = head(NET, cut), tail(NET, cut)
    z = forward(before, of(before, variables), X).features[cut]
    found = forward(after, of(after, variables), z).predictions[FINAL]
    np.testing.assert_array_equal(found, whole)
    assert ("block.0" in after.parts) == (cut not in ("block.2", "fc"))


def test_a_tail_is_a_net_of_its_own(variables):
    after = tail(NET, "block.0")
    assert after.across == ("block.0",) and after.names[0] == "block.1"
    fresh = variable_shapes(after, X)
    shapes = jax.tree.map(np.shape, (fresh, of(after, variables)))
    assert shapes[0] == shapes[1]
    again = tail(after, "block.1")
    assert again.across == ("block.0",) and again.names == ("block.2", "fc")
    with pytest.raises(UsageError, match="owner stage 'blok'"):
        Net((Stage("block", Block(), owner="blok"),))
    assert cut_at(after, "block.1", Block()).across == after.across


def test_stages_that_share_parameters_share_no_noise(variables):
    key = jax.random.key(1)
    train = frozenset({"block.0"})
    out, _ = jax.jit(lambda v: run(NET, v, X, train=train, key=key))(variables)
    dropped = []
    for before, name in zip((INPUT, *NET.names), NET.names[:3]):
        added = np.asarray(out.features[name] - out.features[before])
        dropped.append(added == 0)
    assert not np.array_equal(dropped[0], dropped[1])
    assert not np.array_equal(dropped[1], dropped[2])
