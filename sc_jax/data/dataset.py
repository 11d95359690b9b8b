"""What every source hands over: examples with targets, in memory or read one by one.

All sources of this package are of images with one class each. A source of one's own may
hold other inputs and targets; its recipe's task (sc_jax.tasks) says what they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

# A decoded set up to this size is held in memory: CIFAR-10 takes 0.15 GB.
MEMORY_LIMIT_BYTES = 2 << 30
# Side of a batch's images where a set's own sizes vary and the caller gave none.
DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True, eq=False)
class LazyImages:
    """Images that stay in their files; indexing decodes one, of its own size.

    read: position in the source -> uint8 [h, w, C]; called from several threads.
    indices: int64 [N], which of the source's images these are, in order.
    size: side of the square that a batch holds; cropping to it is the pipeline's.
    """

    read: Callable[[int], np.ndarray]
    indices: np.ndarray
    channels: int
    size: int = DEFAULT_IMAGE_SIZE

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, C] as if all were already cropped."""
        return (len(self.indices), self.size, self.size, self.channels)

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
    """

    name: str
    split: str
    classes: tuple[str, ...]
    images: np.ndarray | LazyImages
    labels: np.ndarray
    files: tuple[str, ...] = ()

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
        dtype = self.images.dtype if isinstance(self.images, np.ndarray) else np.uint8
        return np.zeros((1, *self.shape), dtype)

    def target(self) -> np.ndarray:
        """Zeros [1, ...] of the shape and type that a loss compares to."""
        return np.zeros((1, *self.labels.shape[1:]), self.labels.dtype)

    def image(self, i: int) -> np.ndarray:
        """uint8 [H, W, C] of one example, as a batch holds it."""
        image = self.images[i]
        return image if self.in_memory else centre_crop(image, self.shape[0])

    def take(self, indices: np.ndarray, split: str | None = None) -> "Dataset":
        """The examples at `indices`, in that order, as a set of its own."""
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        else:
            images = replace(self.images, indices=self.images.indices[indices])
        labels, split = self.labels[indices], split or self.split
        files = tuple(self.files[i] for i in indices) if self.files else ()
        return replace(self, images=images, labels=labels, split=split, files=files)

    def resized(self, size: int) -> "Dataset":
        """The same with images of size x size: now in memory, else on reading."""
        if isinstance(self.images, LazyImages):
            return replace(self, images=replace(self.images, size=size))
        if self.shape[:2] == (size, size):
            return self
        out = np.empty((len(self), size, size, self.shape[2]), np.uint8)
        for i, image in enumerate(self.images):
            out[i] = centre_crop(image, size)
        return replace(self, images=out)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [h, w, C] -> uint8 [size, size, C]: shorter side to `size`, then centre."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return resize_box(image, (left, top, left + side, top + side), size)


def resize_box(
    image: np.ndarray, box: tuple[float, float, float, float], size: int
) -> np.ndarray:
    """The box (left, top, right, bottom) of uint8 [h, w, C], as [size, size, C].

    Bilinear, low-passed when shrinking (Pillow's).
    """
    height, width, channels = image.shape
    if box == (0, 0, width, height) and height == width == size:
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture).reshape(size, size, channels)
