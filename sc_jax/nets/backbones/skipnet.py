"""Residual networks whose blocks run or not, input by input.

Wang et al. 2020 (DDI), after SkipNet (Wang et al. 2018): gates of blocks, and of groups
of their inner channels, by pooled features and a recurrent controller. One input alone
really skips a closed block. A batch computes every block, and closed groups are always
computed: there the gates give a cost only. Reconstruction: a block is closed when all
its groups are; blocks that change the shape always run; the controller's state goes
from gate to gate, but each owns its weights, since a cut must not tear shared ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.backbones.resnet import BasicBlock, BottleneckBlock, resnet
from sc_jax.nets.exit_classifiers.classifiers import coarsest
from sc_jax.nets.layers.blocks import ConvNorm, Pooled
from sc_jax.nets.net import Stage

WIDTH = 10  # of the controller, as SkipNet has it


class Carry(NamedTuple):
    """The feature of a gated stage; exits and later layers read the last field."""

    gates: jax.Array  # [B, G]: of the gated blocks so far, the share that runs
    cell: jax.Array  # [B, WIDTH]
    hidden: jax.Array  # [B, WIDTH]
    x: jax.Array  # [B, H, W, C]

    @property
    def executed(self) -> jax.Array:
        """f32[B]: what recording reads, where a feature has it."""
        return executed_share(self)


class Skippable(nn.Module):
    """A basic block around an identity: relu(x + gate * branch(x)).

    With `groups` its inner channels have a gate each group of them, and it runs if any
    does. Evaluation: a gate is 0 or 1 with the gradient of its probability (straight
    through), and at 0 the block gives x, bit for bit. Training: the same with logistic
    noise on the logit over `temperature` (a relaxed Bernoulli); `soft` then does not
    round. Takes the plain feature before the first gate.
    """

    features: int
    temperature: float = 1.0
    soft: bool = False
    groups: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        # The stem hands over a plain feature; from here on the state travels along.
        gates, cell, hidden, x = x if isinstance(x, tuple) else _fresh(x)
        seen = nn.relu(nn.Dense(WIDTH)(x.mean((1, 2))))
        cell, hidden = self._remember(seen, cell, hidden)
        # Open at first: a closed block would never learn what it is good for.
        logit = nn.Dense(self.groups, bias_init=nn.initializers.constant(2.0))(hidden)
        if train:
            noise = jax.random.logistic(self.make_rng("noise"), logit.shape)
            logit = (logit + noise.astype(logit.dtype)) / self.temperature
        gate = jax.nn.sigmoid(logit)
        if not (train and self.soft):
            hard = (logit > 0).astype(gate.dtype)
            gate = hard + (gate - jax.lax.stop_gradient(gate))  # exactly 0 or 1
        # A block runs as soon as one of its groups does.
        runs = gate.max(-1, keepdims=True)
        # Both branches must exist at initialisation, for their parameters.
        if x.shape[0] == 1 and not train and not self.is_initializing():
            nothing = lambda block, x, gate: jnp.zeros_like(x)  # noqa: E731
            y = nn.cond(runs[0, 0] > 0, Skippable._branch, nothing, self, x, gate)
        else:
            y = self._branch(x, gate, train)
        x = nn.relu(x + runs.reshape(-1, 1, 1, 1) * y)
        gates = jnp.concatenate([gates, gate.mean(-1, keepdims=True)], -1)
        return Carry(gates, cell, hidden, x)

    def _branch(self, x, gate, train: bool = False):
        conv = partial(ConvNorm, self.features, kernel=3, padding=1)
        y = conv(name="ConvNorm_0")(x, train=train)
        if self.groups > 1:
            each = y.reshape(*y.shape[:3], self.groups, -1)
            y = (each * gate.reshape(-1, 1, 1, self.groups, 1)).reshape(y.shape)
        own = conv(relu=False, name="ConvNorm_1")
        return own(y, train=train)

    def _remember(self, seen, cell, hidden):
        """One step of an LSTM, as one product: flax's own cell has eight kernels."""
        both = jnp.concatenate([seen, hidden], -1)
        gates = nn.Dense(4 * WIDTH, name="lstm")(both)
        # Forget, input, cell and output gate of the LSTM.
        keep, write, new, show = jnp.split(gates, 4, -1)
        # +1: it remembers at first (Jozefowicz et al. 2015).
        cell = jax.nn.sigmoid(keep + 1) * cell + jax.nn.sigmoid(write) * jnp.tanh(new)
        return cell, jax.nn.sigmoid(show) * jnp.tanh(cell)


