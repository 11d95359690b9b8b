"""A head as the segments that a device runs in turn: one, or one an exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy import segments
from sc_jax.deploy.runtime import Runner
from sc_jax.deploy.segments import Segment
from sc_jax.nets.net import INPUT, Net, head
from sc_jax.nets.run import Variables, run


def chain(
    net: Net, variables: Variables, codec: codecs.Codec, images: np.ndarray, **options
) -> dict[str, Segment]:
    """The head of a net with one split as segments by name: one, or one an exit.

    Each takes the feature that the one before gave; the last gives the latent.
    """
    (split,) = net.splits
    stops = [e.after for e in head(net, split.after).exits]
    stops = sorted({*stops, split.after}, key=net.names.index)
    names = [f"head{i}" for i in range(len(stops))] if len(stops) > 1 else ["head"]
    found, start, x = {}, INPUT, images
    for name, stop in zip(names, stops):
        own = codec if stop == split.after else None
        found[name] = segments.segment(
            net, variables, x, start=start, stop=stop, codec=own, **options
        )
        if own is None:
            part = segments.stretch(net, start, stop)
            start, x = stop, _feature(part, variables, x)
    return found


def runner(made: Mapping[str, Segment]) -> Callable[[np.ndarray], dict]:
    """Runs all segments, no exit taken: every exit's output and the latent's."""
    runners = [Runner(each.model) for each in made.values()]

    def call(x: np.ndarray) -> dict[str, np.ndarray]:
        outputs: dict[str, np.ndarray] = {}
        for each in runners:
            outputs |= each(x)
            x = outputs.pop("feature", x)
        return outputs

    return call


def _feature(part: Net, variables: Variables, x: np.ndarray) -> np.ndarray:
    """What the last stage of `part` gives for its input x."""
    last = part.names[-1]
    through = jax.jit(lambda v, x: run(part, v, x)[0].features[last])
    return np.asarray(through(variables, x))
