"""Cuts and thresholds against every input of every design point in plain loops."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, receive_s, send_s
from sc_jax.plan.partition.spinn import spinn
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, ExitCost, Profile
from sc_jax.plan.recorded import Records

THRESHOLDS = (0.0, 0.3, 0.6, 0.9, 1.1)


def ordered(p):
    """The profile with its exits in the network's order."""
    ranked = sorted(p.exits, key=lambda e: p.stages.index(e.after))
    return replace(p, exits=tuple(ranked))


def met(p, scores, correct):
    """Records of the profile; what comes over its cuts is not spinn's to read."""
    behind = np.ones((len(p.cuts), scores.shape[1]))
    names = [ending.after for ending in p.exits], [cut.name for cut in p.cuts]
    exits, cuts = map(tuple, names)
    correct = np.asarray(correct)
    return Records(
        p.network, "validation", exits, cuts, scores, correct[:-1], behind, correct[-1]
    )


def one_input(p, ln, cut, leaves, load):
    """(latency_s, energy_j, sent_bytes, device_s, edge_s) of an input that leaves at
    exit `leaves`, or at the end."""
    depth = len(p.stages)
    if cut is not None:
        depth = 0 if cut.after == "input" else p.stages.index(cut.after) + 1
    ends = [p.stages.index(e.after) + 1 for e in p.exits]
    last = (*ends, len(p.stages))[leaves]
    device = sum(p.device_s[: min(last, depth)])
    device += sum(e.device_s for e, n in zip(p.exits, ends) if n <= min(last, depth))
    if last <= depth:
        return device, device * p.compute_w, 0.0, device, 0.0
    edge = sum(p.edge_s[depth:last])
    edge += sum(e.edge_s for e, n in zip(p.exits, ends) if depth < n <= last)
    busy, edge = device + cut.encode_s, load * edge + cut.decode_s
    air, back = send_s(ln, cut.sent_bytes), receive_s(ln, p.reply_bytes)
    energy = busy * p.compute_w + air * (ln.transmit_w + p.idle_w)
    energy += back * (ln.receive_w + p.idle_w)
    energy += (edge + ln.rtt_s) * (ln.idle_w + p.idle_w)
    return busy + air + ln.rtt_s + edge + back, energy, cut.sent_bytes, busy, edge


def every_point(p, ln, scores, correct, load, edge_exits=True):
    found, ends = [], [p.stages.index(e.after) + 1 for e in p.exits]
    for threshold, cut in itertools.product(THRESHOLDS, (None, *p.cuts)):
        rows, right, sent, seen = [], 0, 0, p
        if cut is not None and not edge_exits:
            # A server that runs to the end has no exits behind the cut.
            before = ("input", *p.stages).index(cut.after)
            seen = replace(p, exits=p.exits[: sum(end <= before for end in ends)])
        for n in range(scores.shape[1]):
            sure = [e for e in range(len(seen.exits)) if scores[e, n] >= threshold]
            leaves = sure[0] if sure else len(seen.exits)
            rows.append(one_input(seen, ln, cut, leaves, load))
            right += correct[leaves if sure else -1, n]
            sent += rows[-1][2] > 0
        mean = np.mean(rows, axis=0)
        lost = (p.quality - cut.quality) * sent / len(rows) if cut else 0.0
        found.append((threshold, cut, mean, right / len(rows) - lost))
    return found


def ranked_by(objectives, point):
    figures = {
        "latency_s": point[2][0],
        "energy_j": point[2][1],
        "quality": -point[3],
        "throughput_per_s": max(point[2][3], point[2][4]),
    }
    return tuple(round(figures[name], 9) for name in objectives)


@pytest.mark.parametrize("edge_exits", [True, False])
@pytest.mark.parametrize(
    "objectives", [("latency_s",), ("quality", "energy_j"), ("throughput_per_s",)]
)
def test_the_best_design_point_is_found(objectives, edge_exits):
    planned = 0
    for rng in instances.seeds(200):
        p, ln = ordered(instances.profile(rng, exits=3, codecs=1)), instances.link(rng)
        if not p.exits:
            continue
        values = np.random.default_rng(rng.randrange(1 << 30))
        scores = values.random((len(p.exits), 6))
        correct = values.random((len(p.exits) + 1, 6)) < 0.7
        load = rng.choice([1.0, 3.0])
        points = every_point(p, ln, scores, correct, load, edge_exits)
        floor = rng.choice(points)[3] * rng.uniform(0.9, 1.05)
        top = rng.choice(points)[2][0] * rng.uniform(0.95, 1.3)
        inside = [q for q in points if q[3] >= floor and q[2][0] <= top]
        run = partial(
            spinn, p, ln, Bounds(deadline_s=top, quality=floor),
            records=met(p, scores, correct), objectives=objectives,
            thresholds=THRESHOLDS, load=load, edge_exits=edge_exits,
        )  # fmt: skip
        # On the edge of a bound the two sums may round apart.
        if any(abs(q[3] - floor) < 1e-9 or abs(q[2][0] - top) < 1e-9 for q in points):
            continue
        if not inside:
            with pytest.raises(UsageError, match="no plan of net keeps"):
                run()
            continue
        plan = run()
        key = partial(ranked_by, objectives)
        best = min(map(key, inside))
        own = next(q for q in inside if q[:2] == (plan.threshold, plan.cut))
        assert key(own) == pytest.approx(best, abs=2e-9)
        assert plan.latency_s == pytest.approx(own[2][0])
        assert plan.energy_j == pytest.approx(own[2][1])
        assert plan.sent_bytes == pytest.approx(own[2][2])
        assert plan.quality == pytest.approx(own[3])
        planned += 1
    assert planned >= 60


NET = Profile(
    "net", ("a", "b"), (0.01, 0.04), (0.001, 0.002), quality=0.9,
    cuts=(Cut("a", "z", 100, quality=0.9),), exits=(ExitCost("a", 0.001),),
)  # fmt: skip


def test_a_slow_link_is_for_those_alone_that_are_unsure():
    scores = np.array([[0.9, 0.8, 0.95, 0.2]])
    correct = np.array([[True, True, True, False], [True] * 4])
    asked = {"records": met(NET, scores, correct), "thresholds": (0.5, 1.1)}
    plan = spinn(NET, Link(1e4, 0.0), Bounds(quality=1.0), **asked)
    # 0.05 s for the last, 0.011 for three others: nothing is worth sending.
    assert plan.name == "local, threshold 0.5" and plan.quality == 1.0
    assert plan.latency_s == pytest.approx(0.011 + 0.04 / 4)
    plan = spinn(NET, Link(1e6, 0.0), Bounds(quality=1.0), **asked)
    assert plan.name == "cut a/z, threshold 0.5" and plan.sent_bytes == 25


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"objectives": ("speed",)}, "unknown objective of spinn 'speed'"),
        ({"thresholds": ()}, "needs an objective and a threshold"),
        ({"load": 0.5}, "load is 1"),
    ],
)
def test_mistakes_are_one_line(changed, said):
    records = met(NET, np.zeros((1, 4)), np.ones((2, 4), bool))
    with pytest.raises(UsageError, match=said):
        spinn(NET, Link(1e6, 0.0), records=records, **changed)
    other = replace(NET, exits=(ExitCost("a"),), stages=("a", "c"))
    with pytest.raises(UsageError, match="no exit after a, which its profile has"):
        spinn(other, Link(1e6, 0.0), records=replace(records, exits=("b",)))
