"""Public checkpoints into nets: the backbones' files know the names of their layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.registry import backbone
from sc_jax.nets.checkpoints import torch_file
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables

LOGGER = logging.getLogger("sc_jax")
CLASSIFIER = "fc"  # the stage that is left fresh where the classes are others


def load(
    name: str, net: Net, like: Variables, file: str | Path, *, trained: bool = True
) -> Variables:
    """`like` with every stage's values from a public checkpoint of backbone `name`.

    net: classifier_net(name, ...); its normalisation must be the checkpoint's. Of other
    classes than the file's the classifier keeps its own values, which one line of the
    log says; trained: whether anything will train it. UsageError where nothing will,
    and where another tensor is missing, left over or of another shape.
    """
    names = backbone(name).checkpoint
    if names is None:
        raise UsageError(f"no public checkpoint of {name!r} is known here")
    # What is taken is noted: a file with more is of a larger network.
    arrays, taken = torch_file.read(file), set()
    # Copies: a load that fails half-way leaves the caller's variables as they were.
    params = {part: _copy(tree) for part, tree in like.params.items()}
    state = {part: _copy(tree) for part, tree in like.state.items()}
    other = ""
    for stage in net.stages:
        # Pools and the normalisation have no parameters, and no names in the file.
        if not params[stage.name]:
            continue
        for path, theirs in names(stage.name, params[stage.name]):
            for node, leaf, tensor in _places(path, theirs, stage.name, params, state):
                taken.add(tensor)
                value = _turned(arrays, tensor, file)
                if value.shape == np.shape(node[leaf]):
                    node[leaf] = value
                elif (
                    stage.name == CLASSIFIER
                    # Only the number of classes may differ, not what the classifier
                    # reads.
                    and value.shape[:-1] == (np.shape(node[leaf])[:-1])
                ):
                    other = (
                        f"{value.shape[-1]} classes, here {np.shape(node[leaf])[-1]}"
                    )
                else:
                    raise UsageError(
                        f"{file}: {tensor} is {value.shape}, here "
                        f"{np.shape(node[leaf])}: it is of another network"
                    )
    left = sorted(n for n in arrays if n not in taken and not n.endswith(COUNTERS))
    if left:
        raise UsageError(f"{file} has {left[0]} too: it is of another network")
    if other and not trained:
        raise UsageError(
            f"{file} has {other}, and nothing trains the classifier: give "
            "teacher_epochs, or a test set of the file's classes (indexed:N:PATH)"
        )
    if other:
        LOGGER.info("%s has %s: its classifier starts afresh", file, other)
    return Variables(params, state)


def _places(path: str, theirs: str, stage: str, params: dict, state: dict):
    """(node, leaf, tensor's name) of each variable of the layer at `path`."""
    kind = path.rsplit("/", 1)[-1].partition("_")[0]
    for leaf, (name, where) in LAYERS[kind].items():
        node = params[stage] if where == "params" else state[stage]["batch_stats"]
        for key in path.split("/"):
            node = node[key]
        if leaf in node:
            yield node, leaf, f"{theirs}.{name}"


COUNTERS = "num_batches_tracked"  # beside every batch norm; nothing here reads it


# Layer kind -> our leaf -> (their leaf, which tree it is in).
LAYERS = {
    "Conv": {"kernel": ("weight", "params"), "bias": ("bias", "params")},
    "Dense": {"kernel": ("weight", "params"), "bias": ("bias", "params")},
    "BatchNorm": {
        "scale": ("weight", "params"),
        "bias": ("bias", "params"),
        "mean": ("running_mean", "state"),
        "var": ("running_var", "state"),
    },
}
TURNED = {4: (2, 3, 1, 0), 2: (1, 0)}  # OIHW -> HWIO, [out, in] -> [in, out]


def _turned(arrays: dict, name: str, file) -> np.ndarray:
    if name not in arrays:
        raise UsageError(f"{file} has no {name}: it is of another network")
    value = arrays[name]
    if value.ndim in TURNED:
        value = value.transpose(TURNED[value.ndim])
    return np.ascontiguousarray(value, np.float32)


def _copy(tree: Any) -> Any:
    return {k: _copy(v) for k, v in tree.items()} if isinstance(tree, dict) else tree
