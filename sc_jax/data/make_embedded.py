"""Makes the Fashion-MNIST cut that ships inside the package, byte for byte.

    python -m sc_jax.data.make_embedded --source=/usr/share/datasets/fashion-mnist

The choice is seeded and keeps the official order. `np.savez_compressed` stamps every
member with the same date (1980), so the same zlib gives the same file.
"""

from pathlib import Path

import numpy as np
from absl import app, flags, logging

from sc_jax.data import fashion_mnist

SOURCE = flags.DEFINE_string(
    "source", fashion_mnist.DEBIAN_PATH, "folder of the four idx.gz files"
)
OUT = flags.DEFINE_string(
    "out", str(Path(__file__).parent / fashion_mnist.EMBEDDED), "file to write"
)
PER_CLASS = {"train": 1000, "test": 200}
SEED = 12


def choose(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of `count` examples of each class."""
    classes = range(len(fashion_mnist.CLASSES))
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:count] for c in classes]
    return np.sort(np.concatenate(chosen))


def make(source: str, out: str) -> None:
    """Writes {train,test}_images uint8 [N, 28, 28] and _labels uint8 [N] to `out`."""
    rng = np.random.default_rng(SEED)
    arrays = {}
    for part, count in PER_CLASS.items():
        images, labels = fashion_mnist.read_part(source, part)
        kept = choose(labels, count, rng)
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images[kept], labels[kept]
    np.savez_compressed(out, **arrays)


def main(argv: list[str]) -> None:
    del argv
    make(SOURCE.value, OUT.value)
    logging.info("wrote %s, %d bytes", OUT.value, Path(OUT.value).stat().st_size)


if __name__ == "__main__":
    app.run(main)
