"""What the results page makes of measured files."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.results_page import page, peer, trade, training
from sc_jax.evaluate.reports import report


def row(group: str, top1: float, sent: float, device_s: float, dtype="float32"):
    return {
        "group": group, "deployment": "head + coder", "dtype": dtype, "top1": top1,
        "framed_bytes": sent, "device_s": device_s,
    }  # fmt: skip


ROWS = [
    row("photos/fp/0", 0.70, 1000, 0.010),
    row("photos/fp/1", 0.72, 1200, 0.012),
    row("photos/patch/0", 0.69, 1100, 0.002),
    row("photos/patch/1", 0.73, 1200, 0.003),
    row("photos/patch/7", 0.10, 9, 9.0),  # a seed that the first pair lacks
    row("photos/fp/0", 0.10, 9, 9.0, "int8"),
    {"group": "photos/fp/0", "deployment": "JPEG q=75", "dtype": ""},
]


def test_a_trade_compares_pairs_seed_by_seed():
    first, patch = trade.points(ROWS)
    assert (first.pair, first.ratio, first.more_bytes, first.points) == ("fp", 1, 0, 0)
    assert (patch.dataset, patch.pair, patch.seeds) == ("photos", "patch", 2)
    assert patch.top1 == pytest.approx(0.71) and patch.framed_bytes == 1150
    assert patch.ratio == pytest.approx((0.2 + 0.25) / 2)
    assert patch.more_bytes == pytest.approx(0.05)
    assert patch.points == pytest.approx(0.0)


def test_runs_of_a_trade_are_parts_and_one_picture(tmp_path):
    other = json.loads(json.dumps(ROWS).replace("photos", "cifar"))
    for date, rows in (("2026-01-01", ROWS), ("2026-01-02", other)):
        report = {"date": date, "machine": {"cpu": "x"}, "command": date, "rows": rows}
        (tmp_path / "one.json").write_text(json.dumps(report))
        page.put(trade.trade(tmp_path / "one.json"), tmp_path)
    first, second = page.parts_of(trade.TITLE, tmp_path)
    assert "2026-01-01; cpu x.\n\n    2026-01-01\n" in first
    assert page.title(second) == f"{trade.TITLE}: cifar"
    points = trade.recorded(tmp_path)
    assert [p.dataset for p in points] == ["photos"] * 2 + ["cifar"] * 2
    for point, exact in zip(points, trade.points(ROWS)):  # as printed: rounded
        assert point.pair == exact.pair and point.seeds == exact.seeds
        assert point.top1 == pytest.approx(exact.top1, abs=5e-5)
        assert point.more_bytes == pytest.approx(exact.more_bytes, abs=5e-4)
    trade.draw(points, tmp_path / "trade.png")
    assert (tmp_path / "trade.png").read_bytes()[:4] == b"\x89PNG"


def test_one_network_of_several_rates_stands_beside_those_of_one(tmp_path):
    facts = {"date": "2026-01-01", "machine": {"cpu": "x"}, "split": "test"}
    facts["data"] = "indexed:9:/a/b/pictures.zip"
    for name, factor in (("several", 0.5), ("single", 1.0)):
        rows = [
            report.Row(name, f"n={n}", "learned", 0.1 * n, 9, *3 * [(n * factor, 9)],
                       8.0, 1, 1)
            for n in (3, 5, 8)
        ]  # fmt: skip
        report.write(rows, tmp_path / name, title="", facts=facts | {"command": name})
    lines = training.rates([tmp_path / "several", tmp_path / "single"])
    text = "\n".join(lines)
    assert lines[0].endswith("networks of one (pictures.zip)")
    assert "    several\n\n    single\n" in text and text.count("n=5") == 2
    assert "needs -50.0 % bytes" in text and "over 100% of" in text
    same = [(1.0, 0.5), (2.0, 0.6)], [(1.0, 0.7), (2.0, 0.8)]
    assert "do not overlap" in training._bytes_of_one_network(*same)[0]


def test_a_part_is_replaced_by_its_title_and_a_new_one_comes_last(tmp_path):
    page.put(["## B", "", "1", "", "## A", "", "2"], tmp_path)
    page.put(["## B", "", "3", "", "## C", "", "4"], tmp_path)
    names = [path.name for path in sorted(tmp_path.glob("*.md"))]
    assert names == ["010_b.md", "020_a.md", "030_c.md"]
    assert page.joined(tmp_path) == page.INTRODUCTION + (
        "\n## B\n\n3\n\n## A\n\n2\n\n## C\n\n4\n"
    )


def test_the_page_is_its_parts():
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "results.md").read_text() == page.joined()
    pictures = set(re.findall(r"\]\((\w+\.png)\)", page.joined()))
    assert pictures and all((docs / name).exists() for name in pictures)


def test_a_table_is_read_back():
    lines = page.rows(["a b", "c"], [["x", 1], ["", 2]])
    text = "\n".join(["words", "", *lines, "", "| other | table |"])
    assert page.table(text) == [{"a b": "x", "c": "1"}, {"a b": "", "c": "2"}]
    assert page.table("words") == []


def test_a_peer_stands_beside_ours_with_its_bd_rate(tmp_path):
    ours = {"by": "sc_jax", "setting": "beta=0.1", "top1": 0.9, "bytes": 80.0}
    theirs = {**ours, "by": "sc2bench, published", "bytes": 1160.0}
    for row in (ours, theirs):
        row |= {"bytes_p95": 90.0, "estimated_bits": 636.0, "examples": 10000}
    theirs["images_per_s"] = {"stage1": {"wall": 10.0, "cpu": 231.4}}
    rate = {"against": theirs["by"], "percent": -41.26, "overlap": 0.5, "reason": None}
    report = {
        "date": "2026-01-01",
        "machine": {"cpu": "x"},
        "command": "python -m y",
        "rows": [theirs, ours],
        "steps": {"published": [1400, 700]},
        "peer": {"published": {"teacher_top1": 0.911, "versions": {"torch": "2"}}},
        "bd_rates": [rate, rate | {"percent": None, "reason": "no overlap"}],
    }
    (tmp_path / "peer.json").write_text(json.dumps(report))
    taught = {
        "recipe": "classifier:backbone=resnet20,data=z",
        "settings": {"epochs": 30, "learning_rate": 0.3, "threads": 2, "seed": 0},
        "images": 1350000,
        "seconds": 4140.0,
    }
    (tmp_path / "taught.json").write_text(json.dumps(taught))
    text = "\n".join(peer.student(tmp_path / "peer.json", tmp_path / "taught.json"))
    assert "The teacher has 91.10 %. It is a resnet20 of" in text
    assert "1,350,000 images seen in 1.15 h on 2 threads" in text
    assert "published: 1,400 and 700, as ours; images a CPU second: stage1 231" in text
    first, second = page.table(text)
    assert (first["by"], first["bytes mean"]) == ("sc2bench, published", "1,160.0")
    assert (second["top-1 %"], second["est. bits / 8"]) == ("90.00", "79.5")
    assert "published: -41.3 %, over 50% of our qualities" in text
    assert "published: no overlap" in text
