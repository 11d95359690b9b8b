"""Batches of a set: an endless shuffled stream to train on.

Batches stay uint8; normalising and, for sets in memory, augmenting is the device's.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sc_jax.data import sources
from sc_jax.data.augment import AUGMENTATIONS, augment_on_device, augment_on_host
from sc_jax.data.dataset import Dataset, LazyImages
from sc_jax.data.one_pass import decoding_threads, evaluation_batches, mean_std
from sc_jax.errors import UsageError, unknown

__all__ = [
    "AUGMENTATIONS",
    "Batches",
    "Data",
    "augment_on_device",
    "batches",
    "device_kind",
    "evaluation_batches",
    "mean_std",
    "opened",
]

_PREFETCHED_BATCHES = 8
_ENDLESS = 1 << 62  # steps: what grain takes for a length


@dataclass(frozen=True)
class Data:
    """What a recipe trains on; all but the two below as in `sources.load`.

    augment: one of AUGMENTATIONS. batch_size counts all processes together.
    """

    name: str = "fashion_mnist_12k"
    batch_size: int = 128
    augment: str = "none"
    image_size: int | None = None
    data_dir: str | None = None
    test: str | None = None

    def __post_init__(self):
        _check_stream(self.batch_size, 0, self.augment)


def is_unlabelled(data: Data) -> bool:
    """Whether the training images have no labels."""
    return data.name.partition(":")[0] in sources.UNLABELLED


def opened(data: Data, split: str) -> Dataset:
    """A split of `data`, of its other set where that is what is tested."""
    if data.test is None and is_unlabelled(data):
        raise UsageError(
            f"{data.name} has no classes: name the labelled set that is tested, "
            "test=NAME (test=indexed:1000:PATH for a teacher of ImageNet)"
        )
    return sources.load(
        data.name,
        split,
        data_dir=data.data_dir,
        image_size=data.image_size,
        test=data.test,
    )


def batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    augment: str,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    names: tuple[str, str] = ("image", "label"),
) -> "Batches":
    """Endless {"image": uint8 [b, H, W, C], "label": int32 [b]}, read ahead in threads.

    Without labels there is no "label".

    names: of input and target in a batch, as the task says them.
    b = batch_size / process_count. Every epoch is a new permutation without its last,
    incomplete batch. Batch t depends on the arguments and t alone; the batches of all
    processes at t, in order of process, are the batch of a single process.
    augment: applied here if `dataset` is lazy, else left to `augment_on_device`.
    Raises UsageError: batch_size not a multiple of process_count, or above the set's.
    """
    _check_stream(batch_size, seed, augment)
    if batch_size % process_count:
        raise UsageError(
            f"batch_size {batch_size} does not divide over {process_count} processes"
        )
    if batch_size > len(dataset):
        raise UsageError(
            f"batch_size {batch_size} is more than the {len(dataset)} examples of "
            f"{dataset.name} ({dataset.split})"
        )
    source = _BatchSource(
        dataset, batch_size, seed, augment, process_index, process_count, names
    )
    return Batches(source, start_step)


def device_kind(dataset: Dataset, augment: str) -> str:
    """The kind left for `augment_on_device`: "none" where `batches` did it already."""
    return augment if dataset.in_memory else "none"


@dataclass(frozen=True)
class _BatchSource:
    """source[t] is the batch of step t."""

    dataset: Dataset
    batch_size: int
    seed: int
    augment: str
    process_index: int
    process_count: int
    names: tuple[str, str]

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        data = self.dataset
        # A function of the step alone: a resumed run needs no state but its step.
        epoch, within = divmod(index, len(data) // self.batch_size)
        # Every process draws the same permutation and takes its slice of each batch.
        share = self.batch_size // self.process_count
        start = within * self.batch_size + self.process_index * share
        indices = _permutation(len(data), self.seed, epoch)[start : start + share]
        if isinstance(data.images, LazyImages):
            images = np.empty((share, *data.shape), np.uint8)
            for row, i in enumerate(indices.tolist()):
                # Keyed by the image, not its place: processes may share out batches.
                rng = np.random.default_rng([self.seed, epoch, i])
                images[row] = augment_on_host(
                    data.images[i], data.images.size, self.augment, rng
                )
        else:
            images = data.images[indices]
        if not data.labelled:
            return {self.names[0]: images}
        return dict(zip(self.names, (images, data.labels[indices])))


class Batches(Iterator[dict[str, np.ndarray]]):
    """The iterator `batches` returns; its state is the next step, and what it is of."""

    def __init__(self, source: _BatchSource, step: int):
        self._source = source
        self._stream: Any = None
        self._restart(step)

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._stream)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Plain integers, for JSON; the number of processes may change between runs."""
        source = self._source
        identity = {"seed": source.seed, "batch_size": source.batch_size}
        return {"step": self._step, "examples": len(source.dataset), **identity}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken; UsageError if that was another stream.

        A set that has lost or won examples since is gone on with, as it is now.
        """
        # All else must agree: another seed or size is another stream.
        free = {name: state.get(name) for name in ("step", "examples")}
        expected = {**self.get_state(), **free}
        if state != expected:
            raise UsageError(f"saved data state {state} does not fit {expected}")
        self._restart(state["step"])

    def close(self) -> None:
        """Ends the threads; the iterator is then spent."""
        self._stream.close()

    def _restart(self, step: int) -> None:
        if self._stream is not None:
            # Threads that read ahead would hold batches of the old place.
            self.close()
        self._step = step
        self._stream = _stream(self._source, step)


def _stream(source: _BatchSource, step: int) -> Any:
    """Iterator with close() over source[step], source[step + 1], ..."""
    try:
        import grain  # late: sets can be read and evaluated without it
    except ImportError:
        return (source[t] for t in itertools.count(step))
    # A gather from memory is one memcpy: more threads would only contend for it.
    threads = 2 if source.dataset.in_memory else decoding_threads()
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(_PREFETCHED_BATCHES, threads)
    )
    stream = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    stream.set_state({"next_index": step})
    return stream


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Read-only: the threads share it."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.flags.writeable = False
    return order


def _check_stream(batch_size: int, seed: int, augment: str) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    if augment not in AUGMENTATIONS:
        raise unknown("augmentation", augment, AUGMENTATIONS)
