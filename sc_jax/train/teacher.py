"""What a frozen teacher says of a batch; on CPUs its first stages stay in cache."""

from __future__ import annotations

from typing import Any

import jax

from sc_jax.nets.layers import convolution
from sc_jax.nets.net import INPUT, Net
from sc_jax.nets.run import Outputs, Variables, run

# Of an image, or of several: what early stages make of so many fits into a cache.
_PIXELS = 2 * 112**2
# Of an image: smaller ones are taken together, so that all cores share the batch (on
# two cores 28-pixel images trained a third slower in portions).
_LEAST = 64**2


def taught(
    teacher: Net, student: Net, variables: Variables, inputs: Any, dtype: Any = None
) -> Outputs:
    """The outputs of `run`, bit for bit, in evaluation mode.

    The stages that the student replaces are the first ones, whose features are large
    and whose weights are few. On CPUs they take the batch in portions: 1.6 x as fast
    up to MobileNetV2's layer2 at 112 px (one core, jax 0.10.2).
    """
    stop = replaced(teacher, student)
    count = portions(inputs)
    if stop == INPUT or count == 1:
        return run(teacher, variables, inputs, dtype=dtype)[0]

    def first(portion):
        return run(teacher, variables, portion, stop=stop, dtype=dtype)[0].features

    # Every count-th image, so that devices which share the batch share each portion.
    shape = (-1, count, *inputs.shape[1:])
    features = jax.lax.map(first, inputs.reshape(shape).swapaxes(0, 1))
    early = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), features)
    out, _ = run(teacher, variables, early[stop], start=stop, dtype=dtype)
    return out._replace(features=early | out.features)


def replaced(teacher: Net, student: Net) -> str:
    """The last stage before those in common that are not the first; INPUT if none."""
    if teacher.exits or teacher.splits:
        return INPUT
    found = INPUT
    for name in teacher.names:
        if name not in student.names:
            found = name
        elif found != INPUT:
            return found
    # Nothing in common behind: another network, deep stages and all.
    return INPUT


def portions(inputs: Any) -> int:
    """Into how many equal portions a batch of images is taken here; 1: it is whole."""
    if convolution.is_plain() or getattr(inputs, "ndim", 0) != 4:
        return 1
    batch, height, width, _ = inputs.shape
    if height * width < _LEAST:
        return 1
    # A portion has an image for each device at least.
    least = max(jax.device_count(), _PIXELS // (height * width))
    fitting = (n for n in range(least, batch) if batch % n == 0)
    return batch // next(fitting, batch)
