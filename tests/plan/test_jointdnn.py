"""Shortest paths with several crossings against every path there is."""

import itertools
import random
import time
from dataclasses import replace

import numpy as np
import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, receive_s, send_s
from sc_jax.plan.partition import jointdnn as joint_dnn
from sc_jax.plan.partition import labels
from sc_jax.plan.partition.jointdnn import jointdnn
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, Profile


def every_path(p, ln, load):
    """[(private depth, (places, cuts), figures)] of all places and cuts."""
    by_place = {}
    for cut in p.cuts:
        by_place.setdefault(cut.after, []).append(cut)
    found = []
    for places in itertools.product(("device", "edge"), repeat=len(p.stages)):
        if any(w == "device" and s is None for w, s in zip(places, p.device_s)):
            continue
        stops = ("device", *places, "device")
        befores = ("input", *p.stages)
        ups = [
            by_place.get(before, [])
            for before, (a, b) in zip(befores, itertools.pairwise(stops))
            if (a, b) == ("device", "edge")
        ]
        for cuts in itertools.product(*ups):
            busy = sum(
                s for w, s in zip(places, p.device_s) if w == "device"
            ) + sum(c.encode_s for c in cuts)  # fmt: skip
            waited = sum(load * s for w, s in zip(places, p.edge_s) if w == "edge")
            waited += sum(c.decode_s for c in cuts)
            outs = [
                p.reply_bytes if i == len(places) else p.output_bytes[i - 1]
                for i, (a, b) in enumerate(itertools.pairwise(stops))
                if (a, b) == ("edge", "device")
            ]
            sent = sum(send_s(ln, c.sent_bytes) for c in cuts)
            back = sum(receive_s(ln, out) for out in outs)
            waited += ln.rtt_s * (len(cuts) + len(outs)) / 2
            energy = busy * p.compute_w + sent * (ln.transmit_w + p.idle_w)
            energy += back * (ln.receive_w + p.idle_w)
            energy += waited * (ln.idle_w + p.idle_w)
            memory = sum(
                m for w, m in zip(places, p.memory_bytes) if w == "device"
            )  # fmt: skip
            figures = (
                busy + sent + back + waited, energy, sum(c.sent_bytes for c in cuts),
                p.quality - sum(p.quality - c.quality for c in cuts), memory,
            )  # fmt: skip
            depth = next((i for i, w in enumerate(places) if w == "edge"), len(places))
            found.append((depth, (places, cuts), figures))
    return found


@pytest.mark.parametrize("objective", [0, 1])
def test_the_best_two_of_all_paths(objective):
    name = ("latency_s", "energy_j")[objective]
    planned = crossed = bound = 0
    for rng in instances.seeds(230):
        p = instances.profile(rng, stages=rng.randint(1, 5), whole=rng.random() < 0.7)
        # Stages that suit one side, quick codecs and links make crossings worth while.
        p = replace(
            p,
            edge_s=tuple(rng.choice([0.001, 0.05]) for _ in p.stages),
            cuts=tuple(replace(c, encode_s=1e-3, decode_s=1e-3) for c in p.cuts),
        )
        ln = replace(
            instances.link(rng),
            up_bits_per_s=10 ** rng.uniform(7, 8),
            down_bits_per_s=None,
            rtt_s=rng.choice([0.0, 0.01]),
        )
        load = rng.choice([1.0, 2.0])
        rows = every_path(p, ln, load)
        if not rows:
            with pytest.raises(UsageError, match="no plan of net is there"):
                jointdnn(p, ln, load=load)
            continue
        private = p.stages[:1] if rng.random() < 0.2 else ()
        b = instances.bounds(rng, rows, private)
        inside = [r for r in rows if instances.within(b, r[0], r[2], p)]
        if not inside:
            with pytest.raises(UsageError, match="no plan of net"):
                jointdnn(p, ln, b, objective=name, load=load)
            continue
        plan = jointdnn(p, ln, b, objective=name, load=load)
        ranked = sorted(r[2][objective] for r in inside)
        assert getattr(plan, name) == pytest.approx(ranked[0])
        own = [r for r in inside if r[1] == (plan.places, plan.cuts)]
        assert own[0][2] == pytest.approx(
            (
                plan.latency_s, plan.energy_j, plan.sent_bytes, plan.quality,
                plan.memory_bytes,
            )
        )  # fmt: skip
        if len(ranked) > 1:
            assert getattr(plan.runner_up, name) == pytest.approx(ranked[1])
        else:
            assert plan.runner_up is None
        free = [r for r in rows if r[0] >= len(private)]
        if plan.binding:
            assert min(r[2][objective] for r in free) < ranked[0] and plan.slack >= 0
        planned += 1
        crossed += len(plan.cuts) > 1
        bound += plan.binding is not None
    assert planned >= 180 and crossed >= 5 and bound >= 30


