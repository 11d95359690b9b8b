"""The Entropic Student's encoder and decoder, as published and with cheaper stems."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from sc_jax.errors import unknown
from sc_jax.nets.layers.blocks import GDN1, Conv, he_normal

ACTIVATIONS = ("gdn", "sigmoid", "relu")
STEMS = ("published", "patch", "depthwise", "space_to_depth")
# Uniform in +-1 / sqrt(fan in), as PyTorch's convolutions start. From He's wider one
# the decoder's squares overshoot a linear feature twentyfold, and come back to zero.
PUBLISHED_START = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def activate(kind: str, x):
    """What stands between an encoder's convolutions; call it inside a module.

    gdn: GDN1, as published. sigmoid: x * sigmoid(beta - gamma |x|), a like map without
    a division, for devices that have no integer one. relu.
    """
    if kind == "gdn":
        return GDN1()(x)
    if kind == "sigmoid":
        # The 1x1 map plays gamma's part, its bias beta's.
        return x * nn.sigmoid(Conv(x.shape[-1], 1, padding=0, bias=True)(jnp.abs(x)))
    if kind == "relu":
        return nn.relu(x)
    raise unknown("activation", kind, ACTIVATIONS)


class FPEncoder(nn.Module):
    """Analysis transform of the Entropic Student (Matsubara et al. 2022).

    Channels 4b, 2b, b; kernels 5, 5, 2; GDN1 between. With strides (2, 2) a side n
    gives ceil(n / 4) - 1. As published no convolution has a bias: but for rounding the
    transform is odd. `small`, for few channels and few steps, gives each one, and draws
    the kernels wider (He's).

    `stem` makes the first two cheaper and leaves the latent's shape: "patch" cuts the
    image into squares (4x4 for strides 2, 2) of 2b channels and mixes them 3x3;
    "depthwise" makes the second depthwise-separable; "space_to_depth" folds 2x2 pixels
    into channels before a 3x3 first. At 224, b = 24 and ReLU: 466 MMAC as published,
    86, 126 and 505.
    """

    channels: int = 24
    strides: tuple[int, int] = (2, 2)
    small: bool = False
    stem: str = "published"
    activation: str = "gdn"

    @nn.compact
    def __call__(self, x, *, train):
        start = he_normal if self.small else PUBLISHED_START
        conv = partial(Conv, bias=self.small, start=start)
        first, second = self.strides
        # As published for 24: 96, 48, 24.
        wide, narrow = 4 * self.channels, 2 * self.channels
        if self.stem == "patch":
            # Kernel equal to stride: no pixel is read twice, which is what makes it
            # cheap.
            x = conv(narrow, first * second, first * second)(x)
            x = activate(self.activation, x)
            x = conv(narrow, 3)(x)
        elif self.stem == "space_to_depth":
            x = conv(wide, 3)(space_to_depth(x, first))
            x = activate(self.activation, x)
            x = conv(narrow, 5, second, padding=2)(x)
        elif self.stem in ("published", "depthwise"):
            x = conv(wide, 5, first, padding=2)(x)
            x = activate(self.activation, x)
            if self.stem == "depthwise":
                x = conv(wide, 5, second, padding=2, groups=wide)(x)
                x = conv(narrow, 1, padding=0)(x)
            else:
                x = conv(narrow, 5, second, padding=2)(x)
        else:
            raise unknown("stem", self.stem, STEMS)
        x = activate(self.activation, x)
        # No activation behind it: the prior codes a latent of both signs.
        return conv(self.channels, 2, padding=0)(x)


def space_to_depth(x, block: int):
    """[B, H, W, C] -> [B, ceil(H / block), ceil(W / block), block^2 C]; zero-padded."""
    _, height, width, channels = x.shape
    # Behind the image only, so that its own pixels keep their place in a block.
    x = jnp.pad(x, ((0, 0), (0, -height % block), (0, -width % block), (0, 0)))
    rows, columns = x.shape[1] // block, x.shape[2] // block
    x = x.reshape(-1, rows, block, columns, block, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, block**2 * channels)


class FPDecoder(nn.Module):
    """Synthesis transform to the replaced stage: channels 2t, t, t, one pixel larger.

    `target` is t, the channels of the stage whose output it restores. As published
    it has no bias and a linear end; `small` gives it biases, and a ReLU unless the
    feature that it restores is `linear`. Before a ReLU kernels start wider (He's).
    """

    target: int
    small: bool = False
    linear: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        rectified = self.small and not self.linear
        start = he_normal if rectified else PUBLISHED_START
        conv = partial(Conv, bias=self.small, start=start)
        # Even kernels: the side grows by one, shrinks by one, and grows by one.
        x = conv(2 * self.target, 2, padding=1)(x)
        x = GDN1(inverse=True)(x)
        x = conv(self.target, 2, padding=0)(x)
        x = GDN1(inverse=True)(x)
        x = conv(self.target, 2, padding=1)(x)
        return nn.relu(x) if rectified else x
