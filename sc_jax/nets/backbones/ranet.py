"""RANet (Yang et al. 2020): sub-networks of growing resolution, the coarsest first.

Each but the first starts with fusion blocks, which read what the sub-network below gave
at the same depth; exits stand on the blocks behind those. A feature between stages is a
tuple of images: base features of the sub-networks to come, fine to coarse; what the
sub-network below still has to hand on; then this one's own, of which the last is the
current one. Dense layers only append channels, so the features of many layers are one
image, a run, of which each is the first so many channels. The stages end in features:
the last exit makes the logits (MSDNetClassifier). Layout after the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from sc_jax.errors import UsageError
from sc_jax.nets.backbones.backbone import Backbone
from sc_jax.nets.backbones.msdnet import Narrowed, Pyramid
from sc_jax.nets.exit_classifiers.classifiers import MSDNetClassifier
from sc_jax.nets.layers.blocks import ConvNorm, sliced
from sc_jax.nets.net import Stage

IMAGENET = {
    "channels": 32,
    "growth": 16,
    "step": 8,
    "step_mode": "even",
    "scales": (1, 2, 3, 4),
    "factors": (4, 2, 2, 1),
    "small": False,
}


class Block(nn.Module):
    """`layers` dense layers of a sub-network: tuple of images -> tuple of images.

    Its input is the image `at`; it hands on the images `keep`, then what it makes: if
    `lasting` all that a sub-network above reads, else the current feature only.
    `below`: (image, channels) that layer i reads, and behind the last layer a 1x1; of
    each the share `share` of the new channels comes. `down` halves the side in the last
    layer; `reduced` > 0 channels are left by a 1x1 at the end.
    """

    layers: int
    growth: int
    factor: int
    at: int
    keep: tuple[int, ...]
    lasting: bool
    below: tuple[tuple[int, int], ...] = ()
    factor_below: int = 1
    share: float = 0.25
    down: bool = False
    reduced: int = 0

    @nn.compact
    def __call__(self, images, *, train):
        # Dense layers append, so an earlier feature is the first channels of a run.
        lower = [sliced(images[k], -1, 0, width) for k, width in self.below]
        x, scales = images[self.at], []
        # Of the growth, a share comes from the sub-network below.
        fused = int(self.growth * self.share) if self.below else 0
        for i in range(self.layers):
            # Only the last layer: what is read at each depth keeps its resolution.
            halves = self.down and i == self.layers - 1
            own = Narrowed(self.growth - fused, self.factor, 2 if halves else 1)
            new = [own(x, train=train)]
            if halves:
                # The run ends here, before the side halves; what is above still reads
                # it.
                scales.append(x)
                x = resized(x, *new[0].shape[1:3])
            if fused:
                up = Narrowed(fused, self.factor_below)(lower[i], train=train)
                new.insert(0, resized(up, *x.shape[1:3]))
            x = jnp.concatenate([x, *new], -1)
        # Kept before the 1x1s: the sub-network above reads the dense feature.
        ends = x
        if self.below:
            width = int(x.shape[-1] * self.share)
            up = ConvNorm(width, 1)(lower[-1], train=train)
            x = jnp.concatenate([x, resized(up, *x.shape[1:3])], -1)
        if self.reduced:
            scales.append(ends)
            x = ConvNorm(self.reduced, 1)(x, train=train)
        # Whatever no later block reads is dropped: at a cut it would be sent.
        kept = [images[i] for i in self.keep]
        return (*kept, *(scales if self.lasting else ()), x)


def resized(x, height: int, width: int):
    """[B, H, W, C] -> [B, height, width, C], bilinear, corners on corners.

    Two small matrix products: a gather's gradient is slow on CPUs. They count as MACs
    (4 % of the CIFAR form's), where others count convolutions only.
    """
    if x.shape[1] != height:
        x = jnp.einsum("oh,bhwc->bowc", _between(x.shape[1], height, x.dtype), x)
    if x.shape[2] != width:
        x = jnp.einsum("ow,bhwc->bhoc", _between(x.shape[2], width, x.dtype), x)
    return x


def _between(size: int, new: int, dtype) -> np.ndarray:
    """[new, size]: the shares of the two nearest of `size` points at each of `new`."""
    place = np.linspace(0, size - 1, new)[:, None] if new > 1 else np.zeros((1, 1))
    return np.maximum(0, 1 - np.abs(place - np.arange(size)[None])).astype(dtype)


@dataclass(frozen=True)
class _Plan:
    """A block, and where what the block above will read of it lies: (run, channels)."""

    reads: tuple[tuple[int, int], ...]  # before each layer, and behind the last
    end: int  # the run that the next block goes on with
    fused: bool
    down: bool
    reduced: int

    @property
    def start(self) -> int:
        return self.reads[0][0]


def ranet(
    *,
    classes: int,
    blocks: int = 2,
    more: int = 2,
    step: int = 2,
    step_mode: str = "lin_grow",
    channels: int = 16,
    growth: int = 6,
    scales: tuple[int, ...] = (1, 2, 3),
    factors: tuple[int, ...] = (4, 2, 1),
    share: float = 0.25,
    reduction: float = 0.5,
    small: bool = True,
) -> tuple[Stage, ...]:
    """Stages stem, subnet1.0, subnet1.1, subnet2.0, ...: one block each.

    Sub-network i, from 1, has `blocks` + (i - 1) x `more` blocks; exits usually stand
    on those that the one below lacks. Block j has `step` layers ("even") or j x `step`
    ("lin_grow"). `scales`: each sub-network's resolution, counted from the coarsest;
    it halves its side until it is there. `factors`: how many times `channels` and
    `growth` each has, and its bottleneck's factor. `share`: of new channels from below.
    `reduction`: of channels at transitions. `classes`: of exits.
    """
    _checked(blocks, more, step, step_mode, scales, factors)
    _shared(share, [growth * factor for factor in factors[1:]])
    counts = [blocks + more * i for i in range(len(scales))]
    linear = step_mode == "lin_grow"
    depths = [step * (j + 1) if linear else step for j in range(counts[-1])]
    nets = []
    for i, (scale, factor) in enumerate(zip(scales, factors)):
        # The side halves where the sub-networks below had their last block.
        downs = counts[i - scale + 1 : i]
        # Transitions at even parts of the blocks, one fewer than resolutions.
        cuts = [(j + 1) * counts[i] // scale for j in range(scale - 1)]
        shares = (share if i else 0.0, reduction)
        widths = (channels * factor, growth * factor)
        fused = counts[i - 1] if i else 0
        nets.append(_planned(depths[: counts[i]], widths, shares, fused, downs, cuts))
    fine = range(len(scales) - 1, -1, -1)
    # Stride 2 only where the next sub-network is coarser than this one.
    strides = (1, *(1 + (scales[i + 1] > scales[i]) for i in fine[1:]))
    stem = Pyramid(tuple(channels * factors[i] for i in fine), strides, small)
    laid = _laid(nets, growth, factors, share)
    return (Stage("stem", stem), *laid)


def _planned(depths, widths, shares, fused, downs, cuts) -> list[_Plan]:
    """The blocks of a sub-network: fused are the first `fused`.

    downs, cuts: numbers, from 1, of blocks that halve the side, or have a transition.
    """
    (width, growth), (share, reduction) = widths, shares
    plans, run = [], 0
    for number, depth in enumerate(depths, start=1):
        # Before each layer the run has grown by that many layers.
        reads = [(run, width + growth * t) for t in range(depth)]
        width += growth * depth
        run += number in downs
        reads.append((run, width))
        width += int(width * share) if number <= fused else 0
        if number in cuts:
            run, width = run + 1, int(width * reduction)
        reduced = width if number in cuts else 0
        plans.append(
            _Plan(tuple(reads), run, number <= fused, number in downs, reduced)
        )
    return plans


def _laid(nets: list[list[_Plan]], growth, factors, share) -> list[Stage]:
    """The blocks as stages that hand on what later ones read, and nothing else."""
    order = [(i, j) for i, plans in enumerate(nets) for j in range(len(plans))]
    # What the stem gives: a base feature each, fine to coarse.
    held = [(i, 0) for i in reversed(range(len(nets)))]  # (sub-network, run) of each

    def sources(i, j):
        lower = nets[i - 1][j].reads if nets[i][j].fused else ()
        return (i, nets[i][j].start), [((i - 1, run), width) for run, width in lower]

    stages = []
    for n, (i, j) in enumerate(order):
        plan, (current, lower) = nets[i][j], sources(i, j)
        later = set()
        for one, others in (sources(*place) for place in order[n + 1 :]):
            # Liveness, as in a compiler: what some later block still reads.
            later |= {one, *(key for key, _ in others)}
        keep = [at for at, k in enumerate(held) if k in later and k != current]
        lasting = i + 1 < len(nets)
        block = Block(
            len(plan.reads) - 1,
            growth * factors[i],
            factors[i],
            held.index(current),
            tuple(keep),
            lasting,
            tuple((held.index(key), width) for key, width in lower),
            factors[i - 1],
            share,
            plan.down,
            plan.reduced,
        )
        stages.append(Stage(f"subnet{i + 1}.{j}", block))
        done = [(i, run) for run in range(plan.start, plan.end + 1)]
        # The same order in which the block concatenates its output.
        held = [held[at] for at in keep] + (done if lasting else done[-1:])
    return stages


def _checked(blocks, more, step, step_mode, scales, factors) -> None:
    if min(blocks, more, step) < 1:
        raise UsageError(f"blocks, more and step are 1 or more: {blocks, more, step}")
    if step_mode not in ("even", "lin_grow"):
        raise UsageError(f"step_mode is 'even' or 'lin_grow', not {step_mode!r}")
    rises = {b - a for a, b in zip((0, *scales), scales)}
    if scales[:1] != (1,) or not rises <= {0, 1} or len(factors) != len(scales):
        raise UsageError(
            "scales rise from 1 by 0 or 1, with as many factors, like (1, 2, 3) and "
            f"(4, 2, 1), not {scales} and {factors}"
        )


def _shared(share: float, growths: list[int]) -> None:
    for new in growths:
        if not 1 <= int(new * share) < new:
            raise UsageError(
                f"share {share} of {new} new channels must be one or more of them and "
                "not all: raise growth, or keep share between 0 and 1"
            )


def _preset(
    subnets: int, features: int = 128, blocks: int = 2, more: int = 2, **knobs
) -> Backbone:
    """Exits after the blocks that a sub-network has and the one below lacks.

    No bottleneck: what is cut is a tuple of images.
    """
    counts = [0, *(blocks + more * i for i in range(subnets))]
    exits = [
        f"subnet{i + 1}.{j}"
        for i in range(subnets)
        for j in range(counts[i], counts[i + 1])
    ]
    return Backbone(
        partial(ranet, blocks=blocks, more=more, **knobs),
        cut="",
        exits=tuple(exits[:-1]),
        classifier=partial(MSDNetClassifier, features=features),
        features_only=True,
    )


PRESETS = {
    "ranet": _preset(3),
    "ranet_tiny": _preset(3, 32, blocks=1, more=1, channels=8),
    # Two sub-networks of a layer each, to compile in seconds.
    "ranet_nano": _preset(
        2, 8, 1, 1, step=1, channels=4, growth=4, scales=(1, 2), factors=(2, 1)
    ),
    "ranet_imagenet": _preset(4, 0, **IMAGENET),
}
