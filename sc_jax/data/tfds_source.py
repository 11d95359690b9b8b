"""Prepared TensorFlow Datasets, read without TensorFlow: `tfds:NAME[:config]`.

Only the prepared folder is looked at, never the network: asking TFDS itself for a set
that is not there retries downloads for minutes. `launch.prepare_data` makes the folder.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sc_jax.data.cache import cached, key_of
from sc_jax.data.dataset import MEMORY_LIMIT_BYTES, Dataset, LazyImages
from sc_jax.errors import Missing, UsageError
from sc_jax.places import expanded

DEFAULT_DATA_DIR = "~/tensorflow_datasets"
_SPLITS = {"train": ("train",), "test": ("test", "validation")}
_CHUNK = 500
_SHARD_BYTES = 1 << 16  # the least that array_record writes
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def load_tfds(argument: str, part: str, data_dir: str | None) -> Dataset:
    """`part` (train or test) of the newest prepared version of the set.

    The validation split is the test part where the test split is missing or, as that
    of ImageNet, has no labels. Sets of equal-sized images up to 2 GiB are decoded once
    into memory and kept (`sc_jax.data.cache`); others are read one by one.
    """
    name = f"tfds:{argument}"
    folder = prepared_folder(argument, data_dir)
    with _foreign(folder):
        builder = _open(name, folder)
        image_key, label_key = _keys(name, builder.info.features)
        files = sorted(path for path in folder.iterdir() if path.is_file())
        split, labels = _labelled_split(name, part, builder, label_key, files)
        read = _reader(builder, split, image_key)
        *size, channels = builder.info.features[image_key].shape
        if None in size or len(labels) * np.prod([*size, 3]) > MEMORY_LIMIT_BYTES:
            indices = np.arange(len(labels))
            images = LazyImages(lambda i: read([i])[0], indices, channels)
        else:
            shape = (len(labels), *size, channels)
            key = key_of(f"tfds 1 {split} {image_key}", files)
            images = cached(key, lambda: _fill(read, shape, np.uint8, name))
        classes = tuple(builder.info.features[label_key].names)
    return Dataset(name, part, classes, images, labels)


def prepared_folder(argument: str, data_dir: str | None) -> Path:
    """DATA_DIR/NAME[/config]/VERSION, the newest; UsageError if it was not prepared."""
    data_dir = data_dir or DEFAULT_DATA_DIR
    command = f"python -m launch.prepare_data --data=tfds:{argument}"
    if data_dir != DEFAULT_DATA_DIR:
        command += f" --data_dir={data_dir}"
    if not argument:
        raise UsageError("tfds needs a set: tfds:NAME[:config], as tfds:cifar10")
    root = expanded(data_dir).joinpath(*argument.replace(":", "/").split("/"))
    # TFDS writes into VERSION.incomplete..., and renames that once it is whole.
    found = [
        path.parent for path in root.glob("*/dataset_info.json")
        if _VERSION.fullmatch(path.parent.name)
    ]  # fmt: skip
    if found:
        # By number: as text 10.0.0 would come before 9.0.0.
        return max(found, key=lambda path: _version(path.name))
    configs = sorted({p.parent.parent.name for p in root.glob("*/*/dataset_info.json")})
    if configs:
        known = ", ".join(f"tfds:{argument}:{config}" for config in configs)
        raise UsageError(f"tfds:{argument} is prepared in configurations: {known}")
    raise Missing(f"tfds:{argument} is not prepared in {data_dir}: run `{command}`")


def prepare(argument: str, data_dir: str | None) -> Path:
    """Makes the folder that `load_tfds` reads. Imports TensorFlow; uses the network."""
    import tensorflow_datasets as tfds

    root = expanded(data_dir or DEFAULT_DATA_DIR)
    try:
        builder = tfds.builder(argument.replace(":", "/"), data_dir=root)
        builder.download_and_prepare(file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise UsageError(
            f"TFDS knows no set {argument!r}; --builder=MODULE registers your own"
        ) from error
    except (ValueError, OSError) as error:  # unknown configuration, no network
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"cannot prepare tfds:{argument}: {reason}") from error
    folder = prepared_folder(argument, str(root))
    _open(f"tfds:{argument}", folder)
    return folder


def _open(name: str, folder: Path) -> Any:
    """The folder's read-only builder; UsageError if it is not array_record."""
    import tensorflow_datasets as tfds  # late: 2 s, and only this source needs it

    for file in ("dataset_info.json", "features.json"):
        try:
            whole = isinstance(json.loads((folder / file).read_bytes()), dict)
        except (OSError, ValueError, RecursionError):
            whole = False
        if not whole:
            raise _damaged(folder, f"{file} cannot be read")
    builder = tfds.builder_from_directory(str(folder))
    formats = {form.value for form in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise UsageError(
            f"{folder} holds {', '.join(sorted(formats))}, not array_record: move it "
            f"away and run `python -m launch.prepare_data --data={name}`"
        )
    return builder


def _keys(name: str, features: Any) -> tuple[str, str]:
    """Names of the image and of the class label, where there is one of each."""
    import tensorflow_datasets as tfds

    images = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
    labels = [k for k, v in features.items() if isinstance(v, tfds.features.ClassLabel)]
    image, label = images[:1], labels[:1]
    # Sets with several labels call the usual one so.
    if "label" in labels:
        label = ["label"]
    if len(images) != 1 or not label or (len(labels) > 1 and label != ["label"]):
        raise UsageError(
            f"{name} is no set of images with one class each: it holds "
            + ", ".join(features)
        )
    feature = features[image[0]]
    if feature.np_dtype != np.uint8 or feature.shape[-1] not in (1, 3):
        raise UsageError(f"{name} holds no 8-bit grey or RGB images: {feature}")
    return image[0], label[0]


def _labelled_split(
    name: str, part: str, builder: Any, label_key: str, files: list[Path]
) -> tuple[str, np.ndarray]:
    """The split that serves as `part`, and its labels, int32 [N], none negative."""
    known = builder.info.splits
    for split in _SPLITS[part]:
        if split not in known:
            continue
        shape = (known[split].num_examples,)
        read = _reader(builder, split, label_key)
        key = key_of(f"tfds 1 {split} {label_key}", files)
        labels = cached(key, lambda: _fill(read, shape, np.int32, name))  # noqa: B023
        # Test parts of competitions carry -1 for every label.
        if labels.size and labels.min() >= 0:
            return split, labels
    raise UsageError(f"{name} has no labelled {part} split, only {', '.join(known)}")


def _reader(builder: Any, split: str, key: str) -> Callable[[Sequence[int]], list]:
    """rows -> the feature `key` of each; other images stay undecoded.

    UsageError that names the shard of a row that cannot be read.
    """
    import tensorflow_datasets as tfds

    skip = tfds.decode.SkipDecoding()  # PartialDecoding needs TensorFlow's reader
    others = {k: v for k, v in builder.info.features.items() if k != key}
    image = tfds.features.Image
    decoders = {k: skip for k, v in others.items() if isinstance(v, image)}
    about = builder.info.splits[split]
    folder, shards = Path(str(builder.data_path)), [*map(Path, about.filepaths)]
    ends = np.cumsum(about.shard_lengths)
    for shard in shards:
        if not shard.is_file() or shard.stat().st_size < _SHARD_BYTES:
            raise _damaged(folder, f"{shard.name} is missing or cut short")
    source = builder.as_data_source(split, decoders=decoders)

    def values(rows: Sequence[int]) -> list:
        found = [example[key] for example in source.__getitems__(rows)]
        if any(each is None for each in found):  # of a shard that is cut short
            raise ValueError("a record is missing")
        return found

    def read(rows: Sequence[int]) -> list:
        try:
            return values(rows)
        except Exception as error:
            row = next((r for r in rows if _fails(values, r)), rows[0])
            shard = shards[int(np.searchsorted(ends, row, "right"))].name
            raise _damaged(folder, f"{shard}: {_line(error)}") from error

    return read


def _fails(values: Callable[[Sequence[int]], list], row: int) -> bool:
    try:
        values([row])
    except Exception:
        return True
    return False


@contextmanager
def _foreign(folder: Path) -> Iterator[None]:
    """UsageError for whatever TFDS, protobuf, JSON and array_record make of damage."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise _damaged(folder, _line(error)) from error


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _damaged(folder: Path, reason: str) -> UsageError:
    """With the way out: another version that is there, or preparing again."""
    others = [
        path.parent.name for path in folder.parent.glob("*/dataset_info.json")
        if path.parent != folder and _VERSION.fullmatch(path.parent.name)
    ]  # fmt: skip
    instead = f"version {max(others, key=_version)} is used then" if others else (
        "prepare it again (python -m launch.prepare_data)"
    )  # fmt: skip
    return UsageError(f"{folder} is damaged ({reason}): delete it; {instead}")


def _fill(
    read: Callable[[Sequence[int]], list], shape: tuple, dtype: Any, name: str
) -> np.ndarray:
    """All rows in one array [N, ...]."""
    array = np.empty(shape, dtype)
    for rows in _chunks(shape[0], name):
        array[rows] = read(list(rows))
    return array


def _chunks(count: int, name: str) -> Iterator[range]:
    """0..count in pieces, with a bar on a terminal if it lasts over 2 s."""
    with tqdm(total=count, desc=f"decoding {name}", delay=2, disable=None) as bar:
        for start in range(0, count, _CHUNK):
            rows = range(start, min(start + _CHUNK, count))
            yield rows
            bar.update(len(rows))


def _version(name: str) -> tuple[int, ...]:
    # A folder of another name sorts below every version.
    return tuple(int(piece) if piece.isdigit() else -1 for piece in name.split("."))
