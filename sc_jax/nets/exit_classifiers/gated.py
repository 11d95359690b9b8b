"""Exit classifiers with more outputs than logits: confidences, ensembles, weights.

Each wraps a plain one of nets/exit_classifiers/classifiers.py, as its attribute `head`:
Flax draws first weights from attribute names and checkpoints hold them, so that one
stays. What an exit may give beside logits stands at nets.net.Exit.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError
from sc_jax.nets.exit_classifiers.classifiers import coarsest, pooled
from sc_jax.nets.layers.blocks import ConvNorm, sliced
from sc_jax.nets.layers.pooling import mean_pool


class Identity(nn.Module):
    """The feature is the logits already: a last exit behind the backbone's own fc."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        return x


class Ensembled(nn.Module):
    """A geometric ensemble of this exit and all before it: b_m + mean_j e^w_mj log p_j.

    Zero Time Waste (Wolczyk et al. 2021): w starts near 0, b [K] at 0, and neither
    sends a gradient into a classifier, so both may learn in one phase. The inner one
    reads the own logits of the exit before. Extra: "own", its logits alone.
    """

    head: nn.Module

    @nn.compact
    def __call__(self, x, previous, *, train):
        # `previous` holds the logits of all exits so far; the inner one reads the last.
        before = None if previous is None else sliced(previous, 1, -1, None).squeeze(1)
        own = self.head(x, before, train=train)
        every = own[:, None]  # [B, exits so far, K]
        if previous is not None:
            every = jnp.concatenate([previous, every], 1)
        # The ensemble learns weights alone: classifiers have their own loss.
        log_p = jax.nn.log_softmax(jax.lax.stop_gradient(every))
        w = self.param("w", nn.initializers.normal(0.01), (every.shape[1],))
        b = self.param("b", nn.initializers.zeros, (own.shape[-1],))
        # e^w keeps weights positive: an exit may be ignored, never inverted.
        joined = b.reshape(1, -1) + (jnp.exp(w).reshape(1, -1, 1) * log_p).mean(1)
        return joined, {"own": own, "carry": every}


class LearnedConfidence(nn.Module):
    """A classifier whose last output learns whether to leave (Pomponi et al. 2021).

    `head` has K + 1 outputs, logits and the confidence's logit. Extras: "confidence"
    [B], that logit, and "noise" [B]: a logistic sample in training, else 0. In training
    their sum over a temperature is a relaxed Bernoulli's logit (losses.gates.Mixture).
    "uniform" [B] decides who is masked: a sample of 0..1 in training, else 1.
    """

    head: nn.Module

    @nn.compact
    def __call__(self, x, previous, *, train):
        outputs = self.head(x, previous, train=train)
        logits = sliced(outputs, 1, 0, -1)
        confidence = sliced(outputs, 1, -1, None).squeeze(1)
        # Always there, so that losses need not know the mode.
        noise, uniform = jnp.zeros_like(confidence), jnp.ones_like(confidence)
        if train:
            noise = jax.random.logistic(self.make_rng("noise"), confidence.shape)
            uniform = jax.random.uniform(self.make_rng("noise"), confidence.shape)
        return logits, {"confidence": confidence, "noise": noise, "uniform": uniform}


class Softening(nn.Module):
    """A teaching exit that softens while it is sharp (Phuong & Lampert 2019).

    Extra: "temperature", a scalar: 1 at first, and `growth` times itself after each
    training step at which the batch's mean largest probability at it is over
    `sharpness`. It stands with the batch statistics: resumed runs know it.
    """

    head: nn.Module
    sharpness: float = 0.5
    growth: float = 1.05

    @nn.compact
    def __call__(self, x, previous, *, train):
        logits = self.head(x, previous, train=train)
        if not 1 / logits.shape[-1] < self.sharpness < 1:
            least = 1 / logits.shape[-1]
            raise UsageError(f"sharpness is in {least:g}..1, not {self.sharpness:g}")
        # Beside batch statistics: state that is saved, and untouched where frozen.
        kept = self.variable("batch_stats", "temperature", jnp.ones, ())
        tau = kept.value
        if train:
            # The schedule follows the exit; it must not push it.
            sure = jax.nn.softmax(jax.lax.stop_gradient(logits) / tau).max(-1).mean()
            kept.value = jnp.where(sure > self.sharpness, self.growth * tau, tau)
        return logits, {"temperature": tau}


