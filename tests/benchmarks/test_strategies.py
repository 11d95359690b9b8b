"""Strategies of the end-to-end benchmark, its slowed device, and its section."""

import json
import time
from functools import partial

import numpy as np
import pytest

from benchmarks.results_page import end_to_end
from benchmarks.serving import slow_device, strategies
from sc_jax import spec
from sc_jax.plan import Bounds, Cut, ExitCost, Link, Profile, Records, joint
from sc_jax.recipes import RECIPES

STAGES = ("stem", "middle", "top")
WHOLE = Profile(
    "net", STAGES, device_s=(0.01, 0.02, 0.03), edge_s=(0.001, 0.002, 0.003),
    cuts=(Cut("stem", "float32", 50_000, quality=0.8),), quality=0.8,
)  # fmt: skip
FILES = Profile(
    "jpeg", STAGES, device_s=WHOLE.device_s, edge_s=WHOLE.edge_s,
    cuts=(Cut("input", "image", 9_000, 0.004, 0.001, quality=0.79),),
)  # fmt: skip
PAIR = Profile(
    "pair", STAGES, device_s=WHOLE.device_s, edge_s=WHOLE.edge_s,
    cuts=tuple(
        Cut("stem", f"level={n}", 500 * (n + 1), 0.001, 0.001, quality=0.6 + n / 10)
        for n in range(3)
    ),
)  # fmt: skip
KINDS = {
    "whole": strategies.LAYERS,
    "jpeg": strategies.FILE,
    "pair": strategies.STUDENT,
}
EVERY = strategies.strategies(KINDS, {"whole": WHOLE, "jpeg": FILES, "pair": PAIR})


def test_only_the_unmodified_network_is_computed_locally():
    local = {name for name in EVERY for each in EVERY[name].values() if each.local}
    assert local == {strategies.LOCAL, strategies.LAYERS}


