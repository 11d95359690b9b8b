"""Random variables of the right shapes: a compiled init takes seconds a module."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def drawn(init: Callable[[], Any], seed: int = 0) -> Any:
    """What `init` would give, at random; scales and variances are in 0.5..1."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.0, like.shape).astype(like.dtype)
        fan = max(1, int(np.prod(like.shape[:-1])))
        return (rng.standard_normal(like.shape) * fan**-0.5).astype(like.dtype)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(init))