def every_sum(moves):
    """f[P, 5] of all paths, none left out: the figures of their steps, added up."""
    here, there = np.zeros((1, 5)), np.zeros((0, 5))
    for i, (cuts, down) in enumerate(zip(moves.up, moves.down)):
        if i:
            here, there = here + moves.device[i - 1], there + moves.edge[i - 1]
        here, there = (
            np.concatenate([here, there + down]),
            np.concatenate([there, *(here + step for _, step in cuts)]),
        )
    return here


@pytest.mark.parametrize(("few", "block"), [(12, 128), (0, 3)])
def test_nothing_within_bounds_is_discarded(monkeypatch, few, block):
    """Tight bounds on longer chains, where multipliers and dominance discard most."""
    monkeypatch.setattr(labels, "FEW", few)
    monkeypatch.setattr(labels, "BLOCK", block)
    names = ("deadline_s", "energy_j", "sent_bytes", "memory_bytes", "quality")
    planned = tight = 0
    for rng in instances.seeds(220):
        p = instances.profile(rng, stages=rng.randint(6, 8), codecs=2)
        p = replace(
            p,
            edge_s=tuple(rng.choice([0.001, 0.05]) for _ in p.stages),
            cuts=tuple(replace(c, encode_s=1e-3, decode_s=1e-3) for c in p.cuts),
        )
        ln = replace(
            instances.link(rng), up_bits_per_s=10 ** rng.uniform(6.5, 8), rtt_s=0.002
        )
        figures = every_sum(joint_dnn._moves(p, ln, 1.0, Bounds()))
        figures[:, 4] = p.quality - figures[:, 4]
        signs = np.array([1, 1, 1, 1, -1])
        objective = rng.choice([0, 1])
        inside, asked = np.ones(len(figures), bool), {}
        for k in rng.sample([k for k in range(5) if k != objective], rng.randint(1, 3)):
            best = figures[inside][figures[inside][:, objective].argmin(), k]
            far = (signs * figures)[inside][:, k].min() * signs[k]
            bound = best + rng.uniform(0.1, 0.7) * (far - best)
            if k < 4 and bound < 0:
                continue
            asked[names[k]] = float(bound)
            inside &= signs[k] * figures[:, k] <= signs[k] * bound
        if not inside.any():
            continue
        name = ("latency_s", "energy_j")[objective]
        plan = jointdnn(p, ln, Bounds(**asked), objective=name)
        ranked = np.sort(figures[inside][:, objective])
        assert getattr(plan, name) == pytest.approx(ranked[0], rel=1e-9)
        if len(ranked) > 1:
            assert getattr(plan.runner_up, name) == pytest.approx(ranked[1], rel=1e-9)
        planned += 1
        tight += plan.binding is not None
    assert planned >= 200 and tight >= 100


def test_no_way_back_leaves_the_single_splits():
    for rng in instances.seeds(60):
        p, ln = instances.profile(rng), instances.link(rng)
        one = neurosurgeon(p, ln)
        assert jointdnn(p, ln).latency_s <= one.latency_s * (1 + 1e-12)
        same = jointdnn(replace(p, output_bytes=()), ln)
        assert (same.places, same.cuts) == (one.places, one.cuts)
        assert same.latency_s == pytest.approx(one.latency_s)
        assert same.energy_j == pytest.approx(one.energy_j)


