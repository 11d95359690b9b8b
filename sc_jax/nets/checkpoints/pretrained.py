"""Public checkpoints in our names: torchvision's MobileNetV2 and ResNets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.mobilenetv2 import GROUPS
from sc_jax.nets.checkpoints import torch_file
from sc_jax.nets.net import Net
from sc_jax.nets.run import Variables

# Ours -> theirs: a path below a stage's own, and the prefix of a layer in the file.
Names = Iterator[tuple[str, str]]


def load(backbone: str, net: Net, like: Variables, file: str | Path) -> Variables:
    """`like` with every stage's values from a torchvision checkpoint.

    net: classifier_net(backbone, ...); its normalisation must be the checkpoint's.
    UsageError where a tensor is missing or of another shape (another net or K).
    """
    arrays, taken = torch_file.read(file), set()
    params = {name: _copy(part) for name, part in like.params.items()}
    state = {name: _copy(part) for name, part in like.state.items()}
    for stage in net.stages:
        for path, theirs in _names(backbone, stage.name, params[stage.name]):
            kind = path.rsplit("/", 1)[-1].partition("_")[0]
            for leaf, (name, where) in LAYERS[kind].items():
                tree = params if where == "params" else state
                inside = [] if where == "params" else ["batch_stats"]
                node = tree[stage.name]
                for key in (*inside, *path.split("/")):
                    node = node[key]
                if leaf in node:
                    node[leaf] = _take(arrays, f"{theirs}.{name}", node[leaf], file)
                    taken.add(f"{theirs}.{name}")
    left = sorted(n for n in arrays if n not in taken and not n.endswith(COUNTERS))
    if left:
        raise UsageError(f"{file} has {left[0]} too: it is of another network")
    return Variables(params, state)


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


def _take(arrays: dict, name: str, like, file) -> np.ndarray:
    if name not in arrays:
        raise UsageError(f"{file} has no {name}: it is of another network")
    value = arrays[name]
    if value.ndim in TURNED:
        value = value.transpose(TURNED[value.ndim])
    if value.shape != np.shape(like):
        raise UsageError(f"{file}: {name} is {value.shape}, here {np.shape(like)}")
    return np.ascontiguousarray(value, np.float32)


def _copy(tree: Any) -> Any:
    return {k: _copy(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _names(backbone: str, stage: str, params: dict) -> Names:
    if not params:
        return iter(())
    if backbone == "mobilenetv2":
        return _mobilenetv2(stage)
    if backbone.startswith("resnet"):
        return _resnet(stage, params)
    raise UsageError(f"no public checkpoint of {backbone!r} is known here")


def _pair(ours: str, conv: str, norm: str) -> Names:
    prefix = ours + "/" if ours else ""
    yield f"{prefix}Conv_0", conv
    yield f"{prefix}BatchNorm_0", norm


def _mobilenetv2(stage: str) -> Names:
    if stage == "fc":
        yield "Dense_0", "classifier.1"
    elif stage in ("stem", "last"):
        theirs = f"features.{0 if stage == 'stem' else 18}"
        yield from _pair("", f"{theirs}.0", f"{theirs}.1")
    else:
        group, i = (int(n) for n in stage.removeprefix("layer").split("."))
        number = 1 + sum(g[2] for g in GROUPS[: group - 1]) + i
        wide = 1 if GROUPS[group - 1][0] == 1 else 2  # convolutions before the last
        theirs = f"features.{number}.conv"
        for k in range(wide):
            yield from _pair(f"ConvNorm6_{k}", f"{theirs}.{k}.0", f"{theirs}.{k}.1")
        yield from _pair("", f"{theirs}.{wide}", f"{theirs}.{wide + 1}")


def _resnet(stage: str, params: dict) -> Names:
    if stage == "fc":
        yield "Dense_0", "fc"
    elif stage == "stem":
        yield from _pair("ConvNorm_0", "conv1", "bn1")
    else:
        count = 3 if params["ConvNorm_0"]["Conv_0"]["kernel"].shape[0] == 1 else 2
        for k in range(count):
            yield from _pair(f"ConvNorm_{k}", f"{stage}.conv{k + 1}",
                             f"{stage}.bn{k + 1}")  # fmt: skip
        if f"ConvNorm_{count}" in params:
            down = f"{stage}.downsample"
            yield from _pair(f"ConvNorm_{count}", f"{down}.0", f"{down}.1")
