"""Tensors of a PyTorch checkpoint without PyTorch, and without running its pickle.

Reads both forms of torch.save: the zip of today and the plain stream of before 1.6.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sc_jax.errors import UsageError

TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Tensor(NamedTuple):
    """A view of a stored array that is not read yet; strides count elements."""

    storage: tuple
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *_):
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Knows tensors and dicts; any other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        # A parameter is its tensor: hooks and gradients are of no use here.
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in TYPES:
            return name
        # A pickle can call anything: only these names are ever resolved.
        raise pickle.UnpicklingError(f"{module}.{name} is not a tensor's")

    def persistent_load(self, pid: tuple) -> tuple:
        # ("storage", type, key, device, count): the device is where it was saved.
        _, kind, key, _, count, *_ = pid
        return kind, str(key), int(count)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name of a saved state dict; UsageError for what is none."""
    file = Path(path).expanduser()
    try:
        # Known by content: both forms are named .pth.
        found, data = _zipped(file) if zipfile.is_zipfile(file) else _stream(file)
        tensors = {k: v for k, v in found.items() if isinstance(v, _Tensor)}
        return {name: _array(each, data) for name, each in tensors.items()}
    except FileNotFoundError:
        raise UsageError(f"no checkpoint {file}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
            IndexError, struct.error, pickle.UnpicklingError,
            zipfile.BadZipFile) as error:  # fmt: skip
        line = " ".join(str(error).split())
        raise UsageError(f"{file} is no PyTorch state dict: {line}") from None


def _zipped(file: Path) -> tuple[dict, dict[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        name = next((n for n in archive.namelist() if n.endswith("data.pkl")), None)
        if name is None:
            raise ValueError("a zip without data.pkl")
        root = name.removesuffix("data.pkl") + "data/"
        found = _state(_Unpickler(archive.open(name)).load())
        stored = [n for n in archive.namelist() if n.startswith(root)]
        return found, {n.removeprefix(root): archive.read(n) for n in stored}


def _stream(file: Path) -> tuple[dict, dict[str, bytes]]:
    """Magic number, protocol, facts, the object, keys; then a count and bytes a key."""
    with file.open("rb") as source:
        # Magic number, protocol version and the machine's sizes are not needed.
        for _ in range(3):
            _Unpickler(source).load()
        found = _state(_Unpickler(source).load())
        keys = _Unpickler(source).load()
        kinds = {v.storage[1]: v.storage[0] for v in found.values()
                 if isinstance(v, _Tensor)}  # fmt: skip
        data = {}
        for key in keys:
            # Storages follow the pickle in the order of their keys.
            (count,) = struct.unpack("<q", source.read(8))
            data[str(key)] = source.read(count * np.dtype(TYPES[kinds[key]]).itemsize)
    return found, data


def _state(found: Any) -> dict:
    """The state dict itself, or the one inside a training checkpoint."""
    inside = found.get("state_dict", found)
    return inside if isinstance(inside, dict) else found


def _array(tensor: _Tensor, data: dict[str, bytes]) -> np.ndarray:
    """A copy, after checking that the view lies within its storage."""
    kind, key, count = tensor.storage
    stored = np.frombuffer(data[key], TYPES[kind])
    # A damaged or hostile file may declare a view past its bytes.
    reach = [s * (n - 1) for n, s in zip(tensor.shape, tensor.strides)]
    last = tensor.offset + sum(reach)
    inside = 0 in tensor.shape or (
        last < len(stored) and math.prod(tensor.shape) <= len(stored)
    )
    if min((tensor.offset, *tensor.strides, *tensor.shape)) < 0 or not inside:
        raise ValueError(f"a tensor reaches past its storage of {count}")
    strides = [s * stored.itemsize for s in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        stored[tensor.offset :], tensor.shape, strides, writeable=False
    )
    return view.copy()
