"""Random small profiles and links, and what each split costs, in plain loops."""

import itertools
import random

from sc_jax.plan.link import Link
from sc_jax.plan.profile import Cut, ExitCost, Profile


def link(rng):
    return Link(
        10 ** rng.uniform(4, 8),
        rtt_s=rng.choice([0.0, rng.uniform(0, 0.1)]),
        loss=rng.choice([0.0, 0.3]),
        transmit_w=rng.uniform(0.5, 2),
        receive_w=rng.uniform(0.5, 2),
        idle_w=rng.uniform(0.01, 0.3),
        down_bits_per_s=rng.choice([None, 10 ** rng.uniform(4, 8)]),
    )


def profile(rng, stages=None, exits=0, codecs=2, whole=True):
    """whole: whether the device can run every stage."""
    count = stages or rng.randint(1, 6)
    names = tuple(f"s{i}" for i in range(count))
    column = lambda top: tuple(rng.uniform(0, top) for _ in names)  # noqa: E731
    device = column(0.05)
    if not whole:
        gone = rng.randrange(count)
        device = (*device[:gone], None, *device[gone + 1 :])
    places = ("input", *names[:-1])
    pairs = list(itertools.product(places, [f"c{i}" for i in range(codecs)]))
    chosen = rng.sample(pairs, rng.randint(1, len(pairs)))
    cuts = tuple(
        Cut(
            after, codec, rng.uniform(10, 20_000), rng.uniform(0, 0.01),
            rng.uniform(0, 0.01), rng.uniform(0.5, 0.9),
        )
        for after, codec in chosen
    )  # fmt: skip
    endings = rng.sample(names[:-1], min(exits, count - 1))
    return Profile(
        "net", names, device, column(0.01),
        output_bytes=column(20_000), memory_bytes=column(1e6), cuts=cuts,
        exits=tuple(
            ExitCost(n, rng.uniform(0, 0.01), rng.uniform(0, 0.01), rng.uniform(0, 1))
            for n in endings
        ),
        quality=0.9, reply_bytes=rng.choice([0.0, 400.0]), compute_w=2.0, idle_w=0.5,
    )  # fmt: skip


def single(p, ln, load=1.0, ending=None):
    """[(depth, cut or None, figures)] of every split: local first, then the cuts.

    figures: latency_s, energy_j, sent_bytes, quality, memory_bytes.
    """
    end = len(p.stages) if ending is None else p.stages.index(ending.after) + 1
    whole = p.quality if ending is None else ending.quality
    found = []
    down = ln.down_bits_per_s or ln.up_bits_per_s
    for cut in (None, *p.cuts):
        depth = end
        if cut is not None:
            depth = 0 if cut.after == "input" else p.stages.index(cut.after) + 1
            if depth >= end:
                continue
        if None in p.device_s[:depth]:
            continue
        busy, memory = sum(p.device_s[:depth]), sum(p.memory_bytes[:depth])
        if cut is None:
            busy += ending.device_s if ending else 0
            figures = (busy, busy * p.compute_w, 0.0, whole, memory)
        else:
            busy += cut.encode_s
            air = 8 * cut.sent_bytes / ln.up_bits_per_s / (1 - ln.loss)
            back = 8 * p.reply_bytes / down / (1 - ln.loss)
            edge = sum(p.edge_s[depth:end]) + (ending.edge_s if ending else 0)
            waited = ln.rtt_s + cut.decode_s + load * edge
            energy = busy * p.compute_w + air * (ln.transmit_w + p.idle_w)
            energy += back * (ln.receive_w + p.idle_w)
            energy += waited * (ln.idle_w + p.idle_w)
            quality = whole - (p.quality - cut.quality)
            figures = (busy + air + waited + back, energy, cut.sent_bytes, quality)
            figures += (memory,)
        found.append((depth, cut, figures))
    return found


def bounds(rng, rows, private=()):
    """Random bounds near the figures of the rows, so that some hold and some do not."""
    from sc_jax.plan.plan import Bounds

    near = [rng.choice(rows)[2] for _ in range(5)]
    pick = lambda value, by: value * by if rng.random() < 0.4 else None  # noqa: E731
    return Bounds(
        deadline_s=pick(near[0][0], rng.uniform(0.95, 1.3)),
        energy_j=pick(near[1][1], rng.uniform(0.95, 1.3)),
        sent_bytes=pick(near[2][2], 1.1),
        memory_bytes=pick(near[4][4], 1.1),
        quality=pick(near[3][3], 0.98),
        private=private,
    )


def within(b, depth, figures, p):
    """Whether the figures keep the bounds."""
    tops = (b.deadline_s, b.energy_j, b.sent_bytes, None, b.memory_bytes)
    if any(t is not None and f > t for t, f in zip(tops, figures)):
        return False
    if b.quality is not None and figures[3] < b.quality:
        return False
    return depth >= max((p.stages.index(n) + 1 for n in b.private), default=0)


def seeds(count=250):
    return [random.Random(seed) for seed in range(count)]
