"""Profiles of a run: real bytes, MACs that add up, and plans that read them."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.untrained import untrained
from sc_jax import plan
from sc_jax.compressors import Image
from sc_jax.deploy.export import profiles, stage_seconds
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import report
from sc_jax.plan import profile
from sc_jax.runs import loading, rate_runs, run_folder
from sc_jax.traces import cost

FEW = {"examples": 40, "runs": 2}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return loading.load(untrained(tmp_path_factory.mktemp("profile") / "run"))


@pytest.fixture(scope="module")
def sides(student):
    return profiles.device(student, **FEW), profiles.server(
        student, batches=(4,), runs=2
    )


def test_a_students_profile_has_its_own_split_with_real_bytes(student, sides):
    device, _ = sides
    net = student.recipe.net
    assert device.stages == net.names and device.local
    test = run_folder.dataset_of(student.recipe, "test")
    rows = np.linspace(0, len(test) - 1, 40).astype(int)
    sent = [len(loading.encode(student, test.image(i))) for i in rows]
    (cut,) = device.cuts
    assert cut.after == net.splits[0].after
    assert cut.sent_bytes == pytest.approx(np.mean(sent))
    assert cut.encode_s > 0 and cut.decode_s > 0
    assert 0 <= cut.quality <= 1
    whole = cost.macs(
        lambda v, x: loading._everything(net, v, x)[0],
        student.variables,
        test.example(),
    )
    assert sum(device.macs) == whole


def test_stages_share_out_the_seconds_of_the_whole(student):
    net = student.recipe.net
    taken = {name: 1.0 + i for i, name in enumerate(net.names)}
    whole = 0.5 * sum(taken.values())
    shared = stage_seconds.shared_out({**taken, "": whole}, net)
    assert sum(shared.values()) == pytest.approx(whole)
    assert all(shared[n] == pytest.approx(0.5 * taken[n]) for n in net.names)
    # Without one of them the others are no shares of the whole.
    missing = {n: taken[n] for n in net.names[1:]}
    assert stage_seconds.shared_out({**missing, "": whole}, net) == missing


def test_both_sides_are_files_that_a_plan_reads(sides, tmp_path):
    for name, side in zip(("phone", "server"), sides):
        profile.write(tmp_path / f"{name}.json", side)
        assert profile.read(tmp_path / f"{name}.json") == side
    both = profile.combined(*sides)
    assert [batch.size for batch in both.edge_batch_s] == [4]
    link = plan.LINKS["LTE"]
    found = plan.PLANNERS["neurosurgeon"](both, link)
    # 28 pixels: nothing is worth a round trip.
    assert found.sent_bytes == 0 and found.latency_s == pytest.approx(
        sum(both.device_s)
    )


def test_a_classifier_may_be_cut_anywhere(tmp_path, monkeypatch):
    whole = loading.load(untrained(tmp_path / "run", "classifier"))
    monkeypatch.setattr(profiles, "FILES", (Image("JPEG", 30), Image("WEBP", 30)))
    names = whole.recipe.net.names
    found = profiles.device(whole, **FEW)
    places = [cut.after for cut in found.cuts]
    assert places == ["input"] * 2 + [n for n in names[:-1] for _ in profiles.PLAIN]
    by = {cut.name: cut for cut in found.cuts}
    # Values as they are change no answer; a frame adds 17 bytes and 4 an axis.
    for name, size in zip(names[:-1], found.output_bytes):
        raw = by[f"{name}/float32"]
        assert raw.quality == found.quality
        assert size + 21 <= raw.sent_bytes <= size + 29
        assert by[f"{name}/8 bit"].sent_bytes < raw.sent_bytes


def test_mistakes_are_one_line(student, tmp_path):
    for side, options, words in (
        ("device", {"log": "text"}, "give its --bundle"),
        ("device", {"log": ""}, "give its --bundle"),
        ("server", {"batches": (8, 0)}, "a batch is of 1 or more, not 0"),
        ("server", {"installed": "bundle"}, "--side=device"),
        ("server", {"compute_w": 2.0}, "--side=device"),
    ):
        with pytest.raises(UsageError, match=words):
            profiles.measured(student.folder, side, **options)


def test_without_examples_the_report_says_what_each_cut_sends(student):
    test = run_folder.dataset_of(student.recipe, "test")
    row = rate_runs.student_row(student.recipe, student.folder, test)
    report.write([row], student.folder, title="a run", facts={})
    found = profiles.device(student, examples=0, runs=2)
    (cut,) = found.cuts
    assert (cut.sent_bytes, cut.quality) == (row.framed_bytes[0], row.quality)
    assert cut.encode_s > 0 and found.quality is None
    report.write([replace(row, setting="another")], student.folder, title="", facts={})
    with pytest.raises(UsageError, match="--examples of 1 or more"):
        profiles.device(student, examples=0, runs=2)


def test_without_examples_a_classifier_has_lossless_cuts(tmp_path):
    whole = loading.load(untrained(tmp_path / "run", "classifier"))
    found = profiles.device(whole, examples=0, runs=2)
    names = whole.recipe.net.names
    assert [cut.name for cut in found.cuts] == [f"{n}/float32" for n in names[:-1]]
    for cut, size in zip(found.cuts, found.output_bytes):
        assert size + 21 <= cut.sent_bytes <= size + 29
        assert cut.quality == found.quality
