"""Two cuts over three tiers against plain loops over every pair."""

import random
from dataclasses import replace
from functools import partial

import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.partition.three_tiers import three_tiers


def place(p, cut):
    return 0 if cut.after == "input" else p.stages.index(cut.after) + 1


def pairs(p, ln, cloud, onward, load):
    """[(depth, (cut, cut), figures)] of every two cuts, as `instances.single`."""
    found = []
    for depth, first, _ in instances.single(p, ln, load):
        for second in p.cuts:
            if first is None or (end := place(p, second)) <= depth:
                continue
            # What the edge does is one wait to the device: its own stages, the second
            # hop there and back, and the cloud.
            down = onward.down_bits_per_s or onward.up_bits_per_s
            air = 8 * second.sent_bytes / onward.up_bits_per_s / (1 - onward.loss)
            back = 8 * p.reply_bytes / down / (1 - onward.loss)
            wait = load * sum(p.edge_s[depth:end]) + second.encode_s + air
            wait += onward.rtt_s + second.decode_s + sum(cloud.edge_s[end:]) + back
            stages = list(p.edge_s)
            stages[depth:] = [wait / load] + [0.0] * (len(stages) - depth - 1)
            alone = replace(p, edge_s=tuple(stages), cuts=(first,))
            *_, (_, _, figures) = instances.single(alone, ln, load)
            quality = figures[3] - (p.quality - second.quality)
            figures = (*figures[:3], quality, figures[4])
            found.append((depth, (first, second), figures))
    return found


def made(rng):
    p = instances.profile(rng, whole=rng.random() < 0.7)
    ln, onward = instances.link(rng), instances.link(rng)
    cloud = replace(p, edge_s=tuple(rng.uniform(0, 0.001) for _ in p.stages))
    return p, ln, cloud, onward


@pytest.mark.parametrize("objective", [0, 1])
def test_the_plan_is_the_best_of_all_pairs_within_the_bounds(objective):
    name, two, none = ("latency_s", "energy_j")[objective], 0, 0
    for rng in instances.seeds():
        p, ln, cloud, onward = made(rng)
        load = rng.choice([1.0, 20.0])
        rows = [(d, (c,) if c else (), f) for d, c, f in instances.single(p, ln, load)]
        rows += pairs(p, ln, cloud, onward, load)
        if not rows:
            continue
        kept = rng.sample(p.stages, 1) if rng.random() < 0.2 else ()
        b = instances.bounds(rng, rows, tuple(kept))
        inside = [r for r in rows if instances.within(b, r[0], r[2], p)]
        tiers = p, ln, cloud, onward, b
        plan_it = partial(three_tiers, *tiers, objective=name, load=load)
        if not inside:
            none += 1
            with pytest.raises(UsageError, match="no plan of net"):
                plan_it()
            continue
        ranked = sorted(inside, key=lambda r: r[2][objective])
        plan = plan_it()
        figures = (plan.latency_s, plan.energy_j, plan.sent_bytes, plan.quality)
        own = (*figures, plan.memory_bytes)
        assert own[objective] == pytest.approx(ranked[0][2][objective])
        (theirs,) = [r for r in inside if r[1] == plan.cuts]
        assert theirs[2] == pytest.approx(own)
        counts = [plan.places.count(tier) for tier in ("device", "edge", "cloud")]
        assert counts[0] == theirs[0] and sum(counts) == len(p.stages)
        if len(plan.cuts) == 2:
            two += 1
            assert counts[2] == len(p.stages) - place(p, plan.cuts[1]) > 0
            assert counts[1] > 0
        if len(ranked) > 1:
            best = ranked[1][2][objective]
            assert getattr(plan.runner_up, name) == pytest.approx(best)
    assert two >= 20 and none >= 5


def test_a_cloud_that_is_far_is_not_used():
    for seed in range(30):
        p, ln, cloud, _ = made(random.Random(seed))
        far = Link(1e3, rtt_s=10.0)
        try:
            alone = neurosurgeon(p, ln)
        except UsageError:
            continue
        assert three_tiers(p, ln, cloud, far).name == alone.name


def test_a_cloud_of_another_network_is_refused():
    p, ln, cloud, onward = made(random.Random(1))
    other = replace(
        cloud, stages=tuple(f"x{name}" for name in p.stages), cuts=(), exits=()
    )
    with pytest.raises(UsageError, match="the stages of net"):
        three_tiers(p, ln, other, onward)
