"""The results page's section on heads at 224 pixels, from made-up reports."""

import json

import numpy as np
import pytest

from benchmarks.results_page import photographs
from sc_jax.evaluate.reports import report
from sc_jax.evaluate.reports.report import Row


def row(method, setting, family, quality, size=None):
    sizes = None if size is None else (size, 1.2 * size)
    more = {"seconds": {"training": 1800.0}} if family == "learned" else {}
    return Row(
        method, setting, family, quality, 50, sizes, sizes, sizes, None, 10, 20, **more
    )


def run(folder, rows):
    facts = {"date": "2026-01-02", "machine": {"cpu": "x"}, "phases": {"stage1": 100}}
    report.write(rows, folder, title="run", facts=facts | {"command": "measured last"})
    source = {"recipe": "entropic_student", "knobs": {"rates": 2, "data": "/a/b.zip"}}
    saved = {"source": source, "init": None, "recipe": {"data": {"batch_size": 16}}}
    (folder / "recipe.json").write_text(json.dumps(saved))


def test_heads_stand_beside_the_best_file_as_accurate(tmp_path):
    def curve(method, per_point, *percents):
        points = ((f"q={q}", "classical", q / 100, per_point * q) for q in percents)
        return [row(method, *point) for point in points]

    files = [row("teacher", "", "reference", 0.8)]
    files += curve("edge-only WebP", 100, 40, 70) + curve("edge-only AVIF", 80, 50, 60)
    heads = [
        row("Student", f"level={n}", "learned", quality, 2000)
        for n, quality in enumerate((0.5, 0.65, 0.8))
    ]
    run(tmp_path / "many", [*files, *heads])
    agreeing = [row("Student", h.setting, "learned", 0.9, 2000) for h in heads]
    report.write(agreeing, tmp_path / "many/agreement", title="", facts={"date": ""})
    text = "\n".join(photographs.against_files([tmp_path / "many"], tmp_path))
    lines = [line for line in text.splitlines() if line.startswith("| Student")]
    assert lines[0] == (
        "| Student, one network, level=0 | 50.0 | -30.0 | 90.0 | 2,000 (2,400) "
        "| AVIF | 4,000 | 50 % |"
    )
    assert "| WebP |" in lines[1]  # no AVIF is so good
    assert lines[2].endswith("| none |  |  |")
    assert "- `many`: 1,600 images seen in 0.50 hours." in text
    assert "--recipe=entropic_student:rates=2,data=b.zip --workdir=many" in text
    assert (tmp_path / photographs.PICTURE).stat().st_size > 0


def test_bytes_at_a_quality_are_between_those_of_its_neighbours():
    curve = np.array([[100.0, 0.5], [400.0, 0.7]])
    assert photographs.bytes_at(curve, 0.6) == pytest.approx(200)
    assert photographs.bytes_at(curve, 0.4) == 100
    assert photographs.bytes_at(curve, 0.71) is None
