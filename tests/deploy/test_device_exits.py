"""Exits on the device: a head as several segments, and what answers when."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")


from benchmarks.speed import timed_head
from sc_jax.compressors import Raw
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device, ServerLost, connect
from sc_jax.deploy.device.runtime import latent_of
from sc_jax.deploy.export.chain import chain, runner
from sc_jax.deploy.export.convert import ExportError
from sc_jax.deploy.wire.breaker import Breaker
from sc_jax.deploy.wire.reply import Reply
from sc_jax.errors import UsageError
from sc_jax.exits import policies
from sc_jax.exits.policies import PerClass, Policy, Threshold, TopFraction
from sc_jax.exits.scores import Scoring
from sc_jax.nets.exit_classifiers.classifiers import MixedPool
from sc_jax.nets.exit_classifiers.gated import Ensembled
from sc_jax.nets.layers.blocks import Classifier
from sc_jax.nets.net import Exit, Net, Stage, cut_at, head
from sc_jax.nets.run import Variables, init, run

STEM = "exit@stem"
NEVER = 2.0  # above any probability
KNOWN = {"input": [28, 28, 1], "dtype": "float32"}


class Pool(nn.Module):
    """A pooled linear exit."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        return Classifier(10)(x.mean((1, 2)), train=train)


class Absolute(nn.Module):
    """|x|: some stage between two exits."""

    @nn.compact
    def __call__(self, x, *, train):
        return jnp.abs(x)


@pytest.fixture(scope="module")
def branchy(student):
    """The student with an exit at its cut: (net, variables, codec)."""
    recipe, variables, _, codec = student
    net = replace(recipe.net, exits=(Exit("encoder", Pool()),))
    fresh = init(net, jax.random.key(5), np.zeros((1, 28, 28, 1), np.uint8))
    return net, over(fresh, variables), codec


def over(fresh: Variables, known: Variables) -> Variables:
    """`fresh` with every part that `known` has."""
    return Variables(fresh.params | known.params, fresh.state | known.state)


def test_a_head_of_two_exits_is_two_segments_that_equal_the_whole(student, images):
    """An exit in mid-head ends a segment; its feature feeds the next."""
    recipe, variables, _, codec = student
    stem = Stage("first", Absolute())
    normalise, *rest = recipe.net.stages
    exits = (Exit("first", Pool()), Exit("encoder", Pool()))
    net = Net((normalise, stem, *rest), exits, recipe.net.splits)
    fresh = init(net, jax.random.key(2), images[:1])
    both = over(fresh, variables)
    made = chain(net, both, codec, images[:32])
    assert list(made) == ["head0", "head1"]
    assert made["head0"].signature.outputs == ("exit@first", "feature")
    assert made["head1"].signature.inputs == ("feature",)
    outputs = runner(made)(images[:32])
    whole = jax.jit(lambda v, x: run(head(net, "encoder"), v, x)[0])(both, images[:32])
    for name in ("exit@first", "exit@encoder"):
        np.testing.assert_allclose(outputs[name], whole.predictions[name], atol=1e-4)
    exact = np.stack([codec.symbols(np.asarray(z)) for z in whole.features["encoder"]])
    assert (exact == outputs["symbols"]).mean() > 0.9999


@pytest.fixture(scope="module")
def installed(branchy, images):
    """threshold -> a bundle whose head has one exit."""
    net, variables, codec = branchy
    models = {k: s.model for k, s in chain(net, variables, codec, images[:32]).items()}

    def make(threshold, folder):
        return bundle.write(
            folder / f"at{threshold}", models, codec, model="m", split=0,
            policy=Threshold((threshold,)), exits=("exit@encoder", "final"),
            labels=tuple("0123456789"),
            facts={"input": [28, 28, 1]},
        )  # fmt: skip

    return make


def test_a_sure_exit_answers_and_nothing_is_sent(installed, branchy, images, tmp_path):
    def send(*_):
        raise AssertionError("sent")

    net, variables, _ = branchy
    installed(0.0, tmp_path)
    made = bundle.read(tmp_path / "at0.0.zip")
    answer = Device(made, send).infer(images[0])
    whole = run(head(net, "encoder"), variables, images[:1])[0].predictions
    assert answer.prediction == int(whole["exit@encoder"].argmax())
    assert (answer.exit, answer.sent_bytes, answer.note) == ("exit@encoder", 0, "")
    assert set(answer.seconds) == {"head"}


