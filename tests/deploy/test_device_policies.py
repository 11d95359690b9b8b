"""Every score and policy registered: device, executors and trace leave alike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from sc_jax.compressors import Raw
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device
from sc_jax.deploy.export.chain import chain
from sc_jax.deploy.wire.reply import Reply
from sc_jax.exits.execute import EXECUTORS
from sc_jax.exits.policies import (
    POLICIES,
    Anytime,
    PerClass,
    Policy,
    Threshold,
    TopFraction,
)
from sc_jax.exits.scores import SCORES, Scoring
from sc_jax.nets.exit_classifiers.gated import LearnedConfidence
from sc_jax.nets.layers.blocks import Classifier
from sc_jax.nets.net import Exit, Net, Stage, cut_at
from sc_jax.nets.run import Variables, init, run

K, EXITS, IMAGES = 5, 4, 1000
COST = (10.0, 25.0, 45.0, 100.0)
WEIGHTS = {
    "failure_prediction": ((-1.0, 2.0, 1.0, -1.0, -0.5),) * EXITS,
    "eenet": tuple(
        (-1.0, 0.2, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 0.5, *(0.3,) * e)
        for e in range(EXITS)
    ),
}


class Pixels(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.Conv(6, (3, 3), (2, 2))(x.astype(jnp.float32) / 64 - 2))


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.relu(nn.Conv(6, (3, 3))(x))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return Classifier(K)(x.mean((1, 2)), train=train)


class Spread(nn.Module):
    """K logits that spread, and one of a confidence."""

    @nn.compact
    def __call__(self, x, previous, *, train):
        return nn.Dense(K + 1)(12 * x.mean((1, 2)))


class Slice(nn.Module):
    """An exit that answers what was recorded of exit e."""

    e: int

    @nn.compact
    def __call__(self, x, previous, *, train):
        rows = x[:, self.e]
        return rows[:, :K], {"confidence": rows[:, K]}


class Same(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return x


class Last(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return x[:, -1, :K]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(images, logits f32[4, 1000, K], confidence logits, segments, codec)."""
    stages = (Stage("a", Pixels()), Stage("b", Layer()), Stage("c", Layer()))
    exits = tuple(Exit(name, LearnedConfidence(Spread())) for name in "abc")
    net = cut_at(Net((*stages, Stage("d", Flat())), exits), "c", Raw())
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (IMAGES, 2, 2, 1), dtype=np.uint8)
    images = coarse.repeat(4, 1).repeat(4, 2)
    variables = init(net, jax.random.key(2), images[:1])
    out, _ = jax.jit(lambda v, x: run(net, v, x))(variables, images)
    logits = np.stack([out.predictions[name] for name in net.exit_names])
    sure = np.stack([out.extras[f"exit@{name}"]["confidence"] for name in "abc"])
    codec = codecs_of(net, variables, images[:1])["split@c"]
    made = chain(net, variables, codec, images[:64])
    return images, logits, sure, {k: s.model for k, s in made.items()}, codec


@pytest.fixture(scope="module")
def replay(recorded):
    """A net whose exits answer what was recorded, and its inputs: for executors."""
    _, logits, sure, _, _ = recorded
    stages = (*(Stage(name, Same()) for name in "abc"), Stage("d", Last()))
    net = Net(stages, tuple(Exit(n, Slice(e)) for e, n in enumerate("abc")))
    learned = np.concatenate([sure, np.zeros_like(sure[:1])])
    x = np.concatenate([logits, learned[..., None]], -1).swapaxes(0, 1)
    return net, Variables({n: {} for n in net.parts}, {n: {} for n in net.parts}), x


def between(score: np.ndarray) -> tuple[float, ...]:
    """A threshold for each exit, in the widest gap of the scores near the middle.

    What differs in last bits between two programs then leaves alike.
    """
    found = []
    for row in score[:-1]:
        ranked = np.unique(row.astype(np.float64))
        ranked = np.append(ranked, ranked[-1] + 1) if len(ranked) == 1 else ranked
        middle = ranked[int(0.3 * len(ranked)) : int(0.8 * len(ranked)) + 2]
        at = np.diff(middle).argmax()
        found.append(float(middle[at] + middle[at + 1]) / 2)
    return tuple(found)


def scoring(name: str, **more) -> Scoring:
    return Scoring(name, weights=WEIGHTS.get(name, ()), **more)


def policies_of(logits: np.ndarray, confidence: np.ndarray) -> dict[str, Policy]:
    """One of each kind that is registered, and one of each score."""
    found: dict[str, Policy] = {}
    for name in SCORES:
        given = scoring(name)
        found[f"threshold of {name}"] = Threshold(
            between(given(logits, confidence)), given
        )
    warm = scoring("entropy", temperatures=(0.5, 2.0, 3.0, 1.0))
    thresholds = between(warm(logits))
    by_class = [tuple(t + 9 * (k == 1) for k in range(K)) for t in thresholds]
    kinds = {
        "threshold": Threshold(thresholds, warm),
        "per_class": PerClass(tuple(by_class), warm),
        "top_fraction": TopFraction((0.4, 0.3, 0.2, 0.1), warm),
        "anytime": Anytime(46.5),
    }
    for name, kind in POLICIES.items():
        each = [kinds[name]] if name in kinds else kind.candidates(EXITS)
        # Of the candidates the one that sends examples to most exits.
        found[name] = max(
            each, key=lambda p: len(np.unique(p(logits, COST, confidence)))
        )
    return found


NAMES = [f"threshold of {name}" for name in SCORES]
NAMES = [*NAMES, *POLICIES]


@pytest.mark.parametrize("name", NAMES)
def test_device_executors_and_trace_leave_alike(recorded, replay, name, tmp_path):
    images, logits, sure, models, codec = recorded
    confidence = np.ones((EXITS, IMAGES))
    confidence[:-1] = np.asarray(jax.nn.sigmoid(sure))
    policy = policies_of(logits, confidence)[name]
    expected = policy(logits, COST, confidence)
    assert name == "anytime" or len(np.unique(expected)) > 1
    net, variables, x = replay
    few = partial(EXECUTORS["bucketed"], buckets=2)  # fewer programs to compile
    executors = {**EXECUTORS, "bucketed": few}
    del executors["cond"]  # of one example: tests/exits/test_executors.py
    if policy.shares_of(EXITS, COST) is None:
        del executors["capacity"]
    for word, make in executors.items():
        found = make(net, variables, policy, cost=COST)(x).exits
        np.testing.assert_array_equal(found, expected, err_msg=word)
    if policy.ranks:  # a device has one image
        return
    names = ("exit@a", "exit@b", "exit@c", "final")
    bundle.write(
        tmp_path / "b", models, codec, model="m", split=0, policy=policy, exits=names,
        cost=COST, labels=(), facts={"input": [8, 8, 1]},
    )  # fmt: skip
    reply = Reply({"prediction": np.array(0)})
    device = Device(bundle.read(tmp_path / "b"), lambda *_: reply, deadline_s=60)
    found = [device.infer(image) for image in images]
    order = {"exit@a": 0, "exit@b": 1, "exit@c": 2, "edge": 3}
    assert [order[answer.exit] for answer in found] == expected.tolist()
    early = expected < EXITS - 1
    answers = logits.argmax(-1)[expected, np.arange(IMAGES)]
    own = np.array([answer.prediction for answer in found])
    np.testing.assert_array_equal(own[early], answers[early])
