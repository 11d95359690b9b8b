"""Many tasks on servers: nothing overfull, and the share of the optimum reached."""

import itertools
from dataclasses import replace

import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition import li_ota_dong as planner
from sc_jax.plan.partition.li_ota_dong import Server, Task
from sc_jax.plan.profile import Cut

LINK = Link(1e6, 0.005)


def instance(rng):
    tasks = []
    for i in range(rng.randint(2, 4)):
        p = instances.profile(rng, stages=rng.randint(1, 3), codecs=1, whole=False)
        tasks.append(Task(f"t{i}", p, rng.uniform(0.05, 0.3), rng.uniform(1, 30)))
    servers = [
        Server(f"e{i}", 10 ** rng.uniform(5.5, 7), rng.uniform(0.1, 0.6))
        for i in range(rng.randint(1, 2))
    ]
    return tasks, servers


def known_of(tasks):
    return {t.name: {d.cut: d for d in planner.demands(t, LINK)} for t in tasks}


def keeps(known, servers, admissions):
    """Whether each task stands once, and no server is overfull."""
    names = [a.task for a in admissions]
    assert len(set(names)) == len(names)
    for server in servers:
        taken = [known[a.task][a.cut] for a in admissions if a.server == server.name]
        if sum(d.up_bits_per_s for d in taken) > server.up_bits_per_s * (1 + 1e-9):
            return False
        if sum(d.load for d in taken) > server.capacity * (1 + 1e-9):
            return False
    return True


def most(known, servers):
    """How many tasks can be admitted at all, by every choice of cut and server."""
    choices = []
    for name, demands in known.items():
        rows = [None]
        for cut in demands:
            if cut == "local":
                rows = [planner.Admission(name, "local", None)]
                break
            rows += [planner.Admission(name, cut, s.name) for s in servers]
        choices.append(rows)
    return max(
        len([a for a in picked if a])
        for picked in itertools.product(*choices)
        if keeps(known, servers, [a for a in picked if a])
    )


def test_greedy_is_never_overfull_and_near_the_optimum():
    greedy = online = best = 0
    for rng in instances.seeds(200):
        tasks, servers = instance(rng)
        offline = planner.schedule(tasks, servers, LINK)
        arriving = planner.admitted(tasks, servers, LINK)
        known = known_of(tasks)
        assert keeps(known, servers, offline) and keeps(known, servers, arriving)
        top = most(known, servers)
        assert max(len(offline), len(arriving)) <= top
        greedy, online, best = (
            greedy + len(offline), online + len(arriving), best + top,
        )  # fmt: skip
    assert best > 200 and greedy >= 0.9 * best and online >= 0.85 * best


def test_bandwidth_is_what_meets_the_deadline_by_hand():
    p = instances.profile(instances.seeds(1)[0], stages=1, codecs=1)
    p = replace(p, device_s=(1.0,), edge_s=(0.02,), reply_bytes=0.0)
    cut = replace(p.cuts[0], sent_bytes=1000, encode_s=0.01, decode_s=0.005)
    task = Task("t", replace(p, cuts=(cut,)), deadline_s=0.14, inputs_per_s=2.0)
    (demand,) = planner.demands(task, LINK)
    # 140 ms less 10 encoding, 5 round trip, 5 decoding and 20 computing: 100 ms.
    assert demand.up_bits_per_s == pytest.approx(80_000)
    assert demand.load == pytest.approx(0.05)
    (demand,) = planner.demands(replace(task, inputs_per_s=100.0), LINK)
    assert demand.up_bits_per_s == pytest.approx(800_000)


def test_a_head_that_is_slower_than_the_inputs_come_is_no_demand():
    p = instances.profile(instances.seeds(1)[0], stages=2, codecs=1)
    cuts = (Cut("input", "c", 100), Cut("s0", "c", 100, encode_s=0.01))
    p = replace(p, device_s=(0.04, 9.0), edge_s=(0.001, 0.001), cuts=cuts)
    for rate, names in ((19.0, ["input/c", "s0/c"]), (21.0, ["input/c"])):
        found = planner.demands(Task("t", p, 1.0, rate), LINK)
        assert [each.cut for each in found] == names


def test_names_stand_once():
    p = instances.profile(instances.seeds(1)[0])
    twice = [Task("t", p, 0.1, 1.0)] * 2
    with pytest.raises(UsageError, match="tasks have names, each once: t, t"):
        planner.schedule(twice, [Server("e", 1e6)], LINK)
    with pytest.raises(UsageError, match="deadline_s of t is a finite number above 0"):
        Task("t", p, 0.0, 1.0)
