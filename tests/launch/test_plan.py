"""launch.plan: from files to a plan, a picture, or one line."""

import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import plan_instances as instances
import pytest
from PIL import Image

from launch import cli
from sc_jax.errors import UsageError
from sc_jax.evaluate.reports import plan_plots
from sc_jax.plan import plan, profile, recorded
from sc_jax.plan.link import LINKS, Link
from sc_jax.plan.partition.joint import needed
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.plan import NO_BOUNDS, Bounds
from sc_jax.plan.profile import Cut, ExitCost, Profile
from sc_jax.plan.recorded import Records
from sc_jax.runs import planning

SLIM = Profile(
    "slim", ("a", "b"), (0.01, 0.02), quality=0.7,
    cuts=(Cut("a", "z", 50, quality=0.7),),
)  # fmt: skip
WIDE = Profile(
    "wide", ("a", "b", "c"), (0.02, 0.1, 0.2), quality=0.9,
    cuts=(
        Cut("input", "jpeg", 5000, 0.004, quality=0.8),
        Cut("a", "z", 90, quality=0.9),
    ),
    exits=(ExitCost("a", 0.001),),
)  # fmt: skip
SERVER = Profile(
    "wide", ("a", "b", "c"), edge_s=(0.001, 0.002, 0.003),
    edge_batch_s=(profile.Batch(8, (0.01, 0.01, 0.01)),),
)  # fmt: skip


@pytest.fixture
def files(tmp_path):
    for name, side in (("slim", SLIM), ("wide", WIDE), ("server", SERVER)):
        profile.write(tmp_path / f"{name}.json", side)
    return {path.stem: str(path) for path in tmp_path.glob("*.json")}


def run(files, *names, **changed):
    known = {"link": "lte", "bounds": NO_BOUNDS}
    devices = [files[n] for n in names]
    return planning.run(devices, [files["server"]], **{**known, **changed})