def test_a_lost_server_leaves_the_best_local_answer(installed, images, tmp_path):
    made = installed(NEVER, tmp_path)

    def lost(*_):
        raise ServerLost("UNAVAILABLE: no answer")

    answer = Device(made, lost).infer(images[0])
    assert answer.exit == "exit@encoder" and answer.prediction is not None
    assert answer.note == "UNAVAILABLE: no answer" and answer.sent_bytes > 0
    offline = Device(made).infer(images[0])
    assert offline.prediction == answer.prediction and offline.sent_bytes == 0
    late = Device(made, lost, deadline_s=0.0).infer(images[0])
    assert late.prediction == answer.prediction and "deadline" in late.note
    reply = Reply({"prediction": np.array(7), "logits": np.arange(10.0)})
    assert Device(made, lambda *_: reply).infer(images[0]).exit == "edge"
    data, seconds = Device(made).encode(images[0])
    assert len(data) == answer.sent_bytes and set(seconds) == {"head", "code"}


SERVE = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from sc_jax.deploy import bundle
from sc_jax.deploy.server import edge

def reply(z):
    logits = np.zeros((len(z), 10), np.float32)
    return {"prediction": logits.argmax(-1), "logits": logits}

tail = SimpleNamespace(
    codec=bundle.read(Path(sys.argv[1])).codec, reply=reply,
    compile=lambda sizes: None, task="classification", labels=tuple("0123456789"),
    outputs=lambda: {name: each[:0] for name, each in reply(np.zeros((1, 1))).items()},
)
server = edge.serve({"m": (tail,)}, edge.Settings(port=int(sys.argv[2]), sizes=(1,)))
print(server.address, flush=True)
time.sleep(100)
"""


@pytest.fixture
def serve():
    """(bundle, port) -> (process, address) of a real server; what is left is killed."""
    pytest.importorskip("grpc_health")
    pytest.importorskip("grpc_reflection")
    pytest.importorskip("prometheus_client")
    begun = []

    def start(folder, port=0):
        command = [sys.executable, "-c", SERVE, str(folder), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_server_killed_in_a_run_costs_little_and_is_found_again(
    installed, serve, images, tmp_path
):
    made = installed(NEVER, tmp_path)
    process, address = serve(tmp_path / "at2.0")
    breaker = Breaker(first_s=2.0, longest_s=2.0)
    device = Device(made, connect(address), deadline_s=5.0, breaker=breaker)
    assert device.infer(images[0]).exit == "edge"
    process.kill()
    process.wait()
    lost = [device.infer(images[0]) for _ in range(3)]
    assert {a.exit for a in lost} == {"exit@encoder"}
    assert {a.status for a in lost} == {"UNAVAILABLE"}
    assert lost[-1].sent_bytes == 0  # no connection from its beginning to its end
    begun = time.monotonic()
    kept = []
    while time.monotonic() < begun + 1.0:
        answer = device.infer(images[0])
        assert answer.prediction == lost[0].prediction
        if "3 times in a row" in answer.note:
            assert (answer.sent_bytes, answer.status) == (0, "")
            assert set(answer.seconds) == {"head", "code"}
            kept.append(sum(answer.seconds.values()))
    local = Device(made)
    alone = [sum(local.infer(images[0]).seconds.values()) for _ in range(50)]
    assert len(kept) > 3 and np.median(kept) < 3 * np.median(alone) + 0.05
    serve(tmp_path / "at2.0", int(address.rpartition(":")[2]))
    up = time.monotonic()
    while device.infer(images[0]).exit != "edge":
        # One back-off, and one probe that gRPC's own back-off makes late.
        assert time.monotonic() < up + 2.0 + 10.0
        time.sleep(0.01)
    assert device.infer(images[0]).sent_bytes > 0
    assert breaker.kept >= len(kept) and "still" not in breaker.summary()


def test_an_exit_of_other_classes_than_the_labels_is_one_line(installed, tmp_path):
    made = installed(0.5, tmp_path)
    fewer = replace(made, manifest=made.manifest | {"labels": ["a"] * 9})
    with pytest.raises(UsageError, match=r"encoder answers 10 classes, .* names 9"):
        Device(fewer)


@pytest.fixture(scope="module")
def linked(nets, images):
    """Two exits of Zero Time Waste, the second reads the first: (net, variables, x)."""
    net, _, x = nets("cnn", 28, 1, images)
    exits = [
        Exit(n, Ensembled(MixedPool(10, cascade=True))) for n in ("stem", "layer1")
    ]
    net = cut_at(Net(net.stages, tuple(exits)), "layer1", Raw())
    return net, init(net, jax.random.key(0), x[:1]), x


def test_an_exit_reads_the_one_before_in_the_segment_before(linked, tmp_path):
    net, variables, x = linked
    codec = codecs_of(net, variables, x[:1])["split@layer1"]
    made = chain(net, variables, codec, x)
    assert made["head0"].signature.outputs == ("carry", "exit@stem", "feature")
    assert set(made["head1"].signature.inputs) == {"carry", "feature"}
    outputs = runner(made)(x)
    whole = jax.jit(lambda v, x: run(head(net, "layer1"), v, x)[0])(variables, x)
    for name in ("exit@stem", "exit@layer1"):
        np.testing.assert_allclose(outputs[name], whole.predictions[name], atol=1e-4)
    installed = bundle.write(
        tmp_path / "b", {k: s.model for k, s in made.items()}, codec, model="m",
        split=0, policy=Threshold((NEVER, 0.0)), exits=("a", "b", "final"), labels=(),
        facts=KNOWN,
    )  # fmt: skip
    answer = Device(installed).infer(x[0])
    assert answer.exit == "exit@layer1"
    assert answer.prediction == whole.predictions["exit@layer1"][0].argmax()
    times = timed_head.load(str(tmp_path / "b"), 1, "fashion_mnist_12k")
    timed_head.turn(times, 0)
    found = timed_head.result(times, skip=0, profile_runs=1, energy_s=0)
    assert found.model_bytes == sum(len(s.model) for s in made.values())
    assert found.payload_bytes == 4 * whole.features["layer1"][0].size
    assert found.profile is None or len(found.profile["operations"]) > 4


def test_no_exit_of_the_server_reads_one_of_the_device(linked):
    net, _, x = linked
    last = Exit("layer2", Ensembled(MixedPool(10, cascade=True)))
    net = Net(net.stages, (*net.exits, last), net.splits)
    variables = init(net, jax.random.key(0), x[:1])
    codec = codecs_of(net, variables, x[:1])["split@layer1"]
    with pytest.raises(ExportError, match="reads exit@layer1, before it"):
        chain(net, variables, codec, x)


def test_an_int8_chain_keeps_a_stage_of_one_segment_in_float(nets, images):
    """Each segment is asked only for the stages that it holds."""
    net, _, x = nets("cnn", 28, 1, images)
    exits = (Exit("stem", Pool()), Exit("layer1", Pool()))
    net = cut_at(Net(net.stages, exits), "layer1", Raw())
    variables = init(net, jax.random.key(0), x[:1])
    codec = codecs_of(net, variables, x[:1])["split@layer1"]
    made = chain(net, variables, codec, x, dtype="int8", float_stages=("normalise",))
    outputs = runner(made)(x)
    exact = jax.jit(lambda v, x: run(head(net, "layer1"), v, x)[0])(variables, x)
    for name in ("exit@stem", "exit@layer1"):
        value = exact.predictions[name]
        assert np.abs(outputs[name] - value).mean() < 0.1 * np.abs(value).max()
    assert len(latent_of(outputs)) == 1
    with pytest.raises(UsageError, match="unknown part"):
        chain(net, variables, codec, x, dtype="int8", float_stages=("nothing",))
    # An exit's operations are found by its name, and alone it says what it lacks.
    made = chain(net, variables, codec, x, dtype="int8", float_stages=("stem", STEM))
    kept, exact = runner(made)(x)[STEM], exact.predictions[STEM]
    assert np.abs(kept - exact).max() < 0.2 * np.abs(outputs[STEM] - exact).max()
    with pytest.raises(ExportError, match=r"exit@stem in float.*keep stem in"):
        chain(net, variables, codec, x, dtype="int8", float_stages=(STEM,))


def test_thresholds_are_checked_before_anything_is_converted():
    from sc_jax.deploy.export.exit_policy import _check

    _check((0.5,), ["exit@encoder"])
    for wrong in ((), (0.1, 0.2), (float("nan"),), (float("inf"),)):
        with pytest.raises(UsageError, match="threshold"):
            _check(wrong, ["exit@encoder"])


@pytest.mark.parametrize(
    ("policy", "exits", "line"),
    [
        (Threshold(()), ("final",), "0 exits before the last, its segments have 1"),
        (Threshold((0.5, 0.5)), ("a", "final"), "2 instead of 1"),
        (Threshold((0.5,), Scoring("confidence")), ("a", "final"), "never learnt"),
        (PerClass(((0.5,) * 9,)), ("a", "final"), "of 9 classes, the net has 10"),
        (TopFraction((0.5, 0.5)), ("a", "final"), "ranks a batch"),
    ],
)
def test_a_policy_that_fits_no_such_segments_is_refused(
    installed, tmp_path, policy: Policy, exits, line
):
    made = installed(0.5, tmp_path)
    fields = {"policy": json.loads(policies.to_json(policy)), "exits": list(exits)}
    with pytest.raises(UsageError, match=line):
        Device(replace(made, manifest=made.manifest | fields))
