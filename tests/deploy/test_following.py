"""A device that follows a plan over a link that slows down and comes back."""

import itertools
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")
pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("prometheus_client")

from benchmarks.serving.shaper import Shaper
from sc_jax.codec.codecs import RawCodec, VariableRateCodec
from sc_jax.codec.tables import from_pmf
from sc_jax.codec.variable_rate import bins_of
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import Device, ServerLost, connect
from sc_jax.deploy.device.following import MEAN_OF, follow, runtime
from sc_jax.deploy.device.routes import routes
from sc_jax.deploy.export.chain import chain
from sc_jax.deploy.server import tails
from sc_jax.deploy.wire.reply import Reply
from sc_jax.errors import UsageError
from sc_jax.exits import policies
from sc_jax.exits.policies import PerClass, Threshold
from sc_jax.exits.scores import Scoring
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import Exit
from sc_jax.nets.run import Variables, init
from sc_jax.plan import Bounds, Cut, Profile, plan, profile
from sc_jax.plan.link import Link
from sc_jax.plan.plan import Certified, Plan
from sc_jax.runs import planning

NETWORK = "net, cnn"
CUT = "cut encoder/factorized"
FAST, SLOW = 1e7, 300.0  # bits a second


@pytest.fixture(scope="module")
def bundles(student, images, tmp_path_factory):
    """name -> path of a bundle: a head, and the whole net in one piece."""
    recipe, variables, cut, codec = student
    root = tmp_path_factory.mktemp("following")
    facts = {"input": [28, 28, 1], "network": NETWORK}
    known = {"model": "m", "split": 0, "labels": tuple("0123456789")}
    whole = replace(recipe.net, splits=())
    for name, net, tables, end in (
        ("head", recipe.net, codec, cut), ("whole", whole, None, "classifier"),
    ):  # fmt: skip
        made = chain(net, variables, tables, images[:8])
        models = {k: s.model for k, s in made.items()}
        bundle.write(root / name, models, tables, facts=facts | {"cut": end}, **known)
    return {name: str(root / name) for name in ("head", "whole")}


@pytest.fixture(scope="module")
def planned(student, images, tmp_path_factory):
    """bounds -> the file of a plan; the whole net is stated to be the worse one."""
    recipe, _, cut, codec = student
    names, root = recipe.net.names, tmp_path_factory.mktemp("plans")
    few = 0.001
    phone = Profile(
        NETWORK, names, (few,) * len(names), (few,) * len(names), quality=0.8,
        cuts=(
            Cut(cut, codec.kind, 200, few, few, 0.9),
            Cut("input", "JPEG q=30", 900, few, few, 0.85),
        ),
    )  # fmt: skip
    profile.write(root / "phone.json", phone)
    numbers = itertools.count()

    def make(planner="neurosurgeon:objective=quality", **bounds):
        out = str(root / f"plan{next(numbers)}.json")
        planning.run(
            [str(root / "phone.json")], [], link=f"up={FAST:g},rtt=0.002",
            planner=planner,
            bounds=Bounds(**bounds), out=out,
        )  # fmt: skip
        return out

    return make


def read(bundles, *names):
    return {bundles[n]: bundle.read(Path(bundles[n])) for n in names}


def test_it_computes_here_while_the_link_is_slow_and_sends_again(
    student, bundles, planned, images, start
):
    recipe, variables, _, codec = student
    (split,) = recipe.net.splits
    server = start({"m": tails.tails(recipe.net, variables, {split.name: codec})})
    file = planned(deadline_s=0.5, private=(recipe.net.names[0],))
    rate, said, seconds = [FAST], [], itertools.count()
    link = Link(FAST, rtt_s=0.002)
    with Shaper(server.address, link, up=lambda _: rate[0]) as shaper:
        follower = follow(
            plan.read(file), read(bundles, "head", "whole"),
            connect(shaper.address), deadline_s=1.0, say=said.append,
            # A second an image, so that the link is looked at soon.
            clock=lambda: float(next(seconds)),
        )  # fmt: skip
        while not follower.trial(images[0]).answered:  # the first compiles
            time.sleep(0.1)
        found = [follower.infer(image) for image in images[:6]]
        assert {a.exit for a in found} == {"edge"}
        rate[0] = SLOW
        found += [follower.infer(image) for image in images[6:20]]
        rate[0] = FAST
        end = time.monotonic() + 30
        while found[-1].exit != "edge" and time.monotonic() < end:
            found.append(follower.infer(images[20]))
            time.sleep(0.01)
    assert all(a.answered for a in found)
    by = [a.choice for a in found]
    runs = [name for name, _ in itertools.groupby(by)]
    assert runs == [CUT, "local", CUT]
    # The first of the slow ones was waited for; nobody was waited for after it.
    assert by[6] != "local" and found[6].exit == "final" and found[6].note
    assert all(sum(a.seconds.values()) < 0.5 for a in found[7:-1])
    changes = [line for line in said if line.startswith("image ")]
    assert len(changes) == 2 and changes[0].startswith("image 7: cut encoder")
    assert "deadline 500 ms" in changes[0] and "quality 0.9" in changes[1]


