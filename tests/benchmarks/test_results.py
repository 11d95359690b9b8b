"""What the results page makes of measured files."""

import json

import pytest

pytest.importorskip("ai_edge_litert", reason="the extra export is not installed")

from benchmarks.results_page import page, trade


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


def test_a_trade_is_drawn(tmp_path):
    trade.draw(trade.points(ROWS), tmp_path / "trade.png")
    assert (tmp_path / "trade.png").read_bytes()[:4] == b"\x89PNG"


def test_a_trade_keeps_the_sets_that_were_not_measured_again(tmp_path):
    def made(date, rows, old):
        report = {"date": date, "machine": {"cpu": "x"}, "command": date, "rows": rows}
        (tmp_path / "one.json").write_text(json.dumps(report))
        return "\n".join(trade.trade([tmp_path / "one.json"], tmp_path, old))

    other = json.loads(json.dumps(ROWS).replace("photos", "cifar"))
    first = made("2026-01-01", ROWS, "")
    both = made("2026-01-02", other, f"# Results\n\n{first}\n## Another\n\n| a | b |\n")
    rows = [
        line for line in both.splitlines() if "| fp |" in line or "| patch |" in line
    ]
    assert [row.split(" | ")[0] for row in rows] == ["| photos"] * 2 + ["| cifar"] * 2
    assert [row.replace("photos", "cifar") for row in rows[:2]] == rows[2:]
    assert "**photos.** 2026-01-01; cpu x.\n\n    2026-01-01\n" in both
    assert "**cifar.** 2026-01-02; cpu x.\n\n    2026-01-02\n" in both
    again = made("2026-01-03", ROWS, both)
    assert "2026-01-01" not in again and again.count("| photos | patch | 2 |") == 1


def test_sections_that_were_not_measured_again_stay():
    old = "# Results\n\nold words\n\n## A\n\n1\n\n## B\n\n2\n"
    sections = ["## B", "", "3", "", "## C", "", "4"]
    made = page.merged(old, sections)
    heads = [line for line in made.splitlines() if line.startswith("#")]
    assert heads == ["# Results", "## A", "## B", "## C"]
    assert "\n3\n" in made and "\n2\n" not in made and "old words" not in made
    assert page.merged(made, sections) == made
    assert page.INTRODUCTION in page.merged("", sections)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("    python -m a --x=/home/u/runs/b,~/me/c --y=l=../../me/d e/f",
         "    python -m a --x=b,c --y=l=d e/f"),
        ("see https://example.org/a/b and /home/u/x", None),
    ],
)  # fmt: skip
def test_commands_lose_their_folders_and_other_lines_stay(line, kept):
    assert page.anonymous(line) == (kept or line)
