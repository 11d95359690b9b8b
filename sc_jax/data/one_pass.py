"""One pass over a set, in order: batches to evaluate on, and its mean and deviation."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sc_jax.data.dataset import Dataset


def evaluation_batches(
    dataset: Dataset, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """One pass in order: (uint8 [batch_size, H, W, C], int32 [batch_size], count).

    The last batch is filled up with black images of label -1, so that nothing is
    compiled for its size; `count` rows are real.
    Images of lazy sets: shorter side to H, then the centre.
    """
    with ThreadPoolExecutor(decoding_threads()) as pool:
        for start in range(0, len(dataset), batch_size):
            rows = range(start, min(start + batch_size, len(dataset)))
            images = np.repeat(dataset.example(), batch_size, 0)
            labels = np.repeat(dataset.target(), batch_size, 0)
            # -1 is no class: a metric of a padded row can never count as right.
            if labels.dtype.kind == "i":
                labels -= 1
            for row, image in enumerate(_read(dataset, rows, pool)):
                images[row] = image
            labels[: len(rows)] = dataset.labels[rows.start : rows.stop]
            yield images, labels, len(rows)


def mean_std(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of images scaled to 0..1; from evenly spaced examples, exactly.

    Up to 10,000 examples, 1,000 where they must be decoded. Evenly spaced, since
    folders come sorted by class. A constant channel has std 1/255, not 0.
    """
    count = min(len(dataset), 10_000 if dataset.in_memory else 1_000)
    rows = np.linspace(0, len(dataset) - 1, count).astype(int).tolist()
    levels = np.arange(256) / 255
    histograms = np.zeros((dataset.shape[2], 256), np.int64)
    with ThreadPoolExecutor(decoding_threads()) as pool:
        for start in range(0, count, 500):
            images = np.stack([*_read(dataset, rows[start : start + 500], pool)])
            for channel, histogram in enumerate(histograms):
                histogram += np.bincount(images[..., channel].ravel(), minlength=256)
    # Counts of 256 levels are exact where float sums over a set would not be.
    share = histograms / histograms.sum(1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 255.0**-2))
    return tuple(mean.tolist()), tuple(std.tolist())


def _read(dataset: Dataset, rows: Any, pool: ThreadPoolExecutor) -> Iterator:
    """uint8 [H, W, C] of each row; lazy images are read by the pool's threads."""
    return (map if dataset.in_memory else pool.map)(dataset.image, rows)


def decoding_threads() -> int:
    return min(16, os.cpu_count() or 1)