def lost(*_):
    raise ServerLost("UNAVAILABLE: nobody")


def test_a_lost_server_costs_one_image_and_no_answer(bundles, planned, images, capsys):
    """Refused at once is no fast link: what nobody answers is taken to last."""
    made, said = plan.read(planned(deadline_s=0.5)), []
    both = read(bundles, "head", "whole")
    follower = follow(made, both, lost, say=said.append, clock=lambda: 0.0)
    files = tuple(map(str, range(5)))
    labels = np.zeros(5, np.int32)
    few = Dataset("few", "test", tuple("0123456789"), images[:5], labels, files)
    rows = []
    answers.answer_all(follower, few, rows.append)
    assert [row["choice"] for row in rows] == [CUT, *["local"] * 4]
    assert all(row["exit"] == "final" for row in rows)
    assert rows[0]["note"] and rows[0]["sent_bytes"] and not rows[1]["note"]
    expected = [Device(both[bundles["whole"]]).infer(i).prediction for i in images[:5]]
    assert [row["class"] for row in rows] == list(map(str, expected))
    printed = capsys.readouterr().out
    assert "answered 5 of 5 (final 5)" in printed
    assert "local: 4 images, mean " in printed and f"{CUT}: 1 images" in printed
    assert said[0].startswith(f"plan: {CUT}, ") and "may change to: local" in said[1]
    assert "left out: 1 other plans" in said[2]  # the JPEG file
    assert said[3].startswith(f"image 1: {CUT} -> local: ") and len(said) == 4


def test_what_is_certified_is_no_promise_of_changes(bundles, planned):
    made, said = plan.read(planned(deadline_s=0.5)), []
    risk = plan.Certified(0.01, 0.1, "validation", 100, 0.0)
    both = read(bundles, "head", "whole")
    follow(replace(made, certified=risk), both, lost, say=said.append)
    assert said[-1].startswith("certified: each of these plans alone")
    follow(made, both, lost, say=said.append)
    assert not said[-1].startswith("certified")


def test_a_plan_for_another_figure_is_followed_as_it_is(bundles, planned, images):
    made = replace(plan.read(planned()), objective="energy_j")
    follower = follow(made, read(bundles, "head", "whole"), lost, say=lambda _: None)
    found = [follower.infer(image) for image in images[:4]]
    assert {a.choice for a in found} == {CUT}
    assert all(a.exit == "final" for a in found)  # the whole net stands in
    assert "not sent" in found[3].note  # the breaker