NET = Profile(
    "net", ("a", "b", "c"), (0.01, 0.5, 0.01), (0.3, 0.01, 0.3),
    output_bytes=(1000, 1000, 4), cuts=(Cut("a", "z", 1000),),
)  # fmt: skip


def test_a_stage_that_only_the_edge_does_well_goes_there_and_comes_back():
    plan = jointdnn(NET, Link(1e6, 0.02))
    assert plan.places == ("device", "edge", "device")
    # Two half round trips and 8 ms each way.
    assert plan.latency_s == pytest.approx(0.01 + 0.008 + 0.02 + 0.01 + 0.008 + 0.01)


def test_what_cannot_be_names_the_bound_that_binds():
    with pytest.raises(UsageError, match=r"latency_s <= 0.01: the nearest, cut a/z, "):
        jointdnn(NET, Link(1e6, 0.02), Bounds(deadline_s=0.01))
    with pytest.raises(UsageError, match=r"latency_s <= 0.03: the nearest, local"):
        jointdnn(
            replace(NET, device_s=(0.01, 0.02, 0.01)), Link(1e6, 0.02),
            Bounds(deadline_s=0.03, sent_bytes=10),
        )  # fmt: skip
    with pytest.raises(UsageError, match="energy needs compute_w"):
        jointdnn(NET, Link(1e6, 0.02), objective="energy_j")
    with pytest.raises(UsageError, match="load is 1"):
        jointdnn(NET, Link(1e6, 0.02), load=0.5)


@pytest.mark.parametrize("bound", [{"quality": 0.5}, {"memory_bytes": 10.0}])
def test_a_bound_on_what_no_profile_says_is_one_line(bound):
    edge = replace(NET, cuts=(Cut("input", "z", 1000),))
    (name,) = bound
    for more in ({}, {"deadline_s": 1.0}):
        with pytest.raises(UsageError, match=f"the profile does not say {name}"):
            jointdnn(edge, Link(1e6, 0.02), Bounds(**bound, **more))


@pytest.mark.parametrize("bounded", [("energy_j",), ("energy_j", "sent_bytes")])
def test_bounds_on_two_hundred_stages_leave_few_pairs(monkeypatch, bounded):
    """A count and a ratio, for machines are noisy; by labels at each place a minute."""
    within, compared = labels._within, []

    def counted(one, other, most):
        compared.append(len(one) * len(other))
        return within(one, other, most)

    monkeypatch.setattr(labels, "_within", counted)
    ln = Link(1e8, 0.01, transmit_w=1.0, receive_w=1.0, idle_w=0.1)

    def seconds(p, b):
        begun = time.process_time()
        plan = jointdnn(p, ln, b)
        return plan, time.process_time() - begun

    for seed in range(6):
        rng = random.Random(seed)
        p = instances.profile(rng, stages=200, codecs=4)
        p = replace(p, edge_s=tuple(rng.choice([0.001, 0.05]) for _ in p.stages))
        free, few = seconds(p, Bounds())
        least = jointdnn(p, ln, objective="energy_j")
        asked = {}
        for name in bounded:
            between = 0.3 * getattr(least, name) + 0.7 * getattr(free, name)
            asked[name] = between + 1e4 * (name == "sent_bytes")
        compared.clear()
        plan, many = seconds(p, Bounds(**asked))
        assert all(getattr(plan, name) <= bound for name, bound in asked.items())
        assert plan.latency_s >= free.latency_s
        assert plan.binding in bounded
        # Of the 1e30 paths and more that there are.
        assert sum(compared) < 2e5
        assert many < 30 * few


def test_two_hundred_stages_take_little_and_grow_linearly():
    def seconds(stages):
        p = instances.profile(random.Random(0), stages=stages, codecs=4)
        best = 9.0
        for _ in range(4):
            begun = time.perf_counter()
            jointdnn(p, Link(1e6, rtt_s=0.01))
            best = min(best, time.perf_counter() - begun)
        return best

    few, many = seconds(100), seconds(400)
    # The machine may be another's too: 50 ms idle, and this is not what slips.
    assert seconds(200) < 1.5
    assert many < 4 * 4 * few
