"""Several cameras, one network over devices, edge and cloud: DDNN.

Teerapittayanon et al. 2017. Features of the devices are [B, V, H, W, C] for V views.
On the devices features are binary (eBNN, McDanel et al. 2017), so a filter of H x W
places costs H W bits; plan.transferred_bytes has the bytes.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.errors import UsageError, unknown
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.exit_classifiers.classifiers import coarsest
from sc_jax.nets.layers.blocks import Classifier, he_normal, norm, sliced
from sc_jax.nets.layers.convolution import conv2d
from sc_jax.nets.layers.pooling import max_pool
from sc_jax.nets.net import Stage

AGGREGATIONS = ("max", "mean", "concat")  # MP, AP and CC of the paper


class Views(nn.Module):
    """[B, H, W, C] -> [B, V, h, w, C]: crops of `share` of the sides on a grid.

    So a plain data set serves as one of several cameras; what has five axes is of
    several cameras already and passes. Crops overlap where share > 1 / grid.
    """

    grid: tuple[int, int] = (2, 2)
    share: float = 0.75

    @nn.compact
    def __call__(self, x, *, train):
        if x.ndim == 5:
            return x
        least = 1 / min(self.grid)  # below it some pixel is in no view
        if not least <= self.share <= 1:
            raise UsageError(f"views take {least:.3g}..1 of a side, not {self.share}")
        h, w = (math.ceil(self.share * side) for side in x.shape[1:3])
        tops = _starts(x.shape[1] - h, self.grid[0])
        lefts = _starts(x.shape[2] - w, self.grid[1])
        rows = [sliced(x, 1, top, top + h) for top in tops]
        return jnp.stack([sliced(row, 2, l, l + w) for row in rows for l in lefts], 1)


def _starts(slack: int, count: int) -> list[int]:
    if count == 1:
        # A single view is the centre.
        return [slack // 2]
    return [round(i * slack / (count - 1)) for i in range(count)]


def signs(x: jax.Array) -> jax.Array:
    """+1 where x >= 0, else -1; the gradient is that of x within -1..1, else 0."""
    # Straight through within the box, as binary networks train.
    passed = jnp.clip(x, -1, 1)
    hard = jnp.where(x >= 0, 1, -1).astype(x.dtype)
    return hard + (passed - jax.lax.stop_gradient(passed))  # exactly +1 or -1


class ConvPool(nn.Module):
    """3x3 convolution, 3x3 max pool, batch norm, and a ReLU or +1/-1 (ConvP)."""

    features: int
    stride: int = 2  # of the pool
    binary: bool = False
    binary_weights: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal, shape)
        # The float kernel is what is trained; its signs are what is used.
        kernel = signs(kernel) if self.binary_weights else kernel
        x = conv2d(x, kernel, padding="SAME")
        # Pooled before the sign: a maximum of +-1 would be +1 almost everywhere.
        x = max_pool(x, (3, 3), (self.stride, self.stride), padding="SAME")
        x = norm(train)(x)
        return signs(x) if self.binary else nn.relu(x)


class OnDevices(nn.Module):
    """ConvPool on every device: [B, V, H, W, C] -> [B, V, H', W', features].

    Each has its own parameters, or all the same ones if `shared`.
    """

    features: int
    binary: bool = True
    binary_weights: bool = False
    shared: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        def block(view):
            form = (self.features, 2, self.binary, self.binary_weights)
            return ConvPool(*form, name=f"device{view}")

        if self.shared:
            # One module over B x V: shared weights, and statistics over all views.
            y = block(0)(x.reshape(-1, *x.shape[2:]), train=train)
            return y.reshape(*x.shape[:2], *y.shape[1:])
        views = (sliced(x, 1, v, v + 1).squeeze(1) for v in range(x.shape[1]))
        own = [block(v)(view, train=train) for v, view in enumerate(views)]
        return jnp.stack(own, 1)


class Uplink(nn.Module):
    """What arrives of [B, V, ...]: zeros of a device that is missing.

    In training each is missing with probability `drop`; `missing` names devices that
    always are.
    """

    drop: float = 0.0
    missing: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x, *, train):
        absent = [v for v in self.missing if not 0 <= v < x.shape[1]]
        if absent:
            raise UsageError(f"no device {absent[0]}: there are 0 to {x.shape[1] - 1}")
        here = jnp.array([[v not in self.missing for v in range(x.shape[1])]])
        if train and self.drop:
            key = self.make_rng("dropout")
            # A draw for each example and device, so that every subset is seen.
            here &= jax.random.bernoulli(key, 1 - self.drop, x.shape[:2])
        here = here.reshape(*here.shape, *(1 for _ in x.shape[2:]))
        return jnp.where(here, x, jnp.zeros((), x.dtype))


def aggregate(x: jax.Array, how: str) -> jax.Array:
    """[B, V, ..., C] -> [B, ..., C] by max or mean, or [B, ..., V C] by concat."""
    if how == "max":
        return x.max(1)
    if how == "mean":
        return x.mean(1)
    if how == "concat":
        # Channels of one device stay together.
        x = jnp.moveaxis(x, 1, -2)
        return x.reshape(*x.shape[:-2], -1)
    raise unknown("aggregation", how, AGGREGATIONS)


class Aggregate(nn.Module):
    """The devices' features as one: the edge or the cloud's first step."""

    how: str = "concat"

    @nn.compact
    def __call__(self, x, *, train):
        return aggregate(x, self.how)


class DevicesClassifier(nn.Module):
    """The local exit: a class vector of each device, aggregated -> logits f32[B, K].

    Linear without bias on each device, so that a missing one (zeros) says nothing, in
    float where theirs is binary; one bias behind; "concat" maps V K numbers to K. The
    edge's feature is of one view.
    """

    classes: int
    how: str = "max"

    @nn.compact
    def __call__(self, x, previous, *, train):
        x = coarsest(x)
        # Behind the aggregation there is one view.
        x = x if x.ndim == 5 else x[:, None]
        flat = x.reshape(*x.shape[:2], -1)
        # Fan in of one device: V is not summed over at "max".
        start = nn.initializers.lecun_normal(batch_axis=0)
        kernel = self.param("kernel", start, (*flat.shape[1:], self.classes))
        logits = aggregate(jnp.einsum("bvn,vnk->bvk", flat, kernel), self.how)
        if self.how == "concat":
            return nn.Dense(self.classes)(logits)
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        return logits + bias.reshape(1, -1)


def ddnn(
    *,
    classes: int,
    filters: int = 4,
    grid: tuple[int, int] = (2, 2),
    share: float = 0.75,
    how: str = "concat",
    drop: float = 0.0,
    binary: bool = True,
    shared: bool = False,
    width: int = 64,
) -> tuple[Stage, ...]:
    """Stages views; device.1, device.2, device.link; aggregate, edge; cloud, fc.

    At 32 px: views 4x24x24, devices 4x12x12 and 4x6x6x`filters`, edge 6x6x`width`,
    cloud 6x6x2`width`. As in the published code the first device layer has float
    weights, the second binary ones; edge and cloud are float.
    """
    if how not in AGGREGATIONS:
        raise unknown("aggregation", how, AGGREGATIONS)
    return (
        Stage("views", Views(grid, share)),
        Stage("device.1", OnDevices(filters, binary, False, shared)),
        Stage("device.2", OnDevices(filters, binary, binary, shared)),
        Stage("device.link", Uplink(drop)),
        Stage("aggregate", Aggregate(how)),
        Stage("edge", ConvPool(width, 1)),
        Stage("cloud", ConvPool(2 * width, 1)),
        Stage("fc", Classifier(classes)),
    )


# No bottleneck: what its devices send is one bit a value already.
PRESETS = {
    "ddnn": Backbone(
        ddnn,
        cut="",
        exits=("device", "edge"),
        classifier=DevicesClassifier,
        views=True,
    )
}