def refused(*arguments, **options):
    with pytest.raises(UsageError) as caught:
        follow(*arguments, say=lambda _: None, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_one_line(bundles, planned, tmp_path):
    made = plan.read(planned(deadline_s=0.5))
    head, both = read(bundles, "head"), read(bundles, "head", "whole")
    whole = read(bundles, "whole")
    found = refused(made, whole, lost)
    assert f"no bundle follows the plan, {NETWORK}: {CUT}; " in found
    assert f"whole is {NETWORK}: local" in found
    other = replace(made.alternatives[0], network="another")
    named = replace(made, alternatives=(other, *made.alternatives[1:]))
    assert f"another: {CUT}; " in refused(named, both, lost)
    assert "launch.plan --out" in refused(replace(made, link=None), both, lost)
    assert "raise it" in refused(made, both, lost, deadline_s=0.4)
    assert "give --server" in refused(made, both, None)
    twice = head | {"twin": head[bundles["head"]]}
    assert f"head and twin both are {NETWORK}" in refused(made, twice, lost)
    old, manifest = head[bundles["head"]], head[bundles["head"]].manifest
    facts = {k: v for k, v in manifest["facts"].items() if k != "network"}
    for changed, words in (
        ({"facts": facts}, "old is of an older version"),
        ({"labels": ["a"]}, "old has other labels than"),
        ({"facts": manifest["facts"] | {"input": [9, 9, 1]}}, "takes images [9, 9, 1]"),
    ):
        wrong = {"old": replace(old, manifest=manifest | changed)}
        assert words in refused(made, whole | wrong, lost)
    paths = list(bundles.values())
    for arguments, words in (
        ((paths, None, None), "give --plan"),
        (([], None, None), "give --bundle"),
    ):
        with pytest.raises(UsageError, match=words):
            runtime(*arguments)
    with pytest.raises(UsageError, match="names its rates"):
        runtime(paths, planned(), lost, level=1)


def test_the_command_refuses_in_one_line(bundles, planned):
    done = subprocess.run(
        [
            sys.executable, "-m", "launch.device", f"--bundle={bundles['whole']}",
            f"--plan={planned()}", "--server=localhost:1",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: no bundle follows the plan, ")


def exit_bundle(policy):
    """Two exits before a raw split, as a manifest tells; it has no segments."""
    fields = policy and json.loads(policies.to_json(policy))
    manifest = {
        "model": "m", "labels": [], "policy": fields,
        "exits": ["exit@a", "exit@b", "final"],
        "facts": {"cut": "b", "input": [2], "network": "net"},
    }  # fmt: skip
    return Bundle(manifest, {}, RawCodec((2,)))


@pytest.mark.parametrize("policy", [None, Threshold((0.3, 0.4))])
def test_a_plan_sets_threshold_and_exit(policy):
    cut, installed = Cut("b", "raw", 30), exit_bundle(policy)
    net = ("net", "latency_s", ("a", "b", "c"), ("device", "device", "edge"), (cut,))
    base = Plan("spinn", *net, None, None, 0.1, None, 10.0, None, None)
    link = Link(1e6, 0.0)

    def thresholds(**changed):
        each = replace(base, **changed)
        (found,) = routes(
            replace(each, link=link, alternatives=(each,)), {"x": installed}
        )
        return found.bundle.policy and found.bundle.policy.thresholds

    assert thresholds() == (policy and policy.thresholds)
    assert thresholds(threshold=0.7) == (0.7, 0.7)
    never, some = thresholds(threshold=0.7, exit="b")
    assert some == 0.7 and never > 1
    never, always = thresholds(exit="b")
    assert always < 0 and never > 1
    with pytest.raises(UsageError, match="cut b/raw, exit a, exit b"):
        thresholds(exit="c")


def test_a_policy_of_another_kind_gives_way_to_the_plans_threshold():
    installed = exit_bundle(PerClass(((0.5,), (0.5,))))
    cut = Cut("b", "raw", 30)
    each = Plan(
        "spinn", "net", "latency_s", ("a", "b", "c"), ("device", "device", "edge"),
        (cut,), None, 0.7, 0.1, None, 10.0, None, None,
    )  # fmt: skip
    planned = replace(each, link=Link(1e6, 0.0), alternatives=(each,))
    (found,) = routes(planned, {"x": installed})
    assert found.bundle.policy == Threshold((0.7, 0.7))


def test_a_threshold_is_of_the_score_that_was_recorded():
    margin = Scoring("margin")
    warm = Threshold((0.3, 0.4), Scoring(temperatures=(2.0, 2.0, 1.0)))
    cut, link = Cut("b", "raw", 30), Link(1e6, 0.0)
    each = Plan(
        "joint", "net", "latency_s", ("a", "b", "c"), ("device", "device", "edge"),
        (cut,), None, 0.7, 0.1, None, 10.0, None, None,
    )  # fmt: skip
    risk = Certified(0.1, 0.1, "validation", 1000, 0.0)
    for policy in (warm, Threshold((0.3, 0.4), margin)):
        for known in (None, risk):
            own = replace(each, certified=known)
            planned = replace(own, link=link, alternatives=(own,))
            (found,) = routes(planned, {"x": exit_bundle(policy)})
            assert found.bundle.policy == Threshold((0.7, 0.7))
    own = replace(each, certified=replace(risk, score="margin"))
    planned = replace(own, link=link, alternatives=(own,))
    (found,) = routes(planned, {"x": exit_bundle(Threshold((0.3, 0.4), margin))})
    assert found.bundle.policy == Threshold((0.7, 0.7), margin)
    with pytest.raises(UsageError, match="no bundle follows the plan"):
        routes(planned, {"x": exit_bundle(warm)})


def test_a_level_of_a_rate_is_a_cut_of_its_own():
    medians, widths = np.zeros(1, np.float32), np.array([[1.0], [0.5]])
    tables = from_pmf([[1.0, 2.0, 1.0]], -1)
    codec = VariableRateCodec(
        (6, 1), (tables, tables), medians, bins_of(widths, medians), 1
    )
    installed = replace(exit_bundle(None), codec=codec)
    net = ("net", "latency_s", ("a", "b", "c"), ("device", "device", "edge"))
    every = [
        Plan(
            "neurosurgeon", *net, (Cut("b", name, 9),), None, None, 0.1, None, 9.0,
            None, None,
        )
        for name in ("level=1", "level=0", "level=2", "variable_rate")
    ]  # fmt: skip
    planned = replace(every[0], link=Link(1e6, 0.0), alternatives=tuple(every))
    found = routes(planned, {"x": installed})
    assert [route.level for route in found] == [1, 0]
    missing = replace(planned, alternatives=tuple(every[2:]))
    with pytest.raises(UsageError, match="cut b/level=0, cut b/level=1"):
        routes(missing, {"x": installed})


def test_a_threshold_of_the_plan_decides_who_is_sent(student, images, tmp_path):
    recipe, variables, cut, codec = student
    net = replace(recipe.net, exits=(Exit(cut, PooledLinear(10)),))
    fresh = init(net, jax.random.key(5), images[:1])
    known = Variables(fresh.params | variables.params, fresh.state | variables.state)
    made = chain(net, known, codec, images[:8])
    installed = bundle.write(
        tmp_path / "b", {k: s.model for k, s in made.items()}, codec, model="m",
        split=0, exits=("exit@encoder", "final"), labels=tuple("0123456789"),
        facts={"input": [28, 28, 1], "network": NETWORK, "cut": cut},
    )  # fmt: skip
    names = net.names
    depth = names.index(cut) + 1
    places = ("device",) * depth + ("edge",) * (len(names) - depth)
    logits = np.arange(10, dtype=np.float32)
    reply = Reply({"prediction": np.array(9), "logits": logits})
    for threshold, exit in ((0.0, "exit@encoder"), (2.0, "edge")):
        own = Plan(
            "spinn", NETWORK, "latency_s", names, places, (Cut(cut, codec.kind, 200),),
            None, threshold, 0.01, None, 100.0, None, None, device_s=0.002,
        )  # fmt: skip
        planned = replace(own, link=Link(FAST, 0.001), alternatives=(own,))
        both = {"b": installed}
        follower = follow(planned, both, lambda *_: reply, say=lambda _: None)
        before = follower.controller.message_s
        found = [follower.infer(image) for image in images[:3]]
        assert {a.exit for a in found} == {exit}
        (leaving,) = routes(planned, both)
        for image in images[:3]:
            best, data = Device(leaving.bundle).begin(image)
            assert (best.exit, data is None) == ("exit@encoder", exit != "edge")
        # Nor does one input, which an exit may answer, say how fast the device is.
        assert follower.controller.pace == 1.0
        # Who is answered here says nothing of the link.
        assert (follower.controller.message_s == before) is (exit != "edge")
        # Many do, as the plan counts who leaves: of their mean it says something.
        found += [follower.infer(images[0]) for _ in range(MEAN_OF - 3)]
        own_s = [a.seconds["head"] + a.seconds.get("code", 0.0) for a in found]
        ratio = np.mean(own_s) / 0.002
        known = follower.controller
        assert known.pace == pytest.approx(ratio**known.gain)
