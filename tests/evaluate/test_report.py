"""The report: what is written can be read, and says what it measured."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sc_jax.errors import UsageError
from sc_jax.evaluate.bd_rate import against_best, of_rows
from sc_jax.evaluate.reports import plots, report
from sc_jax.evaluate.reports.report import Row, human, table

FACTS = {"seed": np.int64(7), "machine": {"cores": 2}, "loss": jnp.float32(0.5)}


def row(method, setting, family, quality, size, **more):
    sizes = {} if size is None else {"payload_bytes": (size, 1.5 * size)}
    none = dict.fromkeys(("payload_bytes", "framed_bytes", "pickle_bytes"))
    values = {**none, "estimated_bits": None, "head_parameters": 0, "head_macs": 0}
    return Row(method, setting, family, quality, 1000, **{**values, **sizes, **more})


ROWS = [
    row("teacher", "", "reference", 0.93, None, head_parameters=11_173_962),
    row("local-only", "", "reference", 0.87, 0, head_macs=40_813_184),
    row("JPEG", "q=90", "classical", 0.9, 1000),
    row("JPEG", "q=10", "classical", 0.6, 500, seconds={"encode": 0.001}),
    row("WebP", "q=90", "classical", 0.9, 400),
    row("WebP", "q=10", "classical", 0.6, 200),
    row("Student", "beta=1", "learned", 0.6, 100, estimated_bits=790.5),
    row("Student", "beta=0.1", "learned", 0.9, 200, framed_bytes=(212, 312)),
    row("BottleFit", "", "learned", 0.8, 300),
]


def test_write_then_read(tmp_path):
    report.write(ROWS, tmp_path / "new", title="A title", facts=FACTS)
    assert report.read(tmp_path / "new") == ROWS
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["rate_accuracy.png", "report.json", "report.md"]
    found = json.loads((tmp_path / "new" / "report.json").read_text())
    assert found["facts"]["seed"] == 7 and found["facts"]["loss"] == 0.5
    assert {entry["split"] for entry in found["rows"] + found["bd_rates"]} == {"test"}
    with Image.open(tmp_path / "new" / "rate_accuracy.png") as image:
        assert image.size == (1200, 750)


def test_a_rate_that_collapsed_is_a_line_and_no_point_of_a_curve(tmp_path):
    nothing = [row("Student", f"beta={b}", "learned", 0.1, 0.0) for b in (5, 9)]
    report.write([*ROWS, *nothing], tmp_path, title="T", facts=FACTS)
    page = (tmp_path / "report.md").read_text("utf-8")
    for beta in (5, 9):
        assert f"- Student beta={beta}: {report.COLLAPSED}" in page
    assert page.count(report.COLLAPSED) == 2  # local-only sends nothing either
    assert "- Student: -50.0 % against WebP" in page
    # All of them: no curve, no rate, and a picture of levels.
    report.write(nothing, tmp_path / "all", title="T", facts=FACTS)
    assert json.loads((tmp_path / "all/report.json").read_text())["bd_rates"] == []
    assert plots._levels(nothing) == {10.0: ["Student beta=5", "Student beta=9"]}


def test_the_page_names_split_rates_and_facts(tmp_path):
    report.write(ROWS, tmp_path, title="T", facts={**FACTS, "split": "validation"})
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "top-1 % (validation)" in page and "(test)" not in page
    assert "- Student: -50.0 % against WebP" in page
    assert "| JPEG | q=90 | 90.00 | 1,000.0 | 1,500.0 | – |" in page
    assert "- JPEG q=10: encode 0.001" in page
    assert "- machine: cores 2" in page


def test_bd_rates_are_against_the_classical_curve_hardest_to_beat():
    (entry,) = of_rows(ROWS)
    assert (entry["method"], entry["against"]) == ("Student", "WebP")
    assert entry["percent"] == pytest.approx(-50) and entry["overlap"] == 1
    (alone,) = of_rows([r for r in ROWS if r.family != "classical"])
    assert alone["percent"] is None and alone["reason"] == "nothing to compare to"


def test_what_sending_takes_is_modelled_over_each_link_and_said_to_be(tmp_path):
    """The survey's latency: framed bytes over the rate, and the round trip."""
    report.write(ROWS, tmp_path, title="T", facts={})
    page = (tmp_path / "report.md").read_text("utf-8")
    part = page.split("## Latency of sending, modelled (test)")[1].split("\n## ")[0]
    assert "| method | setting | LoRaWAN | NB-IoT | 3G | LTE | Wi-Fi | 5G |" in part
    # 212 framed bytes at 37.5 kbit/s and 5.85 Mbit/s: 45.2 and 0.3 ms on the air.
    assert (
        "| Student | beta=0.1 | 1,045.2 | 1,627.4 | 101.5 | 50.3 | 5.1 | 20.1 |" in part
    )
    assert part.count("| Student |") == 1 and "teacher" not in part
    report.write(ROWS[:2], tmp_path / "local", title="T", facts={})
    assert "modelled" not in (tmp_path / "local" / "report.md").read_text("utf-8")


