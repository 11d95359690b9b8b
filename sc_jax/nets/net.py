"""A network as a tuple of named stages, and the edits that make methods of it.

Everything here is pure data: no parameters, no flax calls (those are in run.py).
The pseudo-stage "input" stands before the first stage, so a cut after "input" is
edge-only computing and a cut after the last stage is local-only computing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import flax.linen as nn

from sc_jax.errors import UsageError, unknown

INPUT = "input"
FINAL = "final"


@dataclass(frozen=True)
class Stage:
    """One named block: module(x, *, train) -> x, any pytree with leading axis B.

    `owner` names the stage whose parameters this one shares (ALBERT, Lan et al. 2020,
    https://arxiv.org/abs/1909.11942); its noise stays its own.
    """

    name: str
    module: nn.Module
    owner: str | None = None


@dataclass(frozen=True)
class Exit:
    """A classifier after a stage: module(x, previous, *, train) -> logits f32[B, K].

    Or (logits, extras), a dict of what else it gives: "confidence" f32[B], the logit of
    its own score, and the training's "noise" and "uniform" f32[B] of it; "own" f32[B,
    K], its logits before they were joined with others'; "temperature", a scalar; a
    "weigher".
    `previous` is extras["carry"] of the exit before, or its logits; None at the first.
    One after the last stage makes the final prediction.
    """

    after: str
    module: nn.Module

    @property
    def name(self) -> str:
        return f"exit@{self.after}"


@dataclass(frozen=True)
class SplitPoint:
    """A cut: compressor(z, *, train) -> (z_hat, bits f32[B]) after a stage.

    Or (z_hat, bits, extras), a dict of what else it gives in a training step:
    "rate_weight" f32[B], what a rate's loss multiplies an example's bits by.
    """

    after: str
    compressor: nn.Module

    @property
    def name(self) -> str:
        return f"split@{self.after}"


@dataclass(frozen=True)
class Net:
    """Stages in order, with exits and splits placed by stage name.

    `across`: owners that a cut left on its other side. Their parameters are a part of
    both sides, since a stage here shares them.
    """

    stages: tuple[Stage, ...]
    exits: tuple[Exit, ...] = ()
    splits: tuple[SplitPoint, ...] = ()
    across: tuple[str, ...] = ()

    def __post_init__(self):
        names = self.names
        # Names are the only coupling between parts: two of one name would share
        # parameters.
        if len(set(names)) != len(names) or INPUT in names:
            raise UsageError(f"stage names must be unique and not 'input': {names}")
        for exit_ in self.exits:
            if exit_.after not in names:
                raise unknown("stage", exit_.after, names)
        for split in self.splits:
            # Unlike an exit a split may stand at the input: then only the image is
            # sent.
            if split.after not in (INPUT, *names):
                raise unknown("stage", split.after, (INPUT, *names))
        for stage in self.stages:
            # A cut may leave the owner on the other side; its parameters come along.
            if stage.owner is not None and stage.owner not in names + self.across:
                raise unknown("owner stage", stage.owner, names)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    @property
    def parts(self) -> tuple[str, ...]:
        """Every name that owns parameters: stages, exits and splits."""
        owned = tuple(s.name for s in self.stages if s.owner is None)
        placed = tuple(p.name for p in (*self.exits, *self.splits))
        return owned + self.across + placed

    @property
    def exit_names(self) -> tuple[str, ...]:
        """Who answers, in order: exits before the last stage, and "final"."""
        # An exit after the last stage is not counted here: it makes the "final" answer.
        at = {e.after: e.name for e in self.exits}
        return (*(at[n] for n in self.names[:-1] if n in at), FINAL)

    def split_at(self, name: str) -> SplitPoint | None:
        return next((s for s in self.splits if s.after == name), None)

    def exit_at(self, name: str) -> Exit | None:
        return next((e for e in self.exits if e.after == name), None)


def resolve(net: Net, name: str) -> str:
    """The stage a name means: itself, or the last stage of the group it prefixes."""
    if name == INPUT or name in net.names:
        return name
    # With the dot, so that "layer1" never means a stage of "layer10".
    group = [n for n in net.names if n.startswith(name + ".")]
    if not group:
        raise unknown("stage", name, (INPUT, *net.names))
    return group[-1]


def match(net: Net, patterns: tuple[str, ...]) -> frozenset[str]:
    """Parts named by patterns (a part, a group prefix, "*"); no match = UsageError."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            part
            for part in net.parts
            if pattern in ("*", part) or part.startswith(pattern + ".")
        }
        if not found:
            raise unknown("part", pattern, net.parts)
        chosen |= found
    return frozenset(chosen)


