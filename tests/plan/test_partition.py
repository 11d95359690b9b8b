"""Planners that enumerate against plain loops; bounds, ties, and what they say."""

import random
import time
from dataclasses import replace
from functools import partial

import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.edgent import edgent
from sc_jax.plan.partition.jeong import jeong
from sc_jax.plan.partition.li import li
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, ExitCost, Profile


def compared(plan_it, rows, bounds, key, profile):
    """The plan against the loops: the same optimum, or both find none."""
    inside = [r for r in rows if instances.within(bounds, r[0], r[2], profile)]
    if not inside:
        with pytest.raises(UsageError, match="no plan of net"):
            plan_it()
        return None
    ranked = sorted(map(key, inside))
    plan = plan_it()
    figures = (plan.latency_s, plan.energy_j, plan.sent_bytes, plan.quality)
    depth = plan.places.count("device")
    own = (depth, plan.cut, (*figures, plan.memory_bytes))
    assert key(own) == pytest.approx(ranked[0])
    assert instances.within(bounds, depth, own[2], profile)
    theirs = [
        r for r in inside if r[1] == plan.cut and key(r) == pytest.approx(ranked[0])
    ]
    assert theirs and theirs[0][2] == pytest.approx(own[2])
    if len(ranked) > 1:
        other = plan.runner_up
        its = (other.latency_s, other.energy_j, other.sent_bytes, other.quality)
        its = (other.places.count("device"), other.cut, (*its, other.memory_bytes))
        assert key(its) == pytest.approx(ranked[1])
        assert plan.name != other.name and other.runner_up is None
    else:
        assert plan.runner_up is None
    better = any(key(r) < ranked[0] - 1e-12 for r in rows)
    assert (plan.binding is None) or better
    if better:
        assert plan.binding and plan.slack >= 0
    return plan


@pytest.mark.parametrize("objective", [0, 1])
def test_neurosurgeon_is_the_best_of_all_splits(objective):
    found = 0
    name = ("latency_s", "energy_j")[objective]
    for rng in instances.seeds():
        p, ln = instances.profile(rng, whole=rng.random() < 0.7), instances.link(rng)
        load = rng.choice([1.0, 5.0])
        rows = instances.single(p, ln, load)
        if not rows:
            continue
        b = instances.bounds(rng, rows)
        found += None is not compared(
            partial(neurosurgeon, p, ln, b, objective=name, load=load),
            rows, b, lambda r: r[2][objective], p,
        )  # fmt: skip
    assert found >= 100


def test_edgent_is_the_deepest_exit_that_fits():
    exits = 0
    for rng in instances.seeds():
        p, ln = instances.profile(rng, exits=3), instances.link(rng)
        rows = []
        for ending in (*p.exits, None):
            end = p.stages.index(ending.after) + 1 if ending else len(p.stages)
            rows += [(*r, end) for r in instances.single(p, ln, ending=ending)]
        b = Bounds(deadline_s=rng.choice(rows)[2][0] * rng.uniform(0.95, 1.2))
        inside = [r for r in rows if instances.within(b, r[0], r[2], p)]
        if not inside:
            with pytest.raises(UsageError, match="latency_s <="):
                edgent(p, ln, b)
            continue
        plan = edgent(p, ln, b)
        best = min(inside, key=lambda r: (-r[3], r[2][0]))
        assert len(plan.stages) == best[3] and plan.latency_s <= b.deadline_s
        assert plan.latency_s == pytest.approx(best[2][0])
        assert plan.quality == pytest.approx(best[2][3])
        exits += plan.exit is not None
    assert exits >= 25


def test_li_and_jeong_are_the_fastest_within_their_constraint():
    for rng in instances.seeds():
        p, ln = instances.profile(rng), instances.link(rng)
        rows, loss = instances.single(p, ln), rng.uniform(0, 0.4)
        b = Bounds(quality=p.quality - loss)
        compared(partial(li, p, ln, quality_loss=loss), rows, b, lambda r: r[2][0], p)
        first = rng.randint(1, len(p.stages))
        b = Bounds(private=p.stages[:first])
        plan = compared(
            partial(jeong, p, ln, first=first),
            rows,
            b,
            lambda r: r[2][0],
            p,
        )
        assert set(plan.places[:first]) == {"device"}


NET = Profile(
    "net", ("a", "b"), (0.010, 0.020), (0.001, 0.002),
    cuts=(Cut("input", "jpeg", 1000, quality=0.8), Cut("a", "latent", 100)),
    exits=(ExitCost("a", 0.001, quality=0.6),), quality=0.9,
)  # fmt: skip
SLOW, FAST = Link(1e4, rtt_s=0.0), Link(1e9, rtt_s=0.0)


def test_the_plan_moves_from_local_to_edge_as_the_link_gets_faster():
    assert neurosurgeon(NET, SLOW).name == "local"
    plan = neurosurgeon(NET, FAST)
    assert plan.name == "cut input/jpeg" and plan.places == ("edge", "edge")
    assert plan.runner_up.name == "cut a/latent" and plan.binding is None
    assert plan.latency_s == pytest.approx(0.003 + 8e-6)


def test_what_cannot_be_says_by_how_much_the_nearest_misses():
    with pytest.raises(UsageError) as said:
        neurosurgeon(NET, SLOW, Bounds(deadline_s=0.02))
    assert str(said.value) == (
        "neurosurgeon: no plan of net keeps latency_s <= 0.02: the nearest, local, "
        "takes 0.03 and misses it by 0.01"
    )
    with pytest.raises(UsageError, match=r"keeps quality >= 0.95.*local.*by 0.05"):
        neurosurgeon(NET, SLOW, Bounds(quality=0.95))
    with pytest.raises(UsageError, match="energy needs compute_w"):
        neurosurgeon(NET, SLOW, objective="energy_j")
    with pytest.raises(UsageError, match="energy needs compute_w"):
        neurosurgeon(NET, SLOW, Bounds(energy_j=1.0))
    with pytest.raises(UsageError, match=r"unknown private stage 'c'.*Known: a, b"):
        neurosurgeon(NET, SLOW, Bounds(private=("c",)))
    edge_only = replace(NET, device_s=(None, None), cuts=NET.cuts[:1])
    with pytest.raises(UsageError, match="input/jpeg, sends 1 stages too early"):
        jeong(edge_only, FAST)
    with pytest.raises(UsageError, match="has no cut to send at"):
        neurosurgeon(replace(edge_only, cuts=()), FAST)


def test_the_bound_that_binds_is_the_one_that_refuses_the_better_plan():
    plan = neurosurgeon(NET, FAST, Bounds(quality=0.85, deadline_s=1.0))
    assert plan.name == "local" and plan.binding == "quality"
    assert plan.slack == pytest.approx(0.05)


def test_a_local_answer_needs_no_power_of_the_radio():
    plan = neurosurgeon(
        replace(NET, compute_w=2.0, cuts=()), SLOW, objective="energy_j"
    )
    assert plan.energy_j == pytest.approx(0.06)


def test_two_hundred_stages_take_little_and_grow_linearly():
    def seconds(stages):
        rng = random.Random(0)
        p = instances.profile(rng, stages=stages, exits=8, codecs=4)
        best = 9.0
        for _ in range(5):
            begun = time.perf_counter()
            neurosurgeon(p, Link(1e6, rtt_s=0.01), Bounds(deadline_s=100.0))
            best = min(best, time.perf_counter() - begun)
        return best

    few, many = seconds(100), seconds(400)
    # The machine may be another's too: 50 ms idle, and this is not what slips.
    assert seconds(200) < 1.5
    assert many < 4 * 4 * few