def test_the_command_prints_the_plan_and_writes_it(files, tmp_path):
    out, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    done = subprocess.run(
        [
            sys.executable, "-m", "launch.plan", f"--profile={files['wide']}",
            f"--server={files['server']}", "--link=lte", "--deadline_ms=100",
            f"--out={out}", f"--picture={picture}",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = plan.read(out)
    joined = profile.combined(WIDE, SERVER)
    alone = replace(found, alternatives=(), link=None, deadline_s=None)
    assert alone == neurosurgeon(joined, LINKS["LTE"], Bounds(deadline_s=0.1))
    assert (found.link, found.deadline_s) == (LINKS["LTE"], 0.1)
    assert done.stdout.startswith("wide: cut input/jpeg (neurosurgeon)\n")
    for words in ("takes", "next best", "binding", "won as", "ms"):
        assert words in done.stdout
    assert json.loads(out.read_text())["kind"] == "plan"
    assert np.asarray(Image.open(picture)).std() > 5


def test_the_best_of_several_networks_is_named(files, capsys):
    best = run(files, "wide", "slim")
    assert best.network == "slim" and best.name == "local"
    assert best.runner_up.network == "wide"
    assert "next best   wide: cut input/jpeg" in capsys.readouterr().out
    # slim is not good enough and is told so.
    best = run(files, "wide", "slim", bounds=Bounds(quality=0.85))
    assert best.network == "wide"
    assert "left out    neurosurgeon: no plan of slim keeps quality >= 0.85" in (
        capsys.readouterr().out
    )


def test_a_file_has_what_a_device_may_change_to(files, tmp_path):
    """Each cut and local computing of every network, in all bounds but the deadline."""
    link = "up=1e5,rtt=0"
    bounds = Bounds(deadline_s=0.25, quality=0.8)
    out = str(tmp_path / "plan.json")
    run(files, "wide", "slim", link=link, bounds=bounds, out=out)
    found = plan.read(out)
    names = [(each.network, each.name) for each in found.alternatives]
    assert names[0] == (found.network, found.name) == ("wide", "cut a/z")
    assert sorted(names[1:]) == [("wide", "cut input/jpeg"), ("wide", "local")]
    for each in found.alternatives:
        assert each.runner_up is None and not each.alternatives
        assert each.device_s is not None and each.latency_s >= each.device_s
    own = {e.name: e.device_s for e in found.alternatives}
    assert own == pytest.approx(
        {"cut a/z": 0.02, "cut input/jpeg": 0.004, "local": 0.32}
    )
    # A planner's own bounds hold too.
    run(files, "wide", link=link, planner="jeong:first=1", out=str(tmp_path / "j.json"))
    found = plan.read(tmp_path / "j.json")
    assert {e.name for e in found.alternatives} == {"cut a/z", "local"}


def test_a_plan_of_an_older_version_is_read(files, tmp_path):
    out = tmp_path / "plan.json"
    best = run(files, "wide", out=str(out))
    content = json.loads(out.read_text())
    for key in ("link", "alternatives", "deadline_s", "device_s"):
        del content[key]
    content["runner_up"] = None
    out.write_text(json.dumps(content))
    assert plan.read(out) == replace(best, device_s=None, runner_up=None)


def test_batches_planners_with_knobs_and_links_by_figures(files):
    alone = run(files, "wide", link="up=1e6,rtt=0")
    batch = run(files, "wide", link="up=1e6,rtt=0", batch=8)
    assert batch.latency_s > alone.latency_s
    slow = run(files, "wide", planner="jointdnn:load=5", link="up=1e6,rtt=0")
    assert slow.planner == "jointdnn" and slow.latency_s > alone.latency_s


def test_by_quality_the_best_within_the_deadline_wins(files):
    best = {"planner": "neurosurgeon:objective=quality"}
    assert run(files, "wide", **best).name == "cut a/z"  # as good as local, and faster
    tight = best | {"bounds": Bounds(deadline_s=0.07)}
    assert run(files, "wide", **tight).name == "cut input/jpeg"
    # What nobody has measured is no better than anything.
    unknown = replace(WIDE, cuts=(replace(WIDE.cuts[1], quality=None), WIDE.cuts[0]))
    profile.write(files["wide"], replace(unknown, quality=None))
    assert run(files, "wide", **best).name == "cut input/jpeg"
    nothing = replace(unknown, quality=None, cuts=unknown.cuts[:1])
    profile.write(files["wide"], nothing)
    with pytest.raises(UsageError, match="not known of every candidate"):
        run(files, "wide", **best)


def met(count=3000, split="validation"):
    """Of the wide network: an exit that knows when it is right, cuts that lose some."""
    rng = np.random.default_rng(0)
    ease, whole = rng.random((1, count)), np.ones(count)
    behind = np.stack([rng.random(count) > 0.05, rng.random(count) > 0.002])
    cuts = ("input/jpeg", "a/z")
    return Records("wide", split, ("a",), cuts, ease, ease > 0.2, behind, whole)


def test_one_file_of_records_serves_spinn_and_joint(files, tmp_path, capsys):
    record = str(tmp_path / "r.npz")
    recorded.write(record, met())
    spinn = "spinn:objectives=quality,latency_s"
    best = run(files, "wide", planner=spinn, records=[record])
    assert best.objective == "quality, then latency_s" and best.quality == 1.0
    assert best.certified is None
    best = run(files, "wide", max_risk=0.02, records=[record])
    assert (best.planner, best.certified.delta) == ("joint", 0.1)
    said = capsys.readouterr().out
    assert (
        "certified   loses at most 0.02 of the whole network's quality, with " in said
    )
    assert f"{best.certified.lost:.4f} on 3,000 validation inputs" in said
    # Looked for beside the profile, by the name that stands in it.
    with pytest.raises(UsageError, match=r"one file of it: launch\.profile"):
        run(files, "wide", max_risk=0.02)
    profile.write(files["wide"], replace(WIDE, records="r.npz"))
    assert run(files, "wide", max_risk=0.02) == best
    out = str(tmp_path / "plan.json")
    again = run(files, "wide", planner="joint:max_risk=0.02", out=out)
    assert again == best
    assert all(each.certified for each in plan.read(out).alternatives)


def test_a_risk_holds_for_the_best_of_several_networks(files, tmp_path, capsys):
    # Fewer than one network needs of two, more than one alone needs.
    count = needed(0.02, 0.1) + 2
    assert count < needed(0.02, 0.05)
    paths = []
    for name in ("wide", "tall"):
        each = replace(met(count), network=name)
        paths.append(str(tmp_path / f"{name}.npz"))
        recorded.write(paths[-1], replace(each, behind=np.ones_like(each.behind)))
    files["tall"] = str(tmp_path / "tall.json")
    slower = tuple(1.5 * s for s in WIDE.device_s if s is not None)
    profile.write(files["tall"], replace(WIDE, network="tall", device_s=slower))
    alone = run(files, "wide", max_risk=0.02, records=paths[:1])
    assert alone.cuts and alone.certified.delta == 0.1
    best = run(files, "wide", "tall", max_risk=0.02, records=paths)
    assert best.name == "local" and best.certified.delta == 0.1
    said = capsys.readouterr().out
    assert f"with probability 0.9; 0.0000 on {count} validation inputs" in said
    assert f"another plan: {needed(0.02, 0.05):,} are needed" in said


def test_too_few_records_say_how_many_are_needed(files, tmp_path, capsys):
    record = str(tmp_path / "r.npz")
    recorded.write(record, met(100))
    best = run(files, "wide", max_risk=0.02, delta=0.05, records=[record])
    assert best.name == "local" and best.binding == "max_risk"
    least = f"too few to certify another plan: {needed(0.02, 0.05):,} are needed"
    assert least in capsys.readouterr().out
    bounds = Bounds(deadline_s=0.2)
    with pytest.raises(UsageError, match=r"at least .* are needed") as error:
        run(files, "wide", bounds=bounds, max_risk=0.02, records=[record])
    assert "\n" not in str(error.value)


def test_nothing_is_certified_on_training_images(files, tmp_path):
    record = tmp_path / "r.npz"
    recorded.write(record, met(split="test"))
    with np.load(record) as file:
        np.savez(record, **dict(file) | {"split": "train"})
    with pytest.raises(UsageError, match=r"r\.npz: .* that no training has seen"):
        run(files, "wide", max_risk=0.02, records=[str(record)])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"link": None}, "give --link, of LoRaWAN, NB-IoT, 3G"),
        ({"link": "4g"}, "unknown link '4g'"),
        ({"planner": "neurosurgery"}, "unknown planner of splits 'neurosurgery'"),
        ({"planner": "shares"}, "unknown planner of splits 'shares'"),
        ({"planner": "li:quality_los=1"}, "unknown knob of planner li"),
        ({"planner": "li:quality_loss=-1"}, "quality_loss is a number, 0 or more"),
        ({"planner": "spinn"}, "spinn reads what inputs of wide met"),
        ({"planner": "li", "records": ["r.npz"]}, "--records are for joint and spinn"),
        ({"planner": "li", "max_risk": 0.1}, "--max_risk is kept by --planner=joint"),
        ({"max_risk": 2.0}, "planner joint: max_risk is"),
        ({"delta": 0.1, "planner": "joint:delta=0.2"}, "delta is given twice"),
        ({"batch": 9}, "batch 9 was not timed"),
        (
            {"bounds": Bounds(deadline_s=1e-6)},
            "wide keeps latency_s <= 1e-06",
        ),
    ],
)
def test_a_mistake_is_one_line(files, changed, said):
    with pytest.raises(UsageError, match=said) as error:
        run(files, "wide", **changed)
    assert "\n" not in str(error.value)


