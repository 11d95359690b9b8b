"""First variables that tests begin with are those that the compiled init gives."""

import jax
import numpy as np
import pytest

from sc_jax.nets import run
from sc_jax.recipes import build, tiny

EXAMPLE = np.zeros((1, 28, 28, 1), np.uint8)


def test_draws_begin_alike_whatever_their_size():
    """Of which the stand-in makes use."""
    assert jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["entropic_exits", "pomponi", "ddi"])
def test_an_init_that_is_not_compiled_gives_the_same(name, initialiser, monkeypatch):
    net = build(name, tiny(name)).net
    quick = run.init(net, jax.random.key(3), EXAMPLE)
    other = run.init(net, jax.random.key(4), EXAMPLE)
    monkeypatch.setattr(run, "_initialiser", initialiser)
    compiled = run.init(net, jax.random.key(3), EXAMPLE)
    assert initialiser(net, (0, 3), "threefry2x32")._cache_size() == 1
    assert not initialiser(net, (0, 4), "threefry2x32")._cache_size()
    assert jax.tree.structure(quick) == jax.tree.structure(compiled)
    for mine, theirs in zip(jax.tree.leaves(quick), jax.tree.leaves(compiled)):
        assert mine.aval == theirs.aval and mine.sharding == theirs.sharding
        np.testing.assert_array_equal(mine, theirs)
    same = jax.tree.map(np.array_equal, quick.params, other.params)
    assert not all(jax.tree.leaves(same))
