"""What tests of big nets need of a module without compiling it."""

import jax
import numpy as np

from sc_jax.traces.cost import macs


def traced(module, *inputs):
    """(MACs, shapes of the output) of a module, by one trace; inputs may be shapes."""
    found = []

    def forward(*inputs):
        out, _ = module.init_with_output(jax.random.key(0), *inputs, train=False)
        found.append(jax.eval_shape(lambda: out))
        return out

    return macs(forward, *inputs), found[0]


def walked(stages, *image):
    """(name, MACs, shapes of the output) of each stage, of one image [H, W, C]."""
    x = jax.ShapeDtypeStruct((1, *image), np.float32)
    for stage in stages:
        cost, x = traced(stage.module, x)
        yield stage.name, cost, x


def filled(shapes):
    """Random variables of the shapes that a function gives: an init compiles long."""
    rng = np.random.default_rng(1)

    def leaf(path, like):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.0, like.shape).astype(np.float32)
        fan = max(1, int(np.prod(like.shape[:-1])))
        return rng.standard_normal(like.shape, np.float32) * np.float32(fan**-0.5)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(shapes))
