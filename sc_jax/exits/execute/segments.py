"""A net as the segments between its exits, to be run one at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from sc_jax.nets.net import FINAL, INPUT, Net, Stage
from sc_jax.nets.run import Variables, run


class Reached(NamedTuple):
    """What a segment gives; every leaf has leading axis B."""

    logits: jax.Array  # f32[B, K], of the exit at its end
    confidence: jax.Array | None  # f32[B] in 0..1, where the exit learnt one
    onward: tuple[Any, Any]  # what the next segment takes: (feature, previous)


@dataclass(frozen=True)
class Segments:
    """A net between its exits.

    Segment e of E runs the stages behind exit e - 1 up to exit e, and that exit.
    """

    net: Net
    starts: tuple[str, ...]  # [E], stage (or "input") before each segment
    stops: tuple[str, ...]  # [E], its last stage

    @property
    def exits(self) -> int:
        return len(self.stops)

    def variables_of(self, e: int, variables: Variables) -> Variables:
        """The variables that segment e reads."""
        names = (INPUT, *self.net.names)
        first, last = names.index(self.starts[e]), names.index(self.stops[e])
        own = [s.owner or s.name for s in self.net.stages[first:last]]
        own += [
            x.name for x in self.net.exits if x.after in names[first + 1 : last + 1]
        ]
        trees = ({n: tree[n] for n in own} for tree in variables)
        return Variables(*trees)

    def advance(self, e: int, variables: Variables, x: Any, previous: Any) -> Reached:
        """Runs segment e, with the bits that the whole net gives at this batch size."""
        out, _ = run(
            self.net, variables, x,
            start=self.starts[e], stop=self.stops[e], previous=previous,
        )  # fmt: skip
        stop = self.stops[e]
        own = self.net.exit_at(stop)
        logit = out.extras[own.name].get("confidence") if own else None
        last = e == self.exits - 1
        logits = out.predictions[FINAL if own is None or last else own.name]
        onward = (out.features[stop], out.carry)
        confidence = None if logit is None else jax.nn.sigmoid(logit)
        return Reached(logits, confidence, onward)


def segments_of(net: Net) -> Segments:
    """The segments of a net, one for each of `net.exit_names`.

    A split's compressor is a stage here, the first of what follows: whoever leaves at
    an exit before it is not coded.
    """
    at = {e.after for e in net.exits}
    stops = (*(name for name in net.names[:-1] if name in at), net.names[-1])
    stages = []
    for name in (INPUT, *net.names):
        stages += [stage for stage in net.stages if stage.name == name]
        split = net.split_at(name)
        if split is not None and name != net.names[-1]:
            stages.append(Stage(split.name, _Decoded(split.compressor)))
    flat = replace(net, stages=tuple(stages), splits=())
    return Segments(flat, (INPUT, *stops[:-1]), stops)


def rows(tree: Any) -> int:
    """B, the leading axis of every leaf."""
    return jax.tree.leaves(tree)[0].shape[0]


def take(tree: Any, index: jax.Array) -> Any:
    """Rows of every leaf; the index must be within them."""
    pick = lambda a: a.at[index].get(mode="promise_in_bounds")  # noqa: E731
    return jax.tree.map(pick, tree)


class _Decoded(nn.Module):
    """A compressor as a stage: what the next stage sees."""

    module: nn.Module

    def setup(self):
        nn.share_scope(self, self.module)  # the compressor's parameters, by their names

    def __call__(self, x, *, train):
        return self.module(x, train=train)[0]
