"""Fashion-MNIST: the cut in this package, and the whole set.

Xiao et al. 2017, https://arxiv.org/abs/1708.07747.
Both hold grey 28x28 photographs of products in ten balanced classes; the 12k cut is
1,000 / 200 a class of the official train / test sets (`sc_jax.data.make_embedded`).
"""

import gzip
import zlib
from importlib import resources
from pathlib import Path

import numpy as np

from sc_jax.data.dataset import Dataset
from sc_jax.errors import Missing, UsageError
from sc_jax.places import expanded

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN_PATH = "/usr/share/datasets/fashion-mnist"
EMBEDDED = "embedded/fashion_mnist_12k.npz"
_PREFIX = {"train": "train", "test": "t10k"}


def load_embedded(argument: str, part: str, data_dir: str | None) -> Dataset:
    """The 12k cut; `part` is train (10,000) or test (2,000)."""
    del data_dir
    if argument:
        raise UsageError(f"fashion_mnist_12k takes no argument, got {argument!r}")
    path = resources.files("sc_jax.data").joinpath(EMBEDDED)
    with path.open("rb") as file, np.load(file) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    return _dataset("fashion_mnist_12k", part, images, labels)


def load_full(argument: str, part: str, data_dir: str | None) -> Dataset:
    """The whole set from the folder `argument`, by default Debian's package."""
    del data_dir
    return _dataset("fashion_mnist", part, *read_part(argument or DEBIAN_PATH, part))


def read_part(folder: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 28, 28] and uint8 [N] of train or test, from the four idx.gz files."""
    stem = expanded(folder) / _PREFIX[part]
    images = _read_idx(Path(f"{stem}-images-idx3-ubyte.gz"), 3)
    labels = _read_idx(Path(f"{stem}-labels-idx1-ubyte.gz"), 1)
    if len(images) != len(labels):
        raise UsageError(f"{folder}: {len(images)} images but {len(labels)} labels")
    return images, labels


def _read_idx(path: Path, rank: int) -> np.ndarray:
    """uint8 array of `rank` axes; idx: 0 0 8 rank, big-endian int32 sizes, bytes."""
    if not path.is_file():
        raise Missing(
            f"no {path}: run `apt-get install dataset-fashion-mnist`, give another "
            "folder as fashion_mnist:PATH, or use the built-in fashion_mnist_12k"
        )
    try:
        data = gzip.decompress(path.read_bytes())
        if data[:4] != bytes([0, 0, 8, rank]):
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(data, ">i4", rank, offset=4)
        # A file cut short has fewer bytes than its sizes say: reshape refuses it.
        return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _dataset(name: str, part: str, images: np.ndarray, labels: np.ndarray) -> Dataset:
    # A channel axis: every source gives [N, H, W, C].
    return Dataset(name, part, CLASSES, images[..., None], labels.astype(np.int32))
