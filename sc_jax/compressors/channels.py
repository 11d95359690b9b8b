"""Unreliable links: what a channel leaves of a latent, in training and simulated.

The same functions both ways: `channel(z, key)` of latents f32[B, ...] in a training
step, or of decoded ones before a tail, to measure what a loss costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from sc_jax.codec.codecs import Codec
from sc_jax.compressors.affine import Affine
from sc_jax.compressors.compressor import Compressor
from sc_jax.errors import UsageError


class Channel(Protocol):
    """A frozen value with one function."""

    def __call__(self, z: jax.Array, key: jax.Array) -> jax.Array:
        """What arrives of z f32[B, ...], each example through a draw of its own."""
        ...


@dataclass(frozen=True)
class Erasure:
    """Packets of a latent are lost and read as 0; what arrives is scaled by 1/(1 - p).

    Itahara et al. 2021 (https://arxiv.org/abs/2104.13629): dropout at the cut while
    training, packet loss without retransmission afterwards; the mean of what arrives
    is z. rate p in [0, 1); packet: values of one, in row-major order, or every n-th of
    all where `interleaved`. A link does so only to bytes of a fixed length a value
    (raw, affine): in an entropy-coded stream all behind a lost packet is lost too.
    """

    rate: float = 0.3
    packet: int = 1
    interleaved: bool = False

    def __post_init__(self):
        if not 0 <= self.rate < 1 or self.packet < 1:
            raise UsageError(
                "an erasure has rate=0 or more and below 1 and packet=1 or more, not "
                f"{self.rate} and {self.packet}"
            )

    def __call__(self, z, key):
        flat = z.reshape(len(z), -1)
        count = -(-flat.shape[1] // self.packet)
        arrived = jax.random.bernoulli(key, 1 - self.rate, (len(z), count))
        places = jnp.arange(flat.shape[1])
        packets = places % count if self.interleaved else places // self.packet
        kept = jnp.where(arrived[:, packets], flat / (1 - self.rate), 0)
        return kept.reshape(z.shape)


@dataclass(frozen=True)
class AWGN:
    """White Gaussian noise on values sent as they are (analogue), snr_db below z.

    Shao and Zhang 2019, BottleNet++ (https://arxiv.org/abs/1910.14315), where the
    channel is a layer of training. The noise's power is that of each example's mean
    square, less snr_db; no gradient passes through the power.
    """

    snr_db: float = 10.0

    def __call__(self, z, key):
        deviation = _noise_deviation(z, self.snr_db)
        return z + deviation * jax.random.normal(key, z.shape)


@dataclass(frozen=True)
class Rayleigh:
    """Slow Rayleigh fading with noise, the receiver knowing the gain and undoing it.

    One gain h an example, |h|^2 exponential with mean 1; what arrives is z + n / |h|,
    n as of AWGN. Jankowski, Gündüz and Mikolajczyk 2020
    (https://arxiv.org/abs/2007.10915) send features without a code over static and
    fading channels; that the gain is real and equalised is a reconstruction.
    """

    snr_db: float = 10.0

    def __call__(self, z, key):
        of_gain, of_noise = jax.random.split(key)
        lead = (len(z), *(1,) * (z.ndim - 1))
        gain = jnp.sqrt(jax.random.exponential(of_gain, lead))
        noise = _noise_deviation(z, self.snr_db) * jax.random.normal(of_noise, z.shape)
        return z + noise / gain


def _noise_deviation(z: jax.Array, snr_db: float) -> jax.Array:
    power = (z**2).mean(tuple(range(1, z.ndim)), keepdims=True)
    return jnp.sqrt(jax.lax.stop_gradient(power)) * math.pow(10, -snr_db / 20)


class OverChannel(Compressor):
    """A compressor whose latents pass a channel in training.

    In evaluation and in bytes it is `inner`, so that a codec stays exact; measure a
    lossy link by the channel itself, between decoding and the tail. bits: inner's.
    """

    inner: Compressor = Affine(8)
    channel: Any = Erasure()

    @nn.compact
    def __call__(self, z, *, train):
        z_hat, *rest = self.inner(z, train=train)
        if train:
            z_hat = self.channel(z_hat, self.make_rng("noise"))
        return z_hat, *rest

    @property
    def needs_latents(self) -> bool:  # type: ignore[override]
        return self.inner.needs_latents

    def _delegated(self, method: str, params, *args):
        """The parameters with inner's solved by one of its methods."""
        own = getattr(self.inner, method)(params.get("inner", {}), *args)
        return {**params, "inner": own} if own else params

    def settle(self, params):
        return self._delegated("settle", params)

    def calibrated(self, params, latents):
        return self._delegated("calibrated", params, latents)

    def codec(self, params, shape) -> Codec:
        inner: Any = self.inner
        return inner.codec(params.get("inner", {}), shape)
