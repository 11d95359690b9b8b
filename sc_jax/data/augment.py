"""Random crops and flips of uint8 images, that keep shape and type.

Sets in memory are augmented on the device, inside the jitted step. Lazy sets are
augmented on the host, where a crop sees the picture in full size.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.data.dataset import centre_crop, resize_box, sides
from sc_jax.errors import unknown

# Share of the area and width / height of a random resized crop: Szegedy et al. 2015,
# https://arxiv.org/abs/1409.4842.
_AREA = (0.08, 1.0)
_LOG_ASPECT = (math.log(3 / 4), math.log(4 / 3))


def augment_on_device(images: jax.Array, key: jax.Array, kind: str) -> jax.Array:
    """uint8 [B, H, W, C] -> the same, each example by its own draw from `key`.

    kind: static, one of AUGMENTATIONS; "none" returns `images`. For jit.
    """
    if kind not in AUGMENTATIONS:
        raise unknown("augmentation", kind, AUGMENTATIONS)
    return AUGMENTATIONS[kind](images, key)


def windows(images: jax.Array, key: jax.Array, side: int) -> jax.Array:
    """[B, H, W, C] -> [B, side, side, C]: a random square of each image. For jit."""
    count, height, width, channels = images.shape
    # randint excludes its upper end.
    free = jnp.array([[height - side, width - side]]) + 1
    corners = jax.random.randint(key, (count, 2), 0, free)

    def cut(image, corner):
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (side, side, channels))

    return jax.vmap(cut)(images, corners)


def augment_on_host(
    image: np.ndarray,
    size: int | tuple[int, int],
    kind: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """uint8 [h, w, C] of any size -> uint8 [*sides(size), C]; NumPy and Pillow."""
    if kind == "none":
        return centre_crop(image, size)
    if kind == "resized_crop":
        height, width, _ = image.shape
        image = resize_box(image, _random_box(height, width, rng), size)
    else:
        image = centre_crop(image, size)
    if kind == "crop_flip":
        high, wide = sides(size)
        pad = _padding(high, wide)
        top, left = rng.integers(2 * pad + 1, size=2)
        image = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        image = image[top : top + high, left : left + wide]
    return image[:, ::-1] if rng.random() < 0.5 else image


def _none(images: jax.Array, key: jax.Array) -> jax.Array:
    del key
    return images


def _flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors left to right every second image, by chance."""
    # A draw an example, whatever shape the batch has on this process.
    mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def _crop_flip(images: jax.Array, key: jax.Array) -> jax.Array:
    """A crop of the image padded with black by an eighth (4 of 32), then a flip."""
    count, height, width, channels = images.shape
    pad = _padding(height, width)
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(offset_key, (count, 2), 0, 2 * pad + 1)
    # A window over a padded image: shapes are static, offsets need not be.
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def crop(image, offset):
        start = (offset[0], offset[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    return _flip(jax.vmap(crop)(padded, offsets), flip_key)


def _resized_crop(images: jax.Array, key: jax.Array) -> jax.Array:
    """A box of 8 to 100 % of the area, aspect 3/4 to 4/3, resized; then a flip."""
    count, height, width, channels = images.shape
    box_key, flip_key = jax.random.split(key)
    # Area, aspect and both coordinates of the corner from one draw.
    draws = jax.random.uniform(box_key, (count, 4))

    def crop(image, draw):
        area = height * width * (_AREA[0] + draw[0] * (_AREA[1] - _AREA[0]))
        low, high = _LOG_ASPECT
        # Uniform in the log: 3/4 and 4/3 are equally far from 1.
        aspect = jnp.exp(low + draw[1] * (high - low))
        sides = jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)])
        whole = jnp.array([height, width], jnp.float32)
        # An elongated box may be longer than the image: it is cut there.
        sides = jnp.minimum(sides, whole)
        corner = draw[2:] * (whole - sides)
        # Moving a window over a fixed grid: shapes inside jit cannot follow the box.
        scale = whole / sides
        return jax.image.scale_and_translate(
            image.astype(jnp.float32),
            (height, width, channels),
            (0, 1),
            scale,
            -corner * scale,
            "linear",
        )

    # Interpolation leaves uint8's range and grid.
    cropped = jnp.clip(jnp.round(jax.vmap(crop)(images, draws)), 0, 255)
    return _flip(cropped.astype(images.dtype), flip_key)


AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "none": _none,
    "flip": _flip,
    "crop_flip": _crop_flip,
    "resized_crop": _resized_crop,
}


def _padding(height: int, width: int) -> int:
    """4 for images of 32, as He et al. 2016 (https://arxiv.org/abs/1512.03385)."""
    return max(1, min(height, width) // 8)


def _random_box(
    height: int, width: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom), drawn as `_resized_crop` draws it."""
    # The same distribution as on the device, from NumPy's generator.
    area = height * width * rng.uniform(*_AREA)
    aspect = math.exp(rng.uniform(*_LOG_ASPECT))
    high = min(math.sqrt(area / aspect), height)
    wide = min(math.sqrt(area * aspect), width)
    top, left = rng.random() * (height - high), rng.random() * (width - wide)
    return left, top, min(left + wide, width), min(top + high, height)
