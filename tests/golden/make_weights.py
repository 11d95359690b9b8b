"""Writes weights.json: what initial weights of every recipe and backbone depend on.

Flax draws an initial weight from the names of its modules and attributes, so renaming
one changes what every seed begins with and what checkpoints hold. Run by hand, only
where such a change is meant: `python tests/golden/make_weights.py`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest import mock

import flax.core.scope
import jax
import numpy as np

from sc_jax.nets.backbones.registry import BACKBONES, exit_net
from sc_jax.nets.net import Net
from sc_jax.nets.run import init
from sc_jax.recipes import RECIPES, build, tiny

FILE = Path(__file__).with_name("weights.json")
# Its initial weights too: initialisers of most kinds.
WEIGHED = ("entropic_student",)


def tree_hash(net: Net, shape: tuple[int, ...] = (1, 28, 28, 1)) -> str:
    """Of every variable's path, shape and type, and of what each draw's key is of.

    Nothing is compiled: Flax folds a draw's path and number into the part's key.
    """
    rows: list[str] = []
    fold = flax.core.scope._fold_in_static

    def noted(key, data):
        rows.append(str(data))
        return fold(key, data)

    image = np.zeros(shape, np.uint8)
    with mock.patch.object(flax.core.scope, "_fold_in_static", noted):
        tree = jax.eval_shape(lambda: init(net, jax.random.key(0), image))
    rows += [
        f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def weights(net: Net) -> list[float]:
    """One weight of each part's largest array; the rest is not compiled."""

    @jax.jit
    def some():
        image = np.zeros((1, 28, 28, 1), np.uint8)
        params = init(net, jax.random.key(0), image).params
        leaves = [jax.tree.leaves(part) for part in params.values()]
        return [max(part, key=np.size).ravel()[-1] for part in leaves if part]

    return [round(float(weight), 6) for weight in some()]


def recipe_net(name: str) -> Net:
    return build(name, tiny(name)).net


def main() -> None:
    found = {
        "recipes": {name: tree_hash(recipe_net(name)) for name in RECIPES},
        "backbones": {n: tree_hash(exit_net(n, 5), (1, 32, 32, 3)) for n in BACKBONES},
        "weights": {name: weights(recipe_net(name)) for name in WEIGHED},
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
