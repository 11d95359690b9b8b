"""Device, edge and cloud: an edge that forwards what its exits are unsure of."""

import functools
import socket
import time
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("prometheus_client")

from edge_tools import refusal, rejects, wait_until  # noqa: E402

from sc_jax.compressors import Affine, Raw  # noqa: E402
from sc_jax.compressors.splits import codecs_of  # noqa: E402
from sc_jax.deploy.server import tails  # noqa: E402
from sc_jax.deploy.server.middle import Decision  # noqa: E402
from sc_jax.deploy.wire import frame  # noqa: E402
from sc_jax.deploy.wire.client import Client  # noqa: E402
from sc_jax.errors import UsageError  # noqa: E402
from sc_jax.exits.policies import Patience, Threshold  # noqa: E402
from sc_jax.nets.net import FINAL, Exit, Net, SplitPoint, Stage, head  # noqa: E402
from sc_jax.nets.run import run, variable_shapes  # noqa: E402

K, COUNT = 5, 24


class Layer(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.Dense(self.features)(x.astype(jnp.float32)))


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, previous, *, train):
        return nn.Dense(K)(x)


class Tiers:
    """A net on device, edge and cloud, and what each of its exits gives to images."""

    def __init__(self, splits=2, exits=("one", "two")):
        stages = (Stage("one", Layer(12)), Stage("two", Layer(10)))
        stages += (Stage("three", Layer(8)), Stage("four", Layer(K)))
        places = ("one", "two", "three")[:splits]
        self.net = Net(
            stages,
            tuple(Exit(name, Linear()) for name in exits),
            tuple(SplitPoint(p, Affine(8) if p == "one" else Raw()) for p in places),
        )
        drawn = np.random.default_rng(0)
        self.images = drawn.normal(0, 2, (COUNT, 9)).astype(np.float32)
        # Drawn here: an init would be compiled for each net.
        self.variables = jax.tree.map(
            lambda leaf: drawn.normal(0, 0.5, leaf.shape).astype(leaf.dtype),
            variable_shapes(self.net, self.images[:1]),
        )
        self.codecs = codecs_of(self.net, self.variables, self.images[:1])
        labels = tuple("abcde")
        self.tails = tails.tails(self.net, self.variables, self.codecs, labels=labels)
        before, codec = head(self.net, "one"), self.codecs["split@one"]
        latent = jax.jit(lambda v, x: run(before, v, x)[0].features["one"])
        latents = [np.asarray(latent(self.variables, x[None])) for x in self.images]
        self.sent = [
            frame.pack(codec.id, 0, codec.shape, codec.encode(z)) for (z,) in latents
        ]

    @functools.cached_property
    def answers(self):
        """f32[COUNT, K] of each exit, the whole net at once, image by image."""
        whole = jax.jit(lambda v, x: run(self.net, v, x)[0].predictions)
        each = [whole(self.variables, x[None]) for x in self.images]
        return {n: np.concatenate([e[n] for e in each]) for n in each[0]}

    def by(self, policy):
        """The tails whose exits leave by a policy over all exits."""
        decision = Decision(policy, self.net.exit_names)
        middle = replace(self.tails[0].middle, decision=decision)
        return (replace(self.tails[0], middle=middle), *self.tails[1:])


@pytest.fixture(scope="module")
def two():
    return Tiers()


@pytest.fixture
def tiers(start):
    """(edge, cloud) that serve tails as "net", the edge forwarding to the cloud."""

    def build(of_edge, of_cloud=None, **settings):
        cloud = start({"net": of_cloud or of_edge})
        return start({"net": of_edge}, forward=cloud.address, **settings), cloud

    return build


def metric(server, name, **labels):
    name = f"sc_jax_edge_{name}"
    return server.metrics.registry.get_sample_value(name, labels) or 0.0


def test_three_tiers_answer_as_the_whole_net_at_once_bit_for_bit(two, tiers):
    edge, cloud = tiers(two.tails)
    second = two.codecs["split@two"]
    size = len(frame.pack(second.id, 1, second.shape, bytes(4 * 10)))
    with Client(edge.address) as client:
        replies = [client.infer("net", data) for data in two.sent]
        assert client.infer("net", two.sent[0], budget_s=5.0).hop.tier == "cloud"
    got = np.stack([reply.logits for reply in replies])
    np.testing.assert_array_equal(got, two.answers[FINAL])
    assert {(r.hop.tier, r.hop.exit, r.hop.sent_bytes) for r in replies} == {
        ("cloud", "", size)
    }
    assert len({row.tobytes() for row in got}) == COUNT
    assert metric(edge, "forwarded_total", model="net") == COUNT + 1
    assert metric(edge, "forwarded_bytes_total", model="net") == (COUNT + 1) * size
    assert metric(cloud, "received_bytes_total", model="net") == (COUNT + 1) * size
    # The cloud answers for itself as any server does.
    with Client(cloud.address) as client:
        alone = client.infer("net", two.sent[0])
    assert alone.hop is None
    np.testing.assert_array_equal(alone.logits, got[0])


