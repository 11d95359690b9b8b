"""The benchmark's arithmetic: latency, break-even, files matched in accuracy."""

import json

import pytest

from benchmarks.methods.deployments import (
    PEER,
    SERVER,
    Deployment,
    add_latencies,
    latency_s,
    matched,
    measure,
)
from benchmarks.results_page import baselines
from sc_jax.evaluate.reports.report import Row
from sc_jax.plan.link import LINKS, Link

LINK = Link(1e6, rtt_s=0.02)


def deployment(name, seconds, *, top1=None, framed=None, dtype="float32", group="g"):
    return Deployment(group, name, dtype, lambda n: dict(seconds), top1, framed)


def file(method, setting, size, top1, family="classical"):
    pair = (float(size), float(size))
    return Row(method, setting, family, top1, 10, pair, pair, pair, None, 0, 0)


def test_latency_is_device_air_round_trip_and_server():
    head = {"head": 0.003, "code": 0.001, SERVER: 0.01}
    (row,) = measure([deployment("head", head, top1=0.9, framed=1250.0)], 3)
    assert row["device_s"] == pytest.approx(0.004)
    assert latency_s(row, LINK) == pytest.approx(0.004 + 0.01 + 0.02 + 0.01)


def test_local_waits_for_no_link_and_the_unclaimed_has_no_latency():
    local, unknown = measure(
        [
            deployment("local", {"whole": 0.3}, framed=0.0),
            deployment("head", {"head": 0.1}),
        ],
        2,
    )
    assert latency_s(local, LINK) == pytest.approx(0.3)
    assert latency_s(unknown, LINK) is None


def test_medians_leave_out_the_warm_up_and_the_first_of_each_turn():
    once = iter([9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 9.0, 2.0, 9.0, 30.0]).__next__
    (row,) = measure(
        [Deployment("g", "w", "", lambda n: {"head": once()})], 3, warm_up=2
    )
    assert row["device_s"] == 2.0


def test_every_way_has_one_turn_a_round():
    turns = []

    def turn(name):
        return Deployment(
            "g", name, "", lambda n: turns.append((name, n)) or {"head": 0.0}
        )

    measure([turn("a"), turn("b")], 1, warm_up=1)
    assert turns[::2] == turns[1::2] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_matching_takes_the_smallest_file_that_is_as_accurate():
    rows = [
        file("teacher", "", 0, 0.95, family="reference"),
        file("edge-only PNG", "lossless", 500, 0.95),
        file("edge-only JPEG", "q=10", 100, 0.80),
        file("edge-only JPEG", "q=50", 200, 0.90),
        file("edge-only JPEG", "q=75", 300, 0.93),
        file("edge-only WebP lossless", "lossless", 450, 0.95),
        file("edge-only WebP", "q=90", 260, 0.89),
        file("Entropic Student", "beta=1", 50, 0.90, family="learned"),
    ]
    found = {name: row.setting for name, row in matched(rows, 0.90).items()}
    assert found == {"JPEG": "q=50", "PNG": "lossless", "WebP": "lossless"}
    assert "PNG" not in matched(rows, 0.96)


def test_rows_become_a_picture_and_a_section(tmp_path):
    head = {"head": 0.003, "code": 0.001, SERVER: 0.01}
    rows = measure(
        [
            deployment("head + coder", head, top1=0.9, framed=80.0),
            deployment("whole cnn, local", {"whole": 0.3}, top1=0.95, framed=0.0),
            deployment("patch head", {"head": 0.01, "code": 0.001}, group="224"),
            deployment(PEER, {"head": 0.05, "code": 0.005}, group="224"),
            deployment(
                "JPEG q=75", {"code": 0.0005}, framed=9e3, dtype="", group="224"
            ),
        ],
        2,
    )
    add_latencies(rows)
    assert rows[2]["peer_ratio"] == pytest.approx(5)
    assert "peer_ratio" not in rows[4]
    assert list(rows[0]["latency_s"]) == list(rows[2]["break_even_bytes"])
    links = {k: vars(link) for k, link in LINKS.items()}
    report = {
        "date": "2026-01-01",
        "machine": {"instructions": "avx2"},
        "versions": {},
        "threads": 1,
    }
    report |= {"rounds": 2, "command": "x", "links": links, "reference": "JPEG q=75"}
    report |= {
        "points_below": 0.0,
        "assumed_rtt": ["LTE"],
        "peer": {"versions": {}, "different": 0.0},
    }
    (tmp_path / "r.json").write_text(json.dumps({**report, "rows": rows}))
    page = "\n".join(baselines.head_vs_baselines(str(tmp_path / "r.json"), tmp_path))
    assert page.startswith("## Head and coder beside local computing and image files,")
    assert page.splitlines()[0].endswith(", avx2")
    assert (tmp_path / "baselines_r_avx2.png").stat().st_size > 10_000
    assert "| patch head | float32 | 10.00 | 1.00 | 11.00 | 5.00 |" in page
