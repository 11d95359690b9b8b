"""Small nets with exits, and made-up images for them."""

import flax.linen as nn
import jax
import numpy as np

from sc_jax.compressors import FactorizedPrior
from sc_jax.data.dataset import Dataset
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear, pooled
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Exit, Net, Stage, cut_at
from sc_jax.nets.run import Variables, init
from sc_jax.traces.record import Recorded
from sc_jax.traces.trace import Trace

CLASSES, WIDTH, SIDE = 3, 4, 8


class Sure(nn.Module):
    """A head that says how sure it is."""

    classes: int

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = pooled(x)
        return nn.Dense(self.classes)(x), {"confidence": nn.Dense(1)(x)[:, 0]}


def whole(*exits: Exit) -> Net:
    stages = cnn(classes=CLASSES, width=WIDTH)
    return Net((Stage("normalise", Normalise((0.5,), (0.25,))), *stages), exits)


def exit_after(stage: str, head: type = PooledLinear) -> Exit:
    return Exit(stage, head(CLASSES))


def split() -> Net:
    """Exits on layer1 and layer2, named in another order; a split behind layer1."""
    net = whole(exit_after("layer2"), exit_after("layer1"))
    return cut_at(net, "layer1", FactorizedPrior())


def variables_of(net: Net, seed: int = 0) -> Variables:
    return init(net, jax.random.key(seed), np.zeros((1, SIDE, SIDE, 1), np.uint8))


def images(examples: int, split: str = "validation", seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=examples).astype(np.int32)
    pixels = rng.integers(0, 256, (examples, SIDE, SIDE, 1), dtype=np.uint8)
    return Dataset("made", split, ("a", "b", "c"), pixels, labels)


def recorded(split: str, examples: int = 300, seed: int = 0, **fields) -> Recorded:
    """Three made-up exits, each sees the label better; behind the first is a split."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=examples)
    ease = np.array([1.0, 2.0, 3.0])[:, None, None] * rng.uniform(0, 2, (examples, 1))
    noise = rng.normal(size=(3, examples, CLASSES))
    made = Trace(
        answers=ease * np.eye(CLASSES)[labels] + noise,
        labels=labels,
        cost=np.array([30.0, 60.0, 100.0]),
        net="made",
        exits=("exit@a", "exit@b", "final"),
        split=split,
    )
    sizes = rng.integers(20, 40, examples)
    known = {"classifier_cost": np.array([5.0, 10.0, 10.0]), "payload_bytes": sizes}
    return Recorded(made, **(known | {"on_device": 1} | fields))
