"""The page's section on early exits: what its numbers are made of."""

import json

from benchmarks import exit_results


def point(accuracy, share, budget=None):
    return {
        "accuracy": accuracy,
        "cost_share": share,
        "budget_share": share if budget is None else budget,
    }


def row(recipe, seed, half, whole=0.9):
    quarters = {"25 %": None, "50 %": point(half, 0.5), "75 %": point(whole, 0.75)}
    return {
        "recipe": recipe,
        "backbone": "cnn",
        "seed": seed,
        "epochs": {"joint": 10},
        "cost_macs": [2e6, 8e6],
        "anytime": [point(0.8, 0.2), point(whole, 1.0)],
        "budgeted": [point(0.8, 0.2), point(half, 0.52, 0.6), point(whole, 0.75)],
        "quarters": quarters | {"100 %": point(whole, 1.0)},
        "cheapest": point(half, 0.5),
        "risk": point(whole, 0.8),
    }


ROWS = [
    row("msdnet", 0, 0.880),
    row("msdnet", 1, 0.890),
    row("imta", 0, 0.895),
    row("phuong", 0, 0.8),
]


def test_points_are_chosen_by_cost_and_means_are_over_seeds():
    assert exit_results.near_the_bar(ROWS[0])["accuracy"] == 0.880
    assert exit_results.at(ROWS[:2], "50 %") == 0.885
    assert exit_results.at(ROWS[:2], "25 %") is None
    lines = exit_results.methods(ROWS)
    assert len(lines) == 2 + 3
    assert "| msdnet | cnn | 2 | 90.00 | 8.00 M | – | 88.50 | 90.00 |" in lines[2]
    assert "no: 1.50 at 52 %" in lines[2] and "yes: 0.50 at 52 %" in lines[3]


def test_a_claim_is_said_to_hold_only_where_it_does():
    held = exit_results.claims(ROWS)
    assert held[0].startswith("- imta >= msdnet: holds (+1.00 at 50 %")
    assert held[1] == "- phuong >= msdnet: does not hold (-8.50 at 50 %)."
    assert len(held) == 2


def test_a_section_is_written_and_drawn(tmp_path):
    made = {
        "command": "python -m benchmarks.exit_methods",
        "date": "2000-01-01",
        "data": "fashion_mnist_12k",
        "machine": {"cpu": "one"},
        "rows": ROWS,
    }
    file = tmp_path / "exit_methods.json"
    file.write_text(json.dumps(made))
    page = exit_results.section(str(file), tmp_path)
    assert page[0] == "## Early exits on the embedded set"
    assert (tmp_path / "exits_embedded.png").read_bytes()[:4] == b"\x89PNG"