def test_the_exits_of_the_edge_leave_as_the_policy_does_over_a_trace(two, tiers):
    names = two.net.exit_names
    logits = np.stack([two.answers[name] for name in names])
    shares = np.exp(logits[1]) / np.exp(logits[1]).sum(-1, keepdims=True)
    policy = Threshold((2.0, float(np.median(shares.max(-1)))))
    taken = policy(logits)
    assert set(taken) == {1, 2}
    edge, _ = tiers(two.by(policy))
    with Client(edge.address) as client:
        replies = [client.infer("net", data) for data in two.sent]
    for i, (reply, e) in enumerate(zip(replies, taken)):
        expected = ("edge", names[1]) if e == 1 else ("cloud", "")
        assert (reply.hop.tier, reply.hop.exit) == expected
        assert (reply.hop.sent_bytes == 0) == (e == 1)
        np.testing.assert_array_equal(reply.logits, logits[e, i])
    left = metric(edge, "exit_answers_total", model="net", exit=names[1])
    assert left == (taken == 1).sum()


def test_a_brief_request_is_as_brief_to_the_cloud_and_leaves_at_the_same_exits(
    two, tiers
):
    logits = np.stack([two.answers[name] for name in two.net.exit_names])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    policy = Threshold((2.0, float(np.median(shares[1].max(-1)))))
    taken = policy(logits)
    edge, _ = tiers(two.by(policy))
    with Client(edge.address) as client:
        whole = [client.infer("net", data) for data in two.sent]
        brief = [client.infer("net", data, reply="prediction") for data in two.sent]
    for i, (one, other, e) in enumerate(zip(whole, brief, taken)):
        assert (other.hop.tier, other.hop.exit) == (one.hop.tier, one.hop.exit)
        assert set(other.outputs) == {"prediction", "probability"}
        assert other.prediction == one.prediction == logits[e, i].argmax()
        np.testing.assert_allclose(
            other.outputs["probability"], shares[e, i].max(), rtol=1e-5
        )
        assert other.message_bytes < one.message_bytes - 4 * K


def test_a_cloud_that_keeps_its_logits_is_asked_for_no_more_than_the_class(two, tiers):
    def alone(variables, z):
        whole = two.tails[1].jitted(variables, z)
        likely = jax.nn.softmax(whole["logits"]).max(-1)
        return {"prediction": whole["prediction"], "probability": likely}

    last = replace(two.tails[1], jitted=jax.jit(alone))
    edge, _ = tiers(two.tails, (two.tails[0], last))
    with Client(edge.address) as client:
        whole, brief = (
            client.infer("net", two.sent[0], reply=reply)
            for reply in ("logits", "prediction")
        )
    assert (whole.hop.tier, brief.hop.tier) == ("edge", "cloud")
    assert "the next server: the class alone" in whole.hop.note
    np.testing.assert_array_equal(whole.logits, two.answers["exit@two"][0])
    assert brief.prediction == two.answers[FINAL][0].argmax()


def test_a_cloud_that_is_killed_costs_no_answer(two, tiers, start):
    edge, cloud = tiers(two.tails)
    with Client(edge.address) as client:
        for i, data in enumerate(two.sent):
            if i == COUNT // 2:
                assert cloud.drain(0)
            reply = client.infer("net", data, timeout_s=5.0)
            name = FINAL if i < COUNT // 2 else "exit@two"
            np.testing.assert_array_equal(reply.logits, two.answers[name][i])
            assert reply.hop.tier == ("cloud" if name == FINAL else "edge")
            assert ("the next server" in reply.hop.note) == (name != FINAL)
        # Left alone after three losses in a row.
        assert metric(edge, "next_left_alone") == 1
        lost = (
            metric(edge, "next_lost_total", status=status)
            for status in ("UNAVAILABLE", "OPEN")
        )
        tried, kept = lost
        assert tried >= 3 and kept > 1 and tried + kept == COUNT // 2
        begun = time.perf_counter()
        assert client.infer("net", two.sent[0]).hop.sent_bytes == 0
        assert time.perf_counter() - begun < 0.4
        # It is asked again when it is back.
        start({"net": two.tails}, port=int(cloud.address.rpartition(":")[2]))
        wait_until(lambda: client.infer("net", two.sent[0]).hop.tier == "cloud")
    assert metric(edge, "next_left_alone") == 0