class Always(nn.Module):
    """A block that always runs; gates and state pass it by."""

    block: nn.Module

    @nn.compact
    def __call__(self, x, *, train):
        if not isinstance(x, tuple):
            return self.block(x, train=train)
        carry = Carry(*x)
        return carry._replace(x=self.block(carry.x, train=train))


def _fresh(x: jax.Array) -> Carry:
    none, zeros = (jnp.zeros((x.shape[0], n), x.dtype) for n in (0, WIDTH))
    return Carry(none, zeros, zeros, x)


def gates(feature: Any) -> jax.Array:
    """f32[B, G] in 0..1 of a gated stage's feature; the last such has all."""
    if not isinstance(feature, Carry):
        raise UsageError("this stage's feature has no gates: take a gated block's")
    return feature.gates.astype(jnp.float32)


def executed_share(feature: Any, costs: Sequence[float] = ()) -> jax.Array:
    """f32[B] in 0..1: the share of gated blocks that run, or of their `costs` [G].

    All gated blocks of the CIFAR form take the same MACs, so equal costs suit it.
    """
    share = gates(feature)
    if not costs:
        return share.mean(-1)
    if len(costs) != share.shape[-1]:
        raise UsageError(f"{len(costs)} costs for {share.shape[-1]} gates")
    weights = jnp.asarray(costs, jnp.float32)
    return share @ (weights / weights.sum())


class LastPooled(nn.Module):
    """Global average pool of the last leaf: -> [B, C]."""

    @nn.compact
    def __call__(self, x, *, train):
        return coarsest(x).mean((1, 2))


def skipnet(
    *,
    classes: int,
    depth: int = 20,
    temperature: float = 1.0,
    soft: bool = False,
    groups: int = 1,
) -> tuple[Stage, ...]:
    """The stages of nets.backbones.resnet, of which blocks around an identity are
    gated.

    groups: of inner channels, each with a gate; it divides every block's width.
    """

    def gated(module: nn.Module) -> nn.Module:
        if isinstance(module, BottleneckBlock):
            raise UsageError(
                f"no skippable ResNet of depth {depth}. Known: 20, 32, 38, 44, 56, 74, "
                "110 (CIFAR form), 18, 34"
            )
        if isinstance(module, Pooled):
            return LastPooled()
        if not isinstance(module, BasicBlock):
            return module
        # No identity around it to fall back on.
        if module.stride > 1:
            return Always(module)
        if module.features % groups:
            raise UsageError(
                f"{groups} groups do not divide {module.features} channels"
            )
        return Skippable(module.features, temperature, soft, groups)

    return tuple(
        Stage(stage.name, gated(stage.module))
        for stage in resnet(depth=depth, classes=classes)
    )


def is_gated(stages: tuple[Stage, ...]) -> bool:
    """Whether any of the stages has gates."""
    return any(isinstance(stage.module, Skippable) for stage in stages)


# No bottleneck: what is cut carries the controller's state and the gates so far.
PRESETS = {
    name: Backbone(partial(skipnet, **knobs), cut="", exits=("layer1", "layer2"))
    for name, knobs in {
        "skipnet": {},
        "skipnet14": {"depth": 14},
        "skipnet14_g4": {"depth": 14, "groups": 4},
    }.items()
}