class Gated(nn.Module):
    """A classifier with a gate, linear in four uncertainties of its logits (JEI-DNN).

    Regol et al. 2024. The gate sends no gradient into the classifier. Extra:
    "confidence" [B], the gate's logit. The uncertainties are those of exits.scores.
    """

    head: nn.Module

    @nn.compact
    def __call__(self, x, previous, *, train):
        logits = self.head(x, previous, train=train)
        # Else a gate could become right by making its classifier unsure.
        read = uncertainties(jax.lax.stop_gradient(logits))
        return logits, {"confidence": nn.Dense(1)(read)[:, 0]}


class Pruned(nn.Module):
    """A classifier over the `keep` likeliest classes of the exit before (ICNN).

    Neshatpour et al. 2019 prune classes by what earlier stages saw: here and at every
    later such exit the others' logits are -1e9; training keeps all. Reconstruction: one
    number for all exits.
    """

    head: nn.Module
    keep: int

    @nn.compact
    def __call__(self, x, previous, *, train):
        logits = self.head(x, None, train=train)
        if not 1 <= self.keep <= logits.shape[-1]:
            raise UsageError(f"keep is 1 to {logits.shape[-1]} classes: {self.keep}")
        if previous is None or train:
            return logits
        # The k-th largest as a bound: ties keep more than k, none is cut by chance.
        least = sliced(jax.lax.top_k(previous, self.keep)[0], 1, -1, None)
        # Not -inf: a softmax of these stays finite, and later exits prune them again.
        return jnp.where(previous >= least, logits, -1e9)


class Weighing(nn.Module):
    """A last exit that also owns the map from losses to sample weights (L2W-DEN).

    Han et al. 2022. Extra: "weigher", kernels and biases of two linear layers, E losses
    -> `width` -> E, for losses.exits.WeighedCrossEntropy; the logits do not read them.
    """

    head: nn.Module
    exits: int
    width: int = 64

    @nn.compact
    def __call__(self, x, previous, *, train):
        logits = self.head(x, previous, train=train)
        weigher = _Weigher(self.exits, self.width, name="weigher")()
        return logits, {"weigher": weigher}


class _Weigher(nn.Module):
    exits: int
    width: int

    @nn.compact
    def __call__(self):
        # Parameters only: the loss applies the map, to losses that no exit sees.
        start, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        return {
            "w1": self.param("w1", start, (self.exits, self.width)),
            "b1": self.param("b1", zeros, (self.width,)),
            "w2": self.param("w2", start, (self.width, self.exits)),
            "b2": self.param("b2", zeros, (self.exits,)),
        }


class Filter(nn.Module):
    """Is the input of class `negative`, or of any other? (Matsubara & Levorato 2020).

    [B, H, W, C] -> [B, K]: two logits, "any other" shared evenly among its classes, so
    that cross-entropy with the K labels is that of the two and a constant. Their
    filter: pool to at most 64x64, 4x4/2 64, 3x3/2 32, 2x2 16, linear of the mean (there
    of 8x8); `width` scales it.
    """

    classes: int
    negative: int = 0
    width: float = 1.0

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = coarsest(x)
        window = tuple(-(-side // 64) for side in x.shape[1:3])
        # Their filter saw at most 64 x 64 pixels, whatever the camera gives.
        x = mean_pool(x, window, window)
        for features, side, stride in ((64, 4, 2), (32, 3, 2), (16, 2, 1)):
            features = max(1, round(self.width * features))
            x = ConvNorm(features, side, stride)(x, train=train)
        two = nn.Dense(2)(pooled(x))
        others = jnp.ones((1, self.classes), bool).at[0, self.negative].set(False)
        # The log of an even share: exp sums back to the one "any other" class.
        share = sliced(two, 1, 1, None) - math.log(self.classes - 1)
        return jnp.where(others, share, sliced(two, 1, 0, 1))


def uncertainties(logits: jax.Array) -> jax.Array:
    """f32[B, 4]: largest probability, margin, entropy / ln K, and that of p^2."""
    log_p = jax.nn.log_softmax(logits)
    # p^2 renormalised: squares in logs are a factor of two.
    sharp = jax.nn.log_softmax(2 * log_p)
    top = jnp.exp(jax.lax.top_k(log_p, 2)[0])
    nats = [-(jnp.exp(p) * p).sum(-1) for p in (log_p, sharp)]
    scaled = [n / math.log(logits.shape[-1]) for n in nats]
    return jnp.stack([top[:, 0], top[:, 0] - top[:, 1], *scaled], -1)
