"""A decoder that turns what a cut sends back into the image: what privacy is left.

Trained as whoever reads the messages would, from decoded latents and the images that
they came from (Dosovitskiy and Brox 2016, Inverting visual representations with
convolutional networks, https://doi.org/10.1109/CVPR.2016.522). Its figures bound the
privacy of a cut from above alone: another decoder, or more training, may see more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sc_jax.evaluate.fidelity import psnr, ssim
from sc_jax.nets.layers.blocks import Conv


@dataclass(frozen=True)
class Budget:
    """What the attacker spends: its examples, and steps of so many of them."""

    steps: int = 400
    batch: int = 32
    width: int = 32
    learning_rate: float = 3e-3
    seed: int = 0


class Decoder(nn.Module):
    """f32[B, h, w, C] or f32[B, D] -> images f32[B, H, W, K] in 0..1.

    Doubles the side until it is the image's, halving the channels down to 16.
    """

    shape: tuple[int, ...]  # of an image
    width: int = 32

    @nn.compact
    def __call__(self, z):
        height, across, channels = self.shape
        if z.ndim == 2:
            low = -(-height // 4), -(-across // 4)
            z = nn.Dense(low[0] * low[1] * self.width)(z)
            z = z.reshape(len(z), *low, self.width)
        width = self.width
        x = nn.relu(Conv(width, bias=True)(z))
        while x.shape[1] < height or x.shape[2] < across:
            x = x.repeat(2, 1).repeat(2, 2)
            width = max(16, width // 2)
            x = nn.relu(Conv(width, bias=True)(x))
        if x.shape[1:3] != (height, across):
            x = jax.image.resize(x, (len(x), height, across, width), "linear")
        x = nn.relu(Conv(width, bias=True)(x))
        return nn.sigmoid(Conv(channels, bias=True)(x))


def inverted(
    known: np.ndarray,
    images: np.ndarray,
    unseen: np.ndarray,
    budget: Budget,
) -> np.ndarray:
    """uint8 images that the attacker sees in `unseen` latents.

    known: decoded latents f32[N, ...] of `images` uint8[N, H, W, K], which it has.
    """
    axes = tuple(range(known.ndim - 1))
    mean, spread = known.mean(axes), known.std(axes) + 1e-6
    decoder = Decoder(images.shape[1:], budget.width)
    scaled = partial(_scaled, mean, spread)
    schedule = optax.cosine_decay_schedule(budget.learning_rate, budget.steps)
    optimiser = optax.adam(schedule)
    params = jax.jit(decoder.init)(jax.random.key(budget.seed), scaled(known[:1]))
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, z, target):
        def loss(params):
            return jnp.square(decoder.apply(params, z) - target).mean()

        change, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, change), state

    rng = np.random.default_rng(budget.seed)
    for _ in range(budget.steps):
        rows = rng.integers(0, len(known), budget.batch)
        target = images[rows].astype(np.float32) / 255
        params, state = step(params, state, scaled(known[rows]), target)
    answer, found = jax.jit(decoder.apply), []
    for i in range(0, len(unseen), budget.batch):
        z = _padded(unseen[i : i + budget.batch], budget.batch)
        found.append(np.asarray(answer(params, scaled(z))))
    whole = np.concatenate(found)[: len(unseen)]
    return np.rint(255 * whole).astype(np.uint8)


def _scaled(mean: np.ndarray, spread: np.ndarray, z: np.ndarray) -> np.ndarray:
    return ((z - mean) / spread).astype(np.float32)


def _padded(z: np.ndarray, batch: int) -> np.ndarray:
    """A whole batch: one program for all of them."""
    return np.concatenate([z, np.repeat(z[:1], batch - len(z), 0)])


def figures(images: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """PSNR and SSIM of held-out images, means over them and standard errors."""
    found = {}
    for name, values in (("psnr", psnr(images, seen)), ("ssim", ssim(images, seen))):
        # Two pictures that are the same have no finite PSNR.
        values = values[np.isfinite(values)]
        found[name] = float(values.mean()) if len(values) else None
        error = values.std() / len(values) ** 0.5 if len(values) else 0.0
        found[f"{name}_error"] = float(error)
    return found


def line(row: dict[str, Any]) -> str:
    shape = " x ".join(map(str, row.get("shape", ()))) or ""
    return (
        f"| {row['cut']} | {shape} | {row['bytes']:,.0f} "
        f"| {row['psnr']:.2f} ± {row['psnr_error']:.2f} "
        f"| {row['ssim']:.3f} ± {row['ssim_error']:.3f} |"
    )


COLUMNS = ("cut", "latent", "bytes", "PSNR dB", "SSIM")


def draw(rows: Sequence[tuple[str, np.ndarray]], file: Any, dpi: int = 150) -> None:
    """Rows of pictures under each other: (name, uint8 [N, H, W, K])."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = len(rows[0][1])
    size = (0.75 * count + 1.6, 0.8 * len(rows))
    figure, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
    for (name, pictures), line in zip(rows, axes):
        for picture, axis in zip(pictures, line):
            grey = picture.shape[-1] == 1
            shown = picture[..., 0] if grey else picture
            axis.imshow(shown, cmap="gray" if grey else None, vmin=0, vmax=255)
            axis.axis("off")
        line[0].text(
            -0.15, 0.5, name, ha="right", va="center", fontsize=7,
            transform=line[0].transAxes,
        )  # fmt: skip
    left = 1.5 / size[0]
    figure.subplots_adjust(left, 0.01, 0.99, 0.99, wspace=0.04, hspace=0.04)
    # Tight: a codec's name may be longer than the margin.
    figure.savefig(file, dpi=dpi, bbox_inches="tight", pad_inches=0.04)
    plt.close(figure)