def _index(net: Net, name: str) -> int:
    """Number of stages up to and including `name`."""
    name = resolve(net, name)
    return 0 if name == INPUT else net.names.index(name) + 1


def _between(net: Net, start: int, stop: int, splits: tuple[SplitPoint, ...]) -> Net:
    stages = net.stages[start:stop]
    inside = {stage.name for stage in stages}
    exits = tuple(e for e in net.exits if e.after in inside)
    # A dict and no set: parts keep their order, and so do the keys of a checkpoint.
    owners = dict.fromkeys(s.owner for s in stages if s.owner is not None)
    return Net(stages, exits, splits, tuple(o for o in owners if o not in inside))


def head(net: Net, cut: str) -> Net:
    """What the device runs: the stages up to `cut`, without the cut's compressor."""
    stop = _index(net, cut)
    # The cut's own compressor is the codec's work by then, which runs on integers.
    kept = tuple(s for s in net.splits if _index(net, s.after) < stop)
    return _between(net, 0, stop, kept)


def tail(net: Net, cut: str) -> Net:
    """What the server runs: the stages after `cut`; its input is the decoded latent."""
    start = _index(net, cut)
    # What arrives is decoded already, so the cut's own split is not part of the tail.
    kept = tuple(s for s in net.splits if _index(net, s.after) > start)
    return _between(net, start, len(net.stages), kept)


def hops(net: Net) -> tuple[SplitPoint, ...]:
    """The splits in the order in which a request meets them: device | edge | cloud.

    UsageError for more than two, and where they are listed in another order: a split's
    id is its place in the list.
    """
    places = [_index(net, split.after) for split in net.splits]
    if len(places) > 2:
        raise UsageError(f"{len(places)} splits; device, edge and cloud have two")
    if places != sorted(set(places)):
        names = ", ".join(split.after for split in net.splits)
        raise UsageError(f"splits stand in the order of their stages, not {names}")
    return net.splits


def following(net: Net, split: SplitPoint) -> SplitPoint | None:
    """The split that a request meets next behind `split`; None: there is none."""
    behind = [s for s in net.splits if _index(net, s.after) > _index(net, split.after)]
    return min(behind, key=lambda s: _index(net, s.after), default=None)


def inject(
    net: Net,
    replaced: tuple[str, ...],
    pair: tuple[nn.Module, nn.Module],
    compressor: nn.Module,
) -> Net:
    """Bottleneck injection: an encoder/decoder pair in place of adjoining stages.

    `replaced` names stages or groups; the split stands between "encoder" and
    "decoder" (Matsubara et al. 2019). Exits on replaced stages must be moved first.
    """
    gone = match(net, replaced)
    # By position: a group of stages must be replaced whole, without one left inside.
    indices = [i for i, stage in enumerate(net.stages) if stage.name in gone]
    first, last = indices[0], indices[-1]
    if indices != list(range(first, last + 1)):
        raise UsageError(f"replaced stages must adjoin: {sorted(gone)}")
    # Dropped silently, a method would train fewer exits than its recipe names.
    lost = [p.after for p in (*net.exits, *net.splits) if p.after in gone]
    if lost:
        raise UsageError(f"exits or splits stand on replaced stages: {lost}")
    new = (Stage("encoder", pair[0]), Stage("decoder", pair[1]))
    stages = net.stages[:first] + new + net.stages[last + 1 :]
    return _with_split(net, stages, compressor)


def insert(
    net: Net,
    after: str,
    pair: tuple[nn.Module, nn.Module],
    compressor: nn.Module,
) -> Net:
    """An encoder/decoder pair after a stage, replacing nothing (an autoencoder)."""
    at = _index(net, after)
    new = (Stage("encoder", pair[0]), Stage("decoder", pair[1]))
    stages = net.stages[:at] + new + net.stages[at:]
    return _with_split(net, stages, compressor)


def _with_split(net: Net, stages: tuple[Stage, ...], compressor: nn.Module) -> Net:
    splits = (*net.splits, SplitPoint("encoder", compressor))
    return replace(net, stages=stages, splits=splits)


def cut_at(net: Net, cut: str, compressor: nn.Module) -> Net:
    """The same net with one split more, after stage (or "input") `cut`."""
    return replace(net, splits=(*net.splits, SplitPoint(resolve(net, cut), compressor)))
