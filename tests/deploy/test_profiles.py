"""Profiles of a run: real bytes, MACs that add up, and plans that read them."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.untrained import untrained
from sc_jax import plan
from sc_jax.compressors import Image, Raw
from sc_jax.deploy.export import (
    layer_seconds,
    profile_cuts,
    profile_records,
    profiles,
    stage_seconds,
)
from sc_jax.deploy.wire import frame
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import profile_text, report
from sc_jax.plan import profile, regression
from sc_jax.plan.layers import layers_of
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, ExitCost, Machine
from sc_jax.runs import loading, planning, rate_runs, run_folder
from sc_jax.traces import cost

IMAGES = np.zeros((1, 28, 28, 1), np.uint8)
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
    # The class and its probability, or ten logits too, with their names.
    assert device.reply_bytes == 64 and "reply_bytes" in device.measured
    assert 104 < profiles.reply_bytes(student, test.example(), "logits") < 300
    whole = cost.macs(
        lambda v, x: loading._everything(net, v, x)[0],
        student.variables,
        test.example(),
    )
    assert sum(device.macs) == whole


def test_each_of_two_splits_is_a_cut_of_its_own(tmp_path):
    two = loading.load(untrained(tmp_path / "run", "ddnn", edge_bits=4))
    test = run_folder.dataset_of(two.recipe, "test").take(np.arange(12), "test")
    given = stage_seconds.features(two.recipe.net, two.variables, test.images)
    _, cuts = profile_cuts.answers(two, test, given, 2)
    assert [cut.after for cut in cuts] == [s.after for s in two.recipe.net.splits]
    for cut, codec in zip(cuts, two.codecs.values()):
        sizes = [
            len(frame.pack(codec.id, 0, codec.shape, codec.encode(z)))
            for z in given[cut.after]
        ]
        assert cut.sent_bytes == pytest.approx(np.mean(sizes), abs=1)
    with pytest.raises(UsageError, match="of 2 splits together"):
        profile_cuts.reports(two, test, given, 2)


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
    monkeypatch.setattr(profile_cuts, "FILES", (Image("JPEG", 30), Image("WEBP", 30)))
    names = whole.recipe.net.names
    found = profiles.device(whole, **FEW)
    places = [cut.after for cut in found.cuts]
    assert places == ["input"] * 2 + [n for n in names[:-1] for _ in profile_cuts.PLAIN]
    by = {cut.name: cut for cut in found.cuts}
    # Values as they are change no answer; a frame adds 17 bytes and 4 an axis.
    for name, size in zip(names[:-1], found.output_bytes):
        raw = by[f"{name}/float32"]
        assert raw.quality == found.quality
        assert size + 21 <= raw.sent_bytes <= size + 29
        assert by[f"{name}/8 bit"].sent_bytes < raw.sent_bytes


def test_a_device_is_predicted_from_its_layers_without_running(
    student, sides, tmp_path, monkeypatch
):
    """Layers with prices of their own, so that each stage's sum is known."""
    net, variables = student.recipe.net, student.variables
    image = run_folder.dataset_of(student.recipe, "test").example()
    whole = layers_of(layer_seconds.whole_file(net, variables, image))
    priced = [replace(x, seconds=1e-9 * x.macs, network="a", family="a") for x in whole]
    phone = Machine("a phone", threads=4)
    regression.write(tmp_path / "r.json", regression.fit(priced, phone, ("work",)))
    monkeypatch.setattr(stage_seconds, "on_device", None)  # nothing is timed
    found, _ = profiles.measured(
        student.folder, "device", model=str(tmp_path / "r.json"), **FEW
    )
    assert found.device == phone and set(found.modelled) >= {"device_s", "encode_s"}
    assert "device_s" not in found.measured and "quality" in found.measured
    expected = [1e-9 * macs for macs in sides[0].macs]
    np.testing.assert_allclose(found.device_s, expected, rtol=1e-6, atol=1e-9)
    assert found.cuts[0].sent_bytes == sides[0].cuts[0].sent_bytes


