"""The page's section on early exits: what its numbers are made of."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.methods import exit_risk
from benchmarks.results_page import early_exits, exit_claims, exit_picture, page
from sc_jax.traces import record
from sc_jax.traces.trace import Trace


def point(accuracy, share, budget=None):
    return {
        "accuracy": accuracy,
        "cost_share": share,
        "budget_share": share if budget is None else budget,
        "mean_cost_macs": 8e6 * share,
        "examples": 2000,
    }


def row(spec, seed, half, whole=0.9):
    quarters = {"25 %": None, "50 %": point(half, 0.5), "75 %": point(whole, 0.75)}
    return {
        "spec": spec,
        "recipe": spec.split(":")[0],
        "backbone": "cnn",
        "seed": seed,
        "epochs": {"joint": 10},
        "cost_macs": [2e6, 8e6],
        "without_exits_share": 0.8,
        "anytime": [point(0.8, 0.2), point(whole, 1.0)],
        "budgeted": [point(0.8, 0.2), point(half, 0.5, 0.55), point(whole, 0.75)],
        "quarters": quarters | {"100 %": point(whole, 1.0)},
        "max_probability": [None, point(half - 0.05, 0.5), point(whole, 0.75), None],
        "cheapest": point(half, 0.5),
        "risk": point(whole, 0.8),
    }


ROWS = [
    row("msdnet", 0, 0.880),
    row("msdnet", 1, 0.890),
    row("imta", 0, 0.910, 0.92),
    row("phuong", 0, 0.8),
    row("phuong:share=0.1", 0, 0.895),
    row("eenet", 0, 0.895),
]


def test_points_are_chosen_by_cost_and_means_are_over_seeds():
    """70 % of the network without exits is 56 % of that with them here."""
    assert early_exits.near_the_bar(ROWS[0])["accuracy"] == 0.880
    assert exit_claims.at(ROWS[:2], "50 %") == [0.88, 0.89]
    assert exit_claims.at(ROWS[:2], "25 %") == []
    assert exit_claims.at_macs(ROWS[0], 4e6) == 0.880
    assert exit_claims.at_macs(ROWS[0], 5e6) == pytest.approx(0.89)
    assert exit_claims.at_macs(ROWS[0], 1e6) is None
    lines = early_exits.methods(ROWS)
    assert len(lines) == 2 + 5  # the knobs make another recipe, not another seed
    assert "| msdnet | cnn | 2 | 90.00 ± 0.00 | 8.00 M | – | 88.50 ± 0.71 |" in lines[2]
    assert "no: 1.50 (worst 2.00) at 62 %" in lines[2]
    assert "yes: 0.50 at 62 %" in lines[5]


def test_a_claim_is_said_to_hold_only_beyond_the_noise():
    held = exit_claims.claims(ROWS)
    assert held[0].startswith("- imta >= msdnet: in part (+0.50 at 25 %, +3.00 at 50 %")
    assert held[1].startswith("- phuong >= msdnet: does not hold (-1.33 at 25 %, -8.00")
    assert exit_claims.verdict([0.02, 0.03], 0.01) == "holds"
    assert len(held) == 2
    apart = [row("imta", 1, 0.830, 0.92), row("msdnet", 1, 0.890), *ROWS[:1], ROWS[2]]
    (wide,) = exit_claims.claims(apart)  # +3 and -6 points: seeds, paired by number
    assert "-1.50 at 50 %" in wide and "standard error 4.50" in wide
    assert (
        exit_claims.points(-1e-7) == 0 and f"{exit_claims.points(-1e-7):.2f}" == "0.00"
    )
    assert exit_claims.verdict([0.001, -0.002], 0.01) == "within noise"
    assert exit_claims.verdict([0.02, 0.001], 0.01) == "in part"
    (score,) = exit_claims.score_claims(ROWS)
    assert score.startswith(
        "- eenet: its scheduler >= the largest probability: in part"
    )
    assert "+5.00 at 50 %, +0.00 at 75 %" in score


def test_resplits_measure_the_promise_on_all_and_on_the_held_out_half():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=600)
    ease = rng.uniform(0.5, 3, (1, 600, 1))
    signal = np.array([1.0, 3.0]).reshape(2, 1, 1) * ease * np.eye(4)[labels]
    trace = Trace(
        answers=signal + rng.normal(size=(2, 600, 4)),
        labels=labels,
        cost=np.array([1.0, 4.0]),
        net="toy",
        exits=("exit@a", "final"),
        split="validation",
    )
    whole = record.Recorded(trace, np.zeros(2))
    test = record.Recorded(replace(trace, split="test"), np.zeros(2))
    found = exit_risk.resplit(whole, test, 5)
    assert (found["calibration"], found["held_out"], found["times"]) == (600, 600, 5)
    for method in found["methods"].values():
        assert 0.25 <= method["cost_share_mean"] <= 1
        assert method["pooled_over"] <= 0.4 and method["lost_mean"] < 0.02


def test_resplits_of_all_seeds_are_one_line_a_method():
    found = {"lost_mean": 0.002, "lost_p90": 0.006, "cost_share_mean": 0.5}
    shared = {"calibration": 600, "held_out": 500, "times": 9}

    def resplit(over):
        method = found | {"held_out_over": over, "pooled_over": 0.01}
        return {"resplits": shared | {"methods": {"learn_then_test": method}}}

    rows = [ROWS[0] | resplit(0.02), ROWS[1] | resplit(0.05), ROWS[2]]
    assert early_exits.resplits(rows)[2:] == [
        "| msdnet | 2 | 9 | 600 / 500 | learn_then_test | 2–5 % | 1 % | 0.20 | 0.60 | "
        "50.0 |"
    ]


def test_parts_are_written_and_drawn_from_their_table(tmp_path):
    report = {
        "command": "python -m benchmarks.methods.early_exits",
        "date": "2000-01-01",
        "data": "fashion_mnist_12k",
        "machine": {"cpu": "one"},
        "rows": ROWS,
    }
    file = tmp_path / "exit_methods.json"
    file.write_text(json.dumps(report))
    page.put(early_exits.sections(str(file)), tmp_path)
    first, claims = page.parts_of("Early exits on the embedded set", tmp_path)
    assert "- imta >= msdnet: in part" in claims
    curves = exit_picture.of_part(first)
    assert [curve.recipe for curve in curves] == list(exit_claims.by_recipe(ROWS))
    assert curves[0].cost == (50, 75, 100)
    assert curves[0].accuracy == (88.5, 90, 90) and curves[0].whole == 90
    early_exits.draw(tmp_path, tmp_path)
    picture = tmp_path / "exits_fashion_mnist_12k.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_rows_of_one_larger_network_are_a_part_of_their_own():
    assert early_exits.backbone_of([{"backbone": "cnn"}]) == ""
    assert early_exits.backbone_of([{"backbone": "cnn"}, {"backbone": "nin"}]) == ""
    name = "CIFAR-10" + early_exits.backbone_of([{"backbone": "resnet20"}] * 2)
    assert name == "CIFAR-10, resnet20"
    assert early_exits.picture(name) == "exits_cifar10_resnet20.png"
    assert early_exits.picture("CIFAR-10") == "exits_cifar10.png"