@pytest.fixture
def silent():
    """The address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_cloud_that_never_answers_leaves_time_for_the_edge(two, start, silent):
    edge = start({"net": two.tails}, forward=silent)
    with Client(edge.address) as client:
        begun = time.perf_counter()
        reply = client.infer("net", two.sent[0], 1.0, timeout_s=1.0)
        assert time.perf_counter() - begun < 1.0
    np.testing.assert_array_equal(reply.logits, two.answers["exit@two"][0])
    assert "DEADLINE_EXCEEDED" in reply.hop.note or "UNAVAILABLE" in reply.hop.note


def test_without_an_exit_the_request_fails_at_once_in_one_line(start):
    plain = Tiers(exits=("one",))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = f"127.0.0.1:{taken.getsockname()[1]}"
    edge = start({"net": plain.tails}, forward=gone)
    with Client(edge.address) as client:
        error = refusal(client, "net", plain.sent[0], timeout_s=20.0)
        # One loss, not five: clients do not send it again by themselves.
        assert error.code == "ABORTED" and "the next server" in error.line
        assert rejects(edge, "cloud") == 1
        for _ in range(3):
            refusal(client, "net", plain.sent[0], timeout_s=20.0)
        begun = time.perf_counter()
        assert "not sent" in refusal(client, "net", plain.sent[0]).line
        assert time.perf_counter() - begun < 0.4


def test_a_cloud_of_another_run_is_said_and_is_no_lost_server(two, tiers):
    other = Tiers(splits=1)
    edge, _ = tiers(two.tails, other.tails)
    with Client(edge.address) as client:
        for _ in range(5):
            reply = client.infer("net", two.sent[0])
            assert reply.hop.tier == "edge" and "split 1" in reply.hop.note
    assert metric(edge, "next_left_alone") == 0


def test_what_one_client_sends_does_not_keep_the_others_from_the_cloud(two, tiers):
    """A latent that the cloud's stages make NaN of is no sign of a lost server."""
    last, following = two.tails
    broken = jax.tree.map(lambda leaf: leaf * np.nan, following.variables)
    edge, _ = tiers(two.tails, (last, replace(following, variables=broken)))
    with Client(edge.address) as client:
        for _ in range(5):
            reply = client.infer("net", two.sent[0])
            assert reply.hop.tier == "edge" and "not a number" in reply.hop.note
        error = refusal(client, "net", two.sent[0], via="x" * 5000)
        assert (error.code, len(error.line) < 200) == ("INVALID_ARGUMENT", True)
    assert metric(edge, "next_left_alone") == 0


def test_a_circle_ends_at_the_server_where_it_began(start):
    three = Tiers(splits=3, exits=())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = start({"net": three.tails}, forward=f"127.0.0.1:{port}")
    second = start({"net": three.tails}, forward=first.address, port=port)
    with Client(first.address) as client:
        error = refusal(client, "net", three.sent[0], timeout_s=5.0)
    assert "leads back" in error.line and rejects(first, "loop") == 1
    assert rejects(second, "cloud") == 1
    with Client(first.address) as client:
        many = ",".join(map(str, range(99)))
        error = refusal(client, "net", three.sent[0], via=many)
    assert (error.code, error.line) == ("FAILED_PRECONDITION", "forwarded 99 times")


def test_what_cannot_forward_is_refused_before_it_serves(two, start):
    one = Tiers(splits=1, exits=())
    with pytest.raises(UsageError, match="no model has a second split"):
        start({"net": one.tails}, forward="127.0.0.1:1")
    for where in ("127.0.0.1:4321", "localhost:4321", "1.2.3.4:1,[::1]:4321"):
        with pytest.raises(UsageError, match="is the server itself"):
            start({"net": two.tails}, forward=where, port=4321)
    for beside in ({"forward_token": "secret"}, {"forward_roots": b"PEM"}):
        with pytest.raises(UsageError, match="of the servers of --forward: give it"):
            start({"net": two.tails}, **beside)
    for policy, words in (
        (Patience(1), "remembers the exits before exit@two"),
        (Threshold((0.5,)), "1 instead of 2"),
    ):
        with pytest.raises(UsageError, match=words):
            start({"net": two.by(policy)}, forward="127.0.0.1:1")
