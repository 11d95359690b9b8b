"""Tiny nets with exits, cheap to compile, and what all their exits answer."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.compressors import Affine
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import MixedPool, PooledLinear
from sc_jax.nets.layers.blocks import Classifier
from sc_jax.nets.net import Exit, Net, SplitPoint, Stage
from sc_jax.nets.run import Variables, init, run

K = 5
SHARES = (0.4, 0.25, 0.2, 0.15)


class Layer(nn.Module):
    """Linear and ReLU; tells its width and rows, when traced and when it runs."""

    features: int = 8
    traced: Callable[[int, int], None] | None = None
    ran: Callable[[int, int], None] | None = None

    @nn.compact
    def __call__(self, x, *, train):
        if self.traced is not None:
            self.traced(self.features, len(x))
        if self.ran is not None:
            jax.debug.callback(self.ran, self.features, len(x))
        return nn.relu(nn.Dense(self.features)(x))


class Scales(nn.Module):
    """A feature that is a tuple of two scales, made and kept."""

    @nn.compact
    def __call__(self, x, *, train):
        fine, coarse = x if isinstance(x, tuple) else (x, x)
        both = jnp.concatenate([fine, coarse], -1)
        return nn.relu(nn.Dense(12)(fine)), nn.relu(nn.Dense(6)(both))


class Joined(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return jnp.concatenate(x, -1)


class Telling(nn.Module):
    """Learns a confidence; hands on a dict: all logits so far, and their sum."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = x[-1] if isinstance(x, tuple) else x
        own = nn.Dense(K)(x)
        every = own[:, None]
        if previous is not None:
            every = jnp.concatenate([previous["every"], every], 1)
            own = own + 0.5 * previous["sum"]
        carry = {"every": every, "sum": every.sum(1)}
        return own, {"confidence": nn.Dense(1)(x)[:, 0], "carry": carry}


def dense(**spies) -> Net:
    """Stages a, b, c, d of 8, 9, 10, 11 features, and fc; exits after a, b, c."""
    names = {"a": 8, "b": 9, "c": 10, "d": 11}
    stages = [Stage(name, Layer(width, **spies)) for name, width in names.items()]
    exits = tuple(Exit(name, PooledLinear(K)) for name in "abc")
    return Net((*stages, Stage("fc", Classifier(K))), exits)


def cascade() -> Net:
    """A convolutional net whose exits read the exit before (MixedPool)."""
    exits = tuple(Exit(s, MixedPool(K, 2, True)) for s in ("stem", "layer1", "layer2"))
    return Net(cnn(classes=K, width=4), exits)


def telling() -> Net:
    """Tuples of scales, exits that hand on trees, a last exit, and a split at one."""
    stages = (Stage("a", Scales()), Stage("b", Scales()), Stage("c", Joined()))
    stages = (*stages, Stage("d", Layer()), Stage("e", Layer(9)))
    exits = tuple(Exit(name, Telling()) for name in "abce")
    return Net(stages, exits, (SplitPoint("c", Affine(4)),))


def inputs(net: Net, examples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (16, 16, 1) if net.names[0] == "stem" else (7,)
    return rng.normal(size=(examples, *shape)).astype(np.float32) * 3


def made(net: Net) -> Variables:
    return init(net, jax.random.key(1), inputs(net, 2))


def recorded(net: Net, variables: Variables, x) -> tuple[np.ndarray, np.ndarray]:
    """(logits f32[E, B, K], confidences f32[E, B] in 0..1, 1/2 where none is told)."""
    out, _ = jax.jit(lambda v, x: run(net, v, x))(variables, x)
    logits = np.stack([out.predictions[name] for name in net.exit_names])
    names = [*net.exit_names[:-1], f"exit@{net.names[-1]}"]
    told = [
        out.extras.get(name, {}).get("confidence", 0 * logits[0, :, 0])
        for name in names
    ]
    return logits, np.asarray(jax.nn.sigmoid(jnp.stack(told)))


def clear_thresholds(
    score: np.ndarray, shares: tuple[float, ...] = SHARES
) -> list[float]:
    """Thresholds near those shares, in steps of 2e-4 or more of the scores f32[E, N].

    Roundings that differ between programs then change no exit.
    """
    thresholds, left = [], np.arange(score.shape[1])
    for e, gone in enumerate(np.cumsum(shares)[:-1]):
        ranked = np.sort(score[e, left])[::-1]
        steps = -np.diff(ranked)
        aim = len(left) - round((1 - gone) * score.shape[1])
        wide = np.flatnonzero(steps > 2e-4)
        at = wide[np.abs(wide - aim).argmin()]
        thresholds.append(float(ranked[at] - steps[at] / 2))
        left = left[score[e, left] < thresholds[-1]]
    return thresholds
