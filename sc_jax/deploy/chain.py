"""A head as the segments that a device runs in turn: one, or one an exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy import segments
from sc_jax.deploy.export import ExportError
from sc_jax.deploy.runtime import Runner
from sc_jax.deploy.segments import Segment
from sc_jax.nets.net import INPUT, Net, head, match
from sc_jax.nets.run import Variables, run


def chain(
    net: Net,
    variables: Variables,
    codec: codecs.Codec,
    images: np.ndarray,
    *,
    float_stages: tuple[str, ...] = (),
    **options,
) -> dict[str, Segment]:
    """The head of a net with one split as segments by name: one, or one an exit.

    Each takes the feature that the one before gave; the last gives the latent. Options
    are those of `segments.segment`. ExportError for an exit that reads the one before.
    """
    (split,) = net.splits
    before = head(net, split.after)
    kept = match(before, float_stages)
    whole = jax.jit(lambda v, x: run(before, v, x)[0].predictions)(variables, images)
    stops = [e.after for e in before.exits]
    stops = sorted({*stops, split.after}, key=net.names.index)
    names = [f"head{i}" for i in range(len(stops))] if len(stops) > 1 else ["head"]
    found, start, x = {}, INPUT, images
    for name, stop in zip(names, stops):
        own = codec if stop == split.after else None
        part = segments.stretch(net, start, stop)
        through = jax.jit(lambda v, x, part=part: run(part, v, x)[0])(variables, x)
        for exit_ in part.exits:
            if not np.array_equal(through.predictions[exit_.name], whole[exit_.name]):
                raise ExportError(
                    f"{exit_.name} reads the exit before it: cannot be cut"
                )
        found[name] = segments.segment(
            net, variables, x, start=start, stop=stop, codec=own,
            float_stages=tuple(sorted(kept & set(part.parts))), **options,
        )  # fmt: skip
        start, x = stop, np.asarray(through.features[stop])
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
