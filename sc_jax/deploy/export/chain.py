"""A head as the segments that a device runs in turn: one, or one an exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sc_jax.codec import codecs
from sc_jax.deploy.device.runtime import Runner, in_turn
from sc_jax.deploy.export import segments
from sc_jax.deploy.export.convert import ExportError
from sc_jax.deploy.export.segments import Segment
from sc_jax.nets.net import FINAL, INPUT, Net, following, head, match, tail
from sc_jax.nets.run import Outputs, Variables, run


def chain(
    net: Net,
    variables: Variables,
    codec: codecs.Codec | None,
    images: np.ndarray,
    *,
    float_stages: tuple[str, ...] = (),
    **options,
) -> dict[str, Segment]:
    """The head of a net with one split as segments by name: one, or one an exit.

    Each takes what the one before gave: its feature and, where an exit reads the exit
    before, what that hands on; the last gives the latent. Of a net without a split all
    of it, the last gives FINAL. Options are those of `segments.segment`. ExportError
    where an exit behind the split reads one before it: no frame carries that.
    """
    end = net.splits[0].after if net.splits else net.names[-1]
    before = head(net, end) if net.splits else net
    kept = match(before, float_stages)
    # A segment ends where something may be read: at an exit, at the split.
    stops = sorted({*(e.after for e in before.exits), end}, key=net.names.index)
    parts, known, x, previous = [], [], images, None
    for start, stop in zip((INPUT, *stops), stops):
        part = segments.stretch(net, start, stop)
        # Run once here: real features are what the next segment is calibrated on.
        out = _through(part, variables, x, previous)
        reads = previous is not None and _reads(part, variables, x, previous)
        parts.append(part)
        known.append((x, previous if reads else None))
        x, previous = out.features[stop], out.carry
    _check_behind(net, variables, x, previous)
    found = {}
    for i, (start, stop) in enumerate(zip((INPUT, *stops), stops)):
        found[f"head{i}" if len(stops) > 1 else "head"] = segments.segment(
            net, variables, *known[i], start=start, stop=stop,
            codec=codec if stop == end else None,
            carries=i + 1 < len(stops) and known[i + 1][1] is not None,
            float_stages=tuple(sorted(kept & set(parts[i].parts))), **options,
        )  # fmt: skip
    return found


def _check_behind(net: Net, variables: Variables, x: Any, previous: Any) -> None:
    """ExportError where an exit behind a split reads one before it.

    x, previous: what stands at the first split, and what the exit before it hands on.
    """
    for split in net.splits:
        rest = tail(net, split.after)
        if previous is not None and _reads(rest, variables, x, previous):
            read = head(net, split.after).exits[-1].name
            raise ExportError(
                f"an exit behind {split.name} reads {read}, "
                "before it: no frame carries that; give the server exits of its own"
            )
        if (end := following(net, split)) is not None:
            part = tail(head(net, end.after), split.after)
            out = _through(part, variables, x, previous)
            x, previous = out.features[end.after], out.carry


def edge_exits(net: Net) -> tuple[str, ...]:
    """Names of the exits by which an edge before a cloud answers, in order."""
    if len(net.splits) < 2:
        return ()
    first, second = (split.after for split in net.splits)
    return tuple(e.name for e in tail(head(net, second), first).exits)


def local_exits(net: Net) -> tuple[str, ...]:
    """Names of the exits that a device answers by, in order: before the split, or all
    but the last of a net without one.
    """
    before = head(net, net.splits[0].after) if net.splits else net
    return tuple(e.name for e in before.exits if e.after != net.names[-1])


def runner(parts: Mapping[str, Segment]) -> Callable[[np.ndarray], dict]:
    """Runs all segments, no exit taken: every exit's output and the latent's."""
    return partial(in_turn, [Runner(each.model) for each in parts.values()])


def _through(part: Net, variables: Variables, x: Any, previous: Any) -> Outputs:
    call = jax.jit(lambda v, x, p: run(part, v, x, previous=p)[0])
    return jax.device_get(call(variables, x, previous))


def _reads(part: Net, variables: Variables, x: Any, previous: Any) -> bool:
    """Whether an exit of `part` reads what the exit before handed on.

    Then nothing but NaN comes of NaN.
    """
    if not part.exits:
        return False
    x, previous = jax.tree.map(lambda a: a[:1], (x, previous))
    nothing = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan), previous)
    out = _through(part, variables, x, nothing)
    first = part.exits[0].name
    known = out.predictions  # the last stage's exit is FINAL there
    return bool(np.isnan(known[first if first in known else FINAL]).any())
