"""What every source hands over: examples with targets, in memory or read one by one.

All sources of this package are of images with one class each. A source of one's own may
hold other inputs and targets; its recipe's task (sc_jax.tasks) says what they are.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sc_jax.data.cache import cached
from sc_jax.errors import UsageError

# A decoded set up to this size is held in memory: CIFAR-10 takes 0.15 GB.
MEMORY_LIMIT_BYTES = 2 << 30
# Resized sets from here on are kept on disk: below, resizing takes half a second.
_KEPT_BYTES = 64 << 20
# Side of a batch's images where a set's own sizes vary and the caller gave none.
DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images that stay in their files; indexing decodes one, of its own size.

    read: position in the source -> uint8 [h, w, C]; called from several threads.
    indices: int64 [N], which of the source's images these are, in order.
    size: side of the square that a batch holds, or its (height, width); cropping to
        it is the pipeline's.
    """

    read: Callable[[int], np.ndarray]
    indices: np.ndarray
    channels: int
    size: int | tuple[int, int] = DEFAULT_IMAGE_SIZE

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, C] as if all were already cropped."""
        return (len(self.indices), *sides(self.size), self.channels)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.read(int(self.indices[i]))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples of one split.

    images: uint8 [N, H, W, C], C 1 or 3, or `LazyImages`; for tasks of other inputs any
        array [N, ...], such as tokens int32 [N, T].
    labels: int32 [N], in 0..len(classes)-1; for other tasks any array [N, ...], such
        as bool [N, K] of K labels at once.
    files: names in the source's folder or zip; () where examples are not files.
    damaged: bool [N], examples that cannot be read: a source marks them, `sources.load`
        drops them once the set is split.
    labelled: False where nobody knows what the examples show; labels are then -1.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    images: np.ndarray | LazyImages
    labels: np.ndarray
    files: tuple[str, ...] = ()
    damaged: np.ndarray | None = None
    labelled: bool = True

    @property
    def in_memory(self) -> bool:
        return isinstance(self.images, np.ndarray)

    @property
    def shape(self) -> tuple[int, ...]:
        """[H, W, C] of the images in a batch."""
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def example(self) -> np.ndarray:
        """Zeros [1, ...] of the shape and type that a net reads."""
        # Decoded pictures are bytes, whatever is still in the files.
        dtype = self.images.dtype if isinstance(self.images, np.ndarray) else np.uint8
        return np.zeros((1, *self.shape), dtype)

    def target(self) -> np.ndarray:
        """Zeros [1, ...] of the shape and type that a loss compares to."""
        return np.zeros((1, *self.labels.shape[1:]), self.labels.dtype)

    def image(self, i: int) -> np.ndarray:
        """uint8 [H, W, C] of one example, as a batch holds it."""
        image = self.images[i]
        return image if self.in_memory else centre_crop(image, self.images.size)

    def take(self, indices: np.ndarray, split: str | None = None) -> "Dataset":
        """The examples at `indices`, in that order, as a set of its own."""
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        else:
            images = replace(self.images, indices=self.images.indices[indices])
        labels, split = self.labels[indices], split or self.split
        files = tuple(self.files[i] for i in indices) if self.files else ()
        bad = None if self.damaged is None else self.damaged[indices]
        return replace(
            self, images=images, labels=labels, split=split, files=files, damaged=bad
        )

    def readable(self) -> "Dataset":
        """Without the examples that are marked as damaged."""
        if self.damaged is None:
            return self
        return replace(self.take(np.flatnonzero(~self.damaged)), damaged=None)

    def resized(self, size: int | tuple[int, int]) -> "Dataset":
        """The same with images of size x size, or (height, width).

        Now, and kept on disk, up to MEMORY_LIMIT_BYTES of them, else on reading.
        """
        images, (height, width) = self.images, sides(size)
        if isinstance(images, LazyImages):
            return replace(self, images=replace(images, size=size))
        if self.shape[:2] == (height, width):
            return self
        shape = (len(self), height, width, self.shape[2])
        # Enlarging may not fit, though the set itself does: then on every reading.
        if math.prod(shape) > MEMORY_LIMIT_BYTES:
            rows = np.arange(len(self))
            lazy = LazyImages(images.__getitem__, rows, self.shape[2], size)
            return replace(self, images=lazy)
        if math.prod(shape) < _KEPT_BYTES:
            return replace(self, images=_resized(images, shape))
        # A set is opened several times a run, and resizing takes longer than reading.
        digest = hashlib.sha256(np.ascontiguousarray(images).data)
        digest.update(f"resized 1 {images.shape} {shape}".encode())
        kept = cached(digest.hexdigest()[:32], lambda: _resized(images, shape))
        return replace(self, images=kept)

    def fitted(self, shape: tuple[int, ...]) -> "Dataset":
        """The same as a net takes it, [H, W, C]: resized, and in its colours.

        Grey becomes three equal channels; colour becomes grey by its luma, ITU-R 601:
        (299 R + 587 G + 114 B) / 1000.
        """
        if len(shape) != 3 or shape[2] not in (1, 3):
            raise UsageError(f"a net of inputs {list(shape)} takes no pictures")
        resized, channels = self.resized((shape[0], shape[1])), shape[2]
        images = resized.images
        if resized.shape[2] == channels:
            return resized
        if isinstance(images, LazyImages):
            read = images.read
            lazy = replace(
                images, read=lambda i: recoloured(read(i), channels), channels=channels
            )
            return replace(resized, images=lazy)
        changed = np.empty((len(self), *shape), np.uint8)
        for i, image in enumerate(images):
            changed[i] = recoloured(image, channels)
        return replace(resized, images=changed)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size, which is a square's side or both."""
    return (size, size) if isinstance(size, int) else size


def recoloured(image: np.ndarray, channels: int) -> np.ndarray:
    """uint8 [h, w, 1 or 3] -> [h, w, channels], as `Dataset.fitted` says."""
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, 2)
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def _resized(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty(shape, np.uint8)
    for i, image in enumerate(images):
        out[i] = centre_crop(image, (shape[1], shape[2]))
    return out


def centre_crop(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, C] -> the largest centred box of `size`'s aspect, resized to it."""
    height, width = image.shape[:2]
    high, wide = sides(size)
    # Compared by products: whole numbers have no rounding.
    if height * wide <= width * high:
        tall, broad = height, height * wide / high
    else:
        tall, broad = width * high / wide, width
    left, top = (width - broad) / 2, (height - tall) / 2
    return resize_box(image, (left, top, left + broad, top + tall), size)


def resize_box(
    image: np.ndarray,
    box: tuple[float, float, float, float],
    size: int | tuple[int, int],
) -> np.ndarray:
    """The box (left, top, right, bottom) of uint8 [h, w, C], as [*sides(size), C].

    Bilinear, low-passed when shrinking (Pillow's).
    """
    height, width, channels = image.shape
    high, wide = sides(size)
    # Resampling to the same size must not touch a pixel.
    if box == (0, 0, width, height) and (height, width) == (high, wide):
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    picture = picture.resize((wide, high), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture).reshape(high, wide, channels)