def test_files_of_other_networks_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match="give --profile"):
        planning.run([], [], link="lte", planner="li", bounds=NO_BOUNDS)
    with pytest.raises(UsageError, match="network of a server's profile 'wide'"):
        run(files, "slim")
    with pytest.raises(UsageError, match=r"two of .* one network, wide"):
        run(files, "wide", "wide")
    with pytest.raises(UsageError, match="two of the server's"):
        planning.run(
            [files["wide"]], [files["server"]] * 2,
            link="lte", planner="li", bounds=NO_BOUNDS,
        )  # fmt: skip
    profile.write(files["server"], replace(SERVER, stages=("a", "x", "c")))
    with pytest.raises(UsageError, match="stage 2 of the device's is b"):
        run(files, "wide")


def test_the_envelope_is_the_planners_latency():
    p, link = instances.profile(random.Random(3), stages=4), Link(1e6, 0.01)
    curves = plan_plots.strategies(p, link)
    assert set(curves) == {"local", *(cut.name for cut in p.cuts)}
    for i in (0, 80, 160):
        at = replace(link, up_bits_per_s=plan_plots.RATES[i])
        best = neurosurgeon(p, at)
        lowest = min(curve[i] for curve in curves.values())
        assert lowest == pytest.approx(best.latency_s)
    wins = np.array(list(plan_plots.winners(curves).values()))
    assert (wins.sum(0) == 1).all()


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "plan.json").write_text("mine")
    with pytest.raises(UsageError, match=r"plan\.json exists"):
        cli.absent(None, str(tmp_path / "plan.json"))
    cli.absent(None, str(tmp_path / "other.json"))
    with pytest.raises(UsageError, match="make its folder first"):
        cli.absent(str(tmp_path / "no" / "other.json"))
