"""The results page's section on training-free codecs."""

import json

from benchmarks.results_page import unmodified


def row(cut, compressor, size, lost):
    return {
        "cut": cut, "compressor": compressor, "shape": [2, 2, 4], "bytes": size,
        "bits_an_element": size / 2, "top_1": 80.0 - lost, "points_lost": lost,
        "standard_error": 0.5,
    }  # fmt: skip


def test_the_fewest_bytes_of_a_cut_lose_less_than_a_point(tmp_path):
    rows = [row("a", "x", 10, 0.9), row("a", "y", 5, 1.0), row("a", "z", 20, -1.0)]
    assert unmodified.best(rows) is rows[0]
    assert unmodified.best(rows[1:2]) is None
    report = {
        "date": "2026-01-02", "command": "python -m x", "machine": {"cpu": "x"},
        "network": "net", "data": "/a/b.zip", "images": 9, "fitted": 3,
        "rows": [*rows, row("b", "y", 7, 3.0)],
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(report))
    lines = unmodified.section(tmp_path / "r.json", tmp_path)
    (first,) = (line for line in lines if line.startswith("| a |"))
    (second,) = (line for line in lines if line.startswith("| b |"))
    assert first.endswith("| x: 10 |") and "| 5.00, +0.9 ± 0.5 |" in first
    assert second.replace(" ", "").endswith("||3.50,+3.0±0.5|||")
    assert (tmp_path / "codecs_net.png").stat().st_size > 1000