def test_mistakes_are_one_line(student, tmp_path):
    for side, options, words in (
        ("device", {"log": "text"}, "give its --bundle"),
        ("device", {"log": ""}, "give its --bundle"),
        ("server", {"batches": (8, 0)}, "a batch is of 1 or more, not 0"),
        ("server", {"installed": "bundle"}, "--side=device"),
        ("server", {"compute_w": 2.0}, "--side=device"),
        ("server", {"split": "test"}, "--side=device"),
        ("device", {"split": "train"}, "unknown split to record 'train'"),
        ("server", {"model": "r.json"}, "--side=device"),
        ("device", {"model": "r.json", "installed": "b"}, "give one of them"),
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


def test_records_are_what_single_inputs_met(tmp_path, monkeypatch):
    """Of a net with exits: rows in the profile's names, means those of the parts."""
    run = loading.load(untrained(tmp_path / "run", "branchynet"))
    monkeypatch.setattr(profile_cuts, "FILES", (Image("JPEG", 30),))
    monkeypatch.setattr(profile_cuts, "PLAIN", {"float32": Raw()})
    data = profile_records.data_of(run, "validation").take(np.arange(30))
    net = run.recipe.net
    exits = tuple(ExitCost(e.after) for e in net.exits if e.after != net.names[-1])
    cuts = tuple(Cut(n, "float32", 9.0) for n in net.names[:2])
    known = profiles._network(run, stage_seconds.features(net, run.variables, IMAGES))
    known = replace(known, exits=exits, cuts=(Cut("input", "JPEG q=30", 9.0), *cuts))
    found = profile_records.recorded(run, known, data)
    assert found.of(known).split == "validation" and found.whole.size == 30
    assert found.exits == tuple(e.after for e in exits) and len(found.exits)
    answers = loading.answer(run, np.stack([data.image(i) for i in range(30)]))
    right = answers["prediction"] == data.labels
    np.testing.assert_array_equal(found.whole, right)
    # Values as they are change no answer, whatever stands before them.
    for row in found.behind[1:]:
        np.testing.assert_array_equal(row, right)
    logits = answers["exit_logits"].astype(np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    surest = (shares / shares.sum(-1, keepdims=True)).max(-1)
    np.testing.assert_allclose(found.score, surest[:-1], atol=1e-5)
    early = logits.argmax(-1)[:-1] == data.labels
    np.testing.assert_array_equal(found.right, early)


def test_validation_images_that_weights_may_have_seen_certify_nothing(tmp_path):
    run = loading.load(untrained(tmp_path / "run", "classifier"))
    file = tmp_path / "run" / run_folder.FILE
    whole = profile_records.data_of(run, "validation")
    training = run_folder.dataset_of(run.recipe, "train")
    assert len(whole) + len(training) == 12_000 - len(
        profile_records.data_of(run, "test")
    )
    kept = run_folder.read_json(file)
    for change, words in (
        ({"recipe": kept["recipe"] | {"pretrained": "x.pth"}}, "a checkpoint, x.pth"),
        ({"init": {"folder": "gone", "digest": "0"}}, "gone, which the run began with"),
        ({"teacher": "lost"}, "lost, the run's teacher, is not there"),
    ):
        file.write_text(json.dumps(kept | change))
        with pytest.raises(UsageError, match=words) as error:
            profile_records.data_of(run, "validation")
        assert "--records=test" in str(error.value)
        assert len(profile_records.data_of(run, "test"))
    file.write_text(json.dumps(kept))
    other = untrained(tmp_path / "other", "classifier")
    theirs = run_folder.read_json(other / run_folder.FILE)
    theirs["data"]["name"] = "another"
    (other / run_folder.FILE).write_text(json.dumps(theirs))
    began = {"folder": str(other), "digest": "0"}
    file.write_text(json.dumps(kept | {"init": began}))
    with pytest.raises(UsageError, match="was trained on another, not on fashion"):
        profile_records.data_of(run, "validation")


def test_from_a_runs_folder_to_a_certified_plan(student, sides, tmp_path, capsys):
    device, server = sides
    data = profile_records.data_of(student, "validation")
    met = profile_records.recorded(student, device, data)
    profiles.write(tmp_path / "phone.json", device, met)
    profiles.write(tmp_path / "server.json", server, None)
    files = [str(tmp_path / "phone.json")], [str(tmp_path / "server.json")]
    assert profile.read(files[0][0]).records == "phone.npz"
    bounds = Bounds(deadline_s=0.2)
    best = planning.run(*files, link="lte", bounds=bounds, max_risk=0.05)
    assert best.certified.examples == len(data) > 500
    assert "validation inputs" in capsys.readouterr().out


@pytest.fixture
def powercap(tmp_path):
    """A folder like /sys/class whose counter rises, and starts again at 50 mJ."""
    package, stopped = tmp_path / "powercap/intel-rapl:0", threading.Event()
    package.mkdir(parents=True)
    for name, text in {"name": "package-0", "max_energy_range_uj": 50_000}.items():
        (package / name).write_text(f"{text}\n")

    def rise(now=0):
        while not stopped.wait(0.001):
            now = (now + 500) % 50_000
            (package / "new").write_text(f"{now}\n")
            (package / "new").replace(package / "energy_uj")

    (package / "energy_uj").write_text("0\n")
    thread = threading.Thread(target=rise)
    thread.start()
    yield tmp_path
    stopped.set()
    thread.join()


def test_joules_of_stages_are_measured_where_a_meter_is_read(
    student, powercap, monkeypatch
):
    monkeypatch.setattr(profiles, "METERED_S", 0.02)
    few = {"examples": 4, "runs": 1, "meters": powercap}
    found, _ = profiles.measured(student.folder, "device", **few)
    assert {"device_j", "compute_w", "idle_w"} <= {*found.measured}
    assert len(found.device_j) == len(found.stages) and min(found.device_j) >= 0
    assert found.compute_w == pytest.approx(sum(found.device_j) / sum(found.device_s))
    assert any("energy of the device, measured" in x for x in profile_text.lines(found))
    # Watts that somebody states are another device's: nothing is measured.
    found, _ = profiles.measured(student.folder, "device", compute_w=2.0, **few)
    assert not found.device_j and "compute_w" in found.modelled
    assert any(
        "energy of the device, model: 2 W" in x for x in profile_text.lines(found)
    )


def test_seconds_by_length_are_fitted_on_both_sides(student, sides, tmp_path):
    """Of a net that pools whatever it sees; one with a dense layer says it cannot."""
    pooled = loading.load(
        untrained(tmp_path / "run", "classifier", backbone="resnet20")
    )
    found = profile.Profile("net", ("a",), (1.0,), (1.0,))
    both = profiles.by_length(found, pooled, (16, 28, 64), 1, 3)
    both = profiles.by_length(both, pooled, (16, 28, 64), None, 3)
    assert both.input_length == 28**2
    for line in (both.device_by_length, both.edge_by_length):
        assert line.lengths == (256, 784, 4096) and min(line.seconds) > 0
    # Sixteen times the pixels.
    assert both.device_by_length.seconds[2] > 2 * both.device_by_length.seconds[0]
    assert both.device_by_length.seconds_per_item > 0
    assert {"device_by_length", "edge_by_length"} <= {*both.measured}
    timed = replace(sides[0], device_by_length=both.device_by_length)
    said = [x for x in profile_text.lines(timed) if "device by length, measured" in x]
    assert len(said) == 1 and "residual" in said[0]
    for threads in (1, None):
        with pytest.raises(UsageError, match="takes no input of side 20"):
            profiles.by_length(found, student, (20, 28), threads, 1)
    with pytest.raises(UsageError, match="two different sides"):
        profiles.measured(student.folder, "device", lengths=(28, 28))
