"""A run of three tiers: recorded, measured, exported, as one file, by its policy."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

pytest.importorskip("grpc")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_converter")

from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device, connect
from sc_jax.deploy.export import package
from sc_jax.deploy.server import models, portable
from sc_jax.evaluate import budgets, rate
from sc_jax.exits.policies import Threshold
from sc_jax.nets.net import FINAL, hops
from sc_jax.nets.run import run
from sc_jax.runs import run_folder
from sc_jax.traces import record

NAMES = ("exit@device.link", "exit@edge", FINAL)


@pytest.fixture(scope="module")
def ddnn(tmp_path_factory):
    """A folder like that of a finished run, and its parts; nobody trained it."""
    from benchmarks.untrained import untrained

    folder = untrained(tmp_path_factory.mktemp("tiers") / "run", "ddnn", edge_bits=4)
    recipe = run_folder.recipe_of(folder)
    variables, codecs = run_folder.restore(recipe, folder)
    test = run_folder.dataset_of(recipe, "test").take(np.arange(12), "test")
    return SimpleNamespace(
        folder=folder, recipe=recipe, net=recipe.net, variables=variables,
        codecs=codecs, test=test,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(ddnn):
    return record.record(
        ddnn.net, ddnn.variables, ddnn.test, net_name="x", codecs=ddnn.codecs
    )


def test_bytes_and_answers_are_told_by_tier(ddnn, recorded, tmp_path):
    out, _ = run(ddnn.net, ddnn.variables, ddnn.test.images)
    for split, sizes in zip(
        hops(ddnn.net), (recorded.payload_bytes, recorded.forwarded_bytes)
    ):
        codec = ddnn.codecs[split.name]
        z = np.asarray(out.features[split.after])
        assert sizes.tolist() == [len(codec.encode(row)) for row in z]
    taken = np.array([0, 1, 2] * 4)
    sent, forwarded = (
        f(recorded, taken) for f in (record.sent_bytes, record.forwarded_bytes)
    )
    np.testing.assert_array_equal(sent > 0, taken > 0)
    np.testing.assert_array_equal(forwarded > 0, taken > 1)
    third = pytest.approx(1 / 3)
    tiers = {"device": third, "edge": third, "cloud": third}
    assert record.tier_shares(recorded, taken) == tiers
    point = budgets.evaluate_exits("some", recorded, taken)
    assert (point.sent_bytes, point.forwarded_bytes) == (sent.mean(), forwarded.mean())
    record.save(recorded, tmp_path / "trace.npz")
    again = record.load(tmp_path / "trace.npz")
    assert again.before_cloud == 2 and again.on_device == 1
    np.testing.assert_array_equal(again.forwarded_bytes, recorded.forwarded_bytes)


def test_both_hops_are_measured_and_lose_nothing(ddnn, recorded):
    measured = rate.measure(ddnn.net, ddnn.variables, ddnn.codecs, ddnn.test)
    assert not measured.disagreements
    np.testing.assert_array_equal(measured.payload_bytes, recorded.payload_bytes)
    np.testing.assert_array_equal(measured.forwarded_bytes, recorded.forwarded_bytes)


def test_a_device_an_edge_and_a_cloud_share_one_policy(ddnn, start, tmp_path):
    made, proof = package.package(
        ddnn.folder, tmp_path / "bundle", thresholds=(0.0, 2.0), calibration=8,
        max_drop_points=100.0,
    )  # fmt: skip
    assert tuple(made.manifest["exits"]) == NAMES and len(made.manifest["cost"]) == 3
    assert proof.leaving.shares == {NAMES[0]: 1.0, NAMES[1]: 0.0, FINAL: 0.0}
    model = made.manifest["model"]
    served = models.load(ddnn.folder)
    decision = served[model][0].middle.decision
    assert decision.policy == made.policy and decision.exits == NAMES
    # The same from one file, without training code.
    portable.write(tmp_path / "net.tail", served, platforms=("cpu",))
    packed = models.load(tmp_path / "net.tail")
    assert packed[model][0].middle.decision == decision
    cloud = start(packed)
    edge = start(packed, forward=cloud.address)
    bundled = bundle.read(tmp_path / "bundle")
    bundled.manifest["policy"] = None  # a device that is never sure
    answer = Device(bundled, connect(edge.address), deadline_s=60.0).infer(
        np.asarray(ddnn.test.images[0])
    )
    assert (answer.tier, answer.exit) == ("cloud", "cloud")
    assert answer.sent_bytes > 0 < answer.forwarded_bytes
    whole = jax.jit(lambda v, x: run(ddnn.net, v, x)[0].predictions[FINAL])
    expected = np.asarray(whole(ddnn.variables, ddnn.test.images[:1]))[0]
    np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-4, atol=1e-4)
    cloud.drain(0)
    answer = Device(bundled, connect(edge.address), deadline_s=60.0).infer(
        np.asarray(ddnn.test.images[0])
    )
    assert (answer.tier, answer.exit) == ("edge", "exit@edge")
    assert "the next server" in answer.note and answer.status == ""


def test_the_runs_own_policy_decides_where_it_was_recorded(ddnn, recorded):
    from sc_jax.runs import exit_runs

    file = exit_runs.trace_file(ddnn.folder, "validation")
    named = recorded._replace(
        trace=record.replace(
            recorded.trace, split="validation",
            net=exit_runs.name_of(ddnn.recipe, ddnn.folder),
        )
    )  # fmt: skip
    record.save(named, file)
    (first, _), *_ = models.load(ddnn.folder, "own").values()
    assert isinstance(first.middle.decision.policy, Threshold)
    assert first.middle.decision.exits == NAMES
    file.unlink()
