"""The benchmark of planners: every one is timed, and its section says what it took."""

import json

from benchmarks.results_page import page
from benchmarks.results_page import planning as section
from benchmarks.speed import planner_times as planning
from sc_jax.plan import PARTITION


def test_every_planner_plans_the_drawn_networks():
    calls = planning.planners(planning.drawn(12))
    assert {name.partition(",")[0] for name in calls} == set(PARTITION)
    for name, call in calls.items():
        assert call().planner == name.partition(",")[0]
    one, two = (calls[f"jointdnn, {n}"]() for n in ("one bound", "two bounds"))
    assert calls["jointdnn"]().latency_s <= one.latency_s <= two.latency_s
    ms = planning.milliseconds({"li": calls["li"]}, 2)
    assert 0 < ms["li"] < 1000


def test_every_planner_plans_two_hundred_stages_in_a_moment():
    """CPU time, of which 50 ms is met on a quiet machine: it was a second and more."""
    calls = planning.planners(planning.drawn(200))
    for name, ms in planning.milliseconds(calls, 3).items():
        assert ms < 150, name


def test_the_section_is_a_table_and_a_picture(tmp_path):
    rows = [
        {"planner": name, "stages": stages, "ms": ms * stages}
        for name, ms in (("li", 0.01), ("jointdnn, one bound", 0.2))
        for stages in (25, 50)
    ]
    report = {
        "date": "2026-12-01T00:00:00", "command": "python -m benchmarks.speed.planning",
        "machine": {"cpu": "a"}, "runs": 2, "inputs": 5, "rows": rows,
    }  # fmt: skip
    path = tmp_path / "planning.json"
    path.write_text(json.dumps(report))
    text = "\n".join(section.planning(path, tmp_path))
    assert page.table(text) == [
        {"ms at stages": "li", "25": "0.2", "50": "0.5"},
        {"ms at stages": "jointdnn, one bound", "25": "5.0", "50": "10.0"},
    ]
    assert (tmp_path / section.PICTURE).stat().st_size > 5000
