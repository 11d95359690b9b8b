"""Contexts for what a trained net's splits send, fitted to examples.

After training: no array of the net changes, and what is decoded neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from sc_jax.codec.codecs import Codec
from sc_jax.codec.in_context import INNER, InContextCodec
from sc_jax.codec.tables import TOTAL
from sc_jax.errors import UsageError
from sc_jax.nets.net import Net, head
from sc_jax.nets.run import Variables, run

Batches = Callable[[], Iterator[tuple[np.ndarray, int]]]


def check(codecs: Mapping[str, Codec], classes: int) -> None:
    """UsageError where one sends no symbols that a context could code."""
    for split, codec in codecs.items():
        if codec.kind not in INNER:
            raise UsageError(
                f"context={classes} codes the symbols of {' or '.join(INNER)} codecs, "
                f"and {split} sends {codec.kind}: leave it at 0"
            )
        if (channels := codec.shape[-1]) * classes > TOTAL:
            raise UsageError(
                f"context={classes} of {channels} channels is more than {TOTAL} "
                f"tables: at most context={TOTAL // channels}"
            )
    if not codecs:
        raise UsageError(f"context={classes}, but nothing is sent: leave it at 0")


def classes_of(arrays: Mapping[str, np.ndarray]) -> int:
    """Tables a channel of a saved codec's context; 0: it has none."""
    edges = arrays.get("context0.edges")
    return 0 if edges is None else edges.shape[1] + 1


def fitted(
    net: Net,
    variables: Variables,
    codecs: Mapping[str, Any],
    inputs: Batches,
    classes: int,
) -> dict[str, InContextCodec]:
    """`codecs` with contexts of `classes` tables a channel.

    inputs(): batches of one size, and how many rows of each are examples.
    """
    check(codecs, classes)
    found = {}
    for split in net.splits:
        codec = codecs[split.name]
        sent = jax.jit(partial(_outputs, head(net, split.after), split.after, codec))
        batches = (
            {name: np.asarray(v)[:count] for name, v in sent(variables, batch).items()}
            for batch, count in inputs()
        )
        found[split.name] = InContextCodec.fit(codec, batches, classes)
    return found


def _outputs(device: Net, after: str, codec: Codec, variables: Variables, images):
    latent = run(device, variables, images)[0].features[after]
    return codec.outputs(latent, jax.numpy)