@pytest.mark.parametrize("rate", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("factor", [1, 4, 16])
def test_the_choice_is_the_fastest_of_all_within_the_floor(rate, factor):
    link, bounds = Link(rate, 0.01), Bounds(quality=0.75)
    planned = strategies.plans(EVERY, link, bounds, factor)
    prices = {strategies.LOCAL: factor * sum(WHOLE.device_s)}
    for strategy, profile in (
        (strategies.LAYERS, WHOLE),
        (strategies.FILE, FILES),
        (strategies.STUDENT, PAIR),
    ):
        depth = {"input": 0, "stem": 1}
        prices[strategy] = min(
            factor * (sum(WHOLE.device_s[: depth[cut.after]]) + cut.encode_s)
            + 8 * cut.sent_bytes / rate
            + link.rtt_s
            + cut.decode_s
            + sum(WHOLE.edge_s[depth[cut.after] :])
            for cut in profile.cuts
            if cut.quality >= 0.75
        )
    # Its own strategy computes locally where that is faster than to send.
    prices[strategies.LAYERS] = min(prices[strategies.LAYERS], prices[strategies.LOCAL])
    found = {name: plan.latency_s for name, (_, plan) in planned.items()}
    assert found == pytest.approx(prices)
    assert prices[strategies.chosen(planned)] == min(prices.values())
    assert planned[strategies.STUDENT][1].cut.codec == "level=2"


def test_a_floor_that_a_strategy_cannot_keep_leaves_it_out():
    planned = strategies.plans(EVERY, Link(1e6, 0.01), Bounds(quality=0.795))
    assert set(planned) == {strategies.LOCAL, strategies.LAYERS, strategies.STUDENT}
    (row,) = strategies.regions(EVERY, (1e3, 1e9), (16.0,), 0.0, Bounds(quality=0.75))
    assert row == [strategies.LOCAL, strategies.FILE]


def test_what_a_run_sends_names_its_strategy():
    def strategy(recipe):
        kinds = [s.compressor.codec({}, (8, 8, 1)).kind for s in recipe.net.splits]
        return strategies.strategy_of(recipe, *kinds)

    knobs = {"teacher_epochs": 0.01}
    for text, expected in (
        ("after=input,compressor=image:format=JPEG+quality=50", strategies.FILE),
        ("after=input,compressor=image:format=PNG", strategies.LAYERS),
        ("compressor=raw", strategies.LAYERS),
    ):
        name, own = spec.parse(f"unmodified:{text}", "recipe")
        assert strategy(RECIPES[name](**own, **knobs)) == expected
    clipped = RECIPES["unmodified"](**knobs)
    assert strategies.strategy_of(clipped, "clipped") == strategies.FREE
    exits = RECIPES["shallow_deep"](frozen=True, after="layer2", **knobs)
    assert strategies.strategy_of(exits, "clipped") == strategies.EXITS
    student = RECIPES["entropic_student"](**knobs)
    assert strategies.strategy_of(student, "factorized") == strategies.STUDENT
    assert strategies.strategy_of(student.teacher) == strategies.LAYERS


def test_a_slow_device_takes_its_time_before_it_sends():
    begun = []

    class Server:
        def infer(self, model, data, timeout_s, reply):
            begun.append(time.perf_counter())
            return type("Reply", (), {"outputs": {"prediction": np.array(3)}})

    def compute(image):
        time.sleep(0.02)
        return b"frame", None

    start = time.perf_counter()
    took = slow_device.once(compute, np.zeros(1), 4, Server(), "model")
    assert begun[0] - start >= 0.08 and took.device_s >= 0.08
    assert (took.sent_bytes, took.prediction) == (5, 3)
    alone = slow_device.once(lambda _: (None, 7), np.zeros(1), 1, Server(), "")
    assert (alone.sent_bytes, alone.prediction, len(begun)) == (0, 7, 1)


def row(strategy, predicted, took, on_link=0.0, chosen=False, **more):
    return {
        "link": "LTE", "factor": 4.0, "strategy": strategy, "plan": "cut",
        "predicted_s": predicted, "p50_s": took, "p95_s": took, "energy_j": None,
        "device_s": 0.01, "sent_bytes": 10, "quality": 0.8, "chosen": chosen,
        "on_link_s": on_link, "images": 12, **more,
    }  # fmt: skip


def test_the_section_says_how_far_the_plan_was_off(tmp_path):
    rows = [
        row("local", 0.1, 0.2),
        row("b", 0.09, 0.1, on_link=0.08),
        row("c", 0.08, 0.12, on_link=0.04, chosen=True),
    ]
    report = {
        "date": "2026-01-02", "command": "python -m x", "machine": {"cpu": "x"},
        "network": "net", "local_quality": 0.82, "floor": 0.79, "rows": rows,
        "watts": {"device": {"compute_w": 2.0}},
    }  # fmt: skip
    found = end_to_end.cells(rows)
    assert end_to_end.loss(rows) == pytest.approx(0.2)
    assert end_to_end.pace(rows) == 2.0
    assert end_to_end.errors(found) == pytest.approx([0.5, 0.1, 1 / 3])
    # Twice as slow: 0.08 + 2 x 0.01 against 0.1, and 0.04 + 2 x 0.04 against 0.12.
    assert end_to_end.errors(found, paced=True) == pytest.approx([0.0, 0.0])
    (tmp_path / "r.json").write_text(json.dumps(report))
    text = "\n".join(end_to_end.end_to_end(tmp_path / "r.json", tmp_path))
    assert "on 0 of 1 links, at worst +20% (LTE)" in text
    assert "off by 33% in the median" in text and "took 2.00 to 2.00" in text
    assert (tmp_path / "r.png").stat().st_size > 1000


def test_a_choice_that_was_not_run_is_named():
    rows = [row("local", 0.1, 0.2), row("b", 0.09, 0.1, on_link=0.08)]
    report = {"rows": [*rows, {**row("c", 0.01, 0.1, chosen=True), "note": "none"}]}
    del report["rows"][-1]["p50_s"]
    other = [{**each, "link": "3G", "chosen": each is rows[0]} for each in rows]
    report["rows"] += other
    first, second, *_ = end_to_end.summary(report)
    assert first == "- device x4: the choice was not run on LTE"
    assert "on 0 of 1 links, at worst +100% (3G)" in second


def test_of_two_heaps_the_mean_counts(tmp_path):
    exits = row("exits", 0.1, 0.01, stays=0.4, mean_s=0.11, left=7)
    assert end_to_end.took_s(exits) == 0.11
    local = row("local", 0.1, 0.1, chosen=True, mean_s=0.5, stays=1.0)
    assert end_to_end.winner([exits, local]) is local
    assert end_to_end.loss([exits, local]) == 0.0


LEAVING = Profile(
    "leaving", STAGES, device_s=WHOLE.device_s, edge_s=WHOLE.edge_s,
    cuts=(Cut("stem", "clipped", 3_000, 0.002, 0.001, quality=0.8),),
    exits=(ExitCost("stem", 0.001, 0.001, 0.6), ExitCost("middle", 0.001, 0.001, 0.8)),
    quality=0.8,
)  # fmt: skip


def test_exits_leave_before_the_cut_as_surely_as_asked():
    n = 4000
    drawn = np.random.default_rng(0)
    whole = (drawn.uniform(size=n) < 0.8).astype(float)
    score = drawn.uniform(size=n)
    # Who is sure is as right as the whole network, who is not is wrong.
    right = np.where(score > 0.6, whole, 0.0)
    met = Records(
        "leaving", "test", ("stem", "middle"), ("stem/clipped",),
        np.stack([score, score]), np.stack([right, whole]), whole[None], whole,
    )  # fmt: skip
    kinds = {**KINDS, "leaving": strategies.EXITS}
    parts = {"whole": WHOLE, "jpeg": FILES, "pair": PAIR, "leaving": LEAVING}
    every = strategies.strategies(kinds, parts)
    (known,) = every[strategies.EXITS].values()
    assert [e.after for e in known.exits] == ["stem"] and not known.local
    risk = {"leaving": partial(joint, records=met, max_risk=0.03)}
    link, factor = Link(1e5, 0.01), 4
    planned = strategies.plans(every, link, Bounds(quality=0.75), factor, risk)
    name, plan = planned[strategies.EXITS]
    assert (name, plan.exit) == ("leaving", "stem") and plan.cut.after == "stem"
    stay = np.mean(score < plan.threshold)
    assert stay == pytest.approx(plan.sent_bytes / 3_000)
    assert 0.55 < stay <= 0.7 and plan.quality >= 0.8 * 0.97
    own = factor * (0.01 + 0.001)
    rest = factor * 0.002 + 8 * 3_000 / 1e5 + 0.01 + 0.001 + 0.002 + 0.003
    assert plan.latency_s == pytest.approx(own + stay * rest)
    # Too few were recorded to be sure of so little.
    safe = {"leaving": partial(joint, records=met, max_risk=1e-3)}
    assert strategies.best(every[strategies.EXITS], link, Bounds(), 1, safe) is None