def test_bytes_without_a_container_stand_beside_the_file(tmp_path):
    file = row("JPEG", "q=5", "classical", 0.5, 275, data_bytes=(95.0, 99.0))
    report.write([file], tmp_path, title="T", facts={})
    assert report.read(tmp_path) == [file]
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "| bytes mean | bytes p95 | data only |" in page
    assert "| 275.0 | 412.5 | 95.0 |" in page
    assert "1,050 bytes" in page and "SC2 pickle" not in page


def test_bd_rates_say_why_there_is_none(tmp_path):
    apart = [dataclasses.replace(r, quality=r.quality / 10) for r in ROWS[6:8]]
    report.write([*ROWS[:4], *apart], tmp_path, title="T", facts={})
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "- Student: not defined (JPEG: qualities do not overlap" in page
    assert against_best({"A": []}, [(1, 0.1), (2, 0.2)])["percent"] is None


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    report.write(ROWS, tmp_path, title="old", facts={})
    before = (tmp_path / "rate_accuracy.png").read_bytes()

    def half(rows, path, title, *, split):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(plots, "rate_accuracy", half)
    with pytest.raises(OSError, match="disk full"):
        report.write(ROWS, tmp_path, title="new", facts={})
    with pytest.raises(ValueError, match="JSON compliant"):
        report.write(ROWS, tmp_path, title="new", facts={"loss": float("nan")})
    assert (tmp_path / "rate_accuracy.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_table_is_aligned_and_shows_none_as_a_dash():
    heading, rule, teacher, *_, last = table(ROWS).splitlines()
    assert len(heading) == len(rule) == len(teacher) == len(last)
    assert teacher.split() == ["teacher", "–", "93.00", *"––––––", "11.2", "M", "0"]
    assert heading.startswith("method") and heading.endswith("encoder MACs")
    assert "790.5" in table(ROWS) and "212.0" in table(ROWS)


def test_what_an_edge_sends_on_has_a_column_where_it_does(tmp_path):
    assert "to cloud" not in table(ROWS)
    tiers = row("DDNN", "", "learned", 0.8, 300, forwarded_bytes=(1234.5, 2000.0))
    heading, _, teacher, *_, last = table([*ROWS, tiers]).splitlines()
    end = heading.index("to cloud") + len("to cloud")
    assert last[:end].endswith(" 1,234.5") and teacher[:end].endswith(" –")
    report.write([*ROWS, tiers], tmp_path, title="tiers", facts={"split": "test"})
    lines = (tmp_path / "report.md").read_text().splitlines()
    cells = [line.split("|") for line in lines if line.startswith("| ")]
    place = cells[0].index(" to cloud ")
    (own,) = (each for each in cells if each[1] == " DDNN ")
    assert own[place] == " 1,234.5 " and len(own) == len(cells[0])


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *[(0, "0"), (7, "7"), (999, "999"), (1000, "1.00 k"), (12_345, "12.3 k")],
        *[(99_960, "100 k"), (999_700, "1.00 M"), (4_100_000_000, "4.10 G")],
        *[(9_999, "10.0 k"), (5.2e12, "5.20 T")],
    ],
)
def test_human_units(count, text):
    assert human(count) == text


def test_machine_is_json():
    facts = report.machine()
    assert facts["cores"] >= 1 and facts["cpu"]
    assert {"jax", "flax", "numpy", "platform"} <= set(facts)
    assert json.loads(json.dumps(facts)) == facts
    assert facts.get("instructions") in {None, *report._INSTRUCTIONS}


def test_curves_drop_what_sends_nothing_and_sort_by_bytes():
    found = plots.curves(ROWS)
    assert list(found) == ["JPEG", "WebP", "Student", "BottleFit"]
    assert [r.setting for r in found["JPEG"]] == ["q=10", "q=90"]


@pytest.mark.parametrize("rows", [ROWS[:2], ROWS[2:3], ROWS[2:] * 3], ids=len)
def test_pictures_of_few_and_many_rows(rows, tmp_path):
    plots.rate_accuracy(rows, tmp_path / "a.png", "T")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_mistakes_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match=r"top-1 is a share in 0\.\.1, not 93"):
        row("teacher", "", "reference", 93, None)
    with pytest.raises(UsageError, match="at least one row"):
        report.write([], tmp_path, title="T", facts={})
    with pytest.raises(UsageError, match=r"report\.json is missing"):
        report.read(tmp_path)
