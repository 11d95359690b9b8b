"""Every score and policy registered: device, executors and trace leave alike."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from sc_jax.compressors import Raw
from sc_jax.compressors.splits import codecs_of
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.device.device import Device
from sc_jax.deploy.export import exit_policy, proof
from sc_jax.deploy.export.chain import chain, runner
from sc_jax.deploy.export.proof import Exported
from sc_jax.deploy.wire.reply import Reply
from sc_jax.errors import UsageError
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
from sc_jax.exits.solve.solvers import SOLVERS
from sc_jax.nets.exit_classifiers.gated import LearnedConfidence
from sc_jax.nets.layers.blocks import Classifier
from sc_jax.nets.net import Exit, Net, SplitPoint, Stage, cut_at
from sc_jax.nets.run import Variables, init, run
from sc_jax.tasks import classification

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
    """(images, logits f32[4, 1000, K], confidence logits, segments, codec), the net."""
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
    models = {k: s.model for k, s in made.items()}
    return images, logits, sure, models, codec, net, variables


@pytest.fixture(scope="module")
def replay(recorded):
    """A net whose exits answer what was recorded, and its inputs: for executors."""
    _, logits, sure, *_ = recorded
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
    images, logits, sure, models, codec, *_ = recorded
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
        cost=COST, labels=tuple("abcde"), facts={"input": [8, 8, 1]},
    )  # fmt: skip
    reply = Reply({"prediction": np.array(0), "logits": np.zeros(K)})
    device = Device(bundle.read(tmp_path / "b"), lambda *_: reply, deadline_s=60)
    found = [device.infer(image) for image in images]
    order = {"exit@a": 0, "exit@b": 1, "exit@c": 2, "edge": 3}
    assert [order[answer.exit] for answer in found] == expected.tolist()
    early = expected < EXITS - 1
    answers = logits.argmax(-1)[expected, np.arange(IMAGES)]
    own = np.array([answer.prediction for answer in found])
    np.testing.assert_array_equal(own[early], answers[early])


NAMES_OF = ("exit@a", "exit@b", "exit@c", "final")
SPECS = {  # a spec of each solver; of scores those that remember, fit or learn too
    "threshold": (
        "threshold:shares=(0.4,0.3,0.2,0.1)",
        "threshold:score=cumulative,budget=0.6",
        "threshold:score=energy,calibrated=True,budget=0.6",
        "threshold:score=cumulative_confidence,budget=0.6",
    ),
    "per_class": ("per_class:quantile=0.6",),
    "anytime": ("anytime:budget=0.5",),
    "fixed": ("fixed:exit=b",),
    "failure_prediction": ("failure_prediction:budget=0.6",),
    "eenet": ("eenet:budget=0.6,steps=20",),
    "risk": ("risk:epsilon=0.3",),
    "patience": ("patience:patience=1",),
    "voting": ("voting:votes=2",),
}
REFUSED = {"top_fraction": "ranks a batch", "filter": "a filter takes 2 exits"}


@pytest.fixture(scope="module")
def quantised(recorded):
    """The same head in int8: (exported, bundle's models, validation, test)."""
    images, logits, _, _, codec, net, variables = recorded
    labels = logits.argmax(-1)[-1].astype(np.int32)  # the last exit is right
    splits = {"validation": slice(600), "test": slice(600, None)}
    held, test = (
        Dataset("drawn", name, tuple("vwxyz"), images[part], labels[part])
        for name, part in splits.items()
    )
    made = chain(net, variables, codec, images[:64], dtype="int8")
    recipe: Any = SimpleNamespace(net=net, task=classification, name="drawn")
    models = {name: each.model for name, each in made.items()}
    return Exported(recipe, variables, codec, codec, runner(made)), models, held, test


@pytest.mark.parametrize("name", SOLVERS)
def test_a_spec_is_solved_on_what_an_int8_head_answers(
    quantised, name, tmp_path, monkeypatch
):
    """Its shares hold on the device, whose scores are those of its own segments."""
    made, models, held, test = quantised
    monkeypatch.setattr(exit_policy.run_folder, "example_of", lambda *_: held.example())
    if name in REFUSED:
        with pytest.raises(UsageError, match=REFUSED[name]):
            exit_policy.carried(made.recipe, tmp_path, name)
        return
    reply = Reply({"prediction": np.array(0), "logits": np.zeros(K)})
    for spec in SPECS[name]:
        leaving = exit_policy.carried(made.recipe, tmp_path, spec)
        assert leaving.exits == NAMES_OF
        found = exit_policy.solved(spec, made, held, leaving)
        out = tmp_path / spec.replace("/", "")
        bundle.write(
            out, models, made.refitted, model="m", split=0, labels=(),
            facts={"input": [8, 8, 1]},
            **leaving._replace(policy=found.policy)._asdict(),
        )  # fmt: skip
        device = Device(bundle.read(out), lambda *_: reply, deadline_s=60)
        order = {**{n: e for e, n in enumerate(NAMES_OF)}, "edge": EXITS - 1}
        for examples in (held, test):
            trace = exit_policy.trace_of(made, examples, leaving)
            expected = found.policy(trace.answers, trace.cost, trace.confidence)
            answers = [device.infer(image) for image in examples.images]
            assert [order[a.exit] for a in answers] == expected.tolist(), spec
        answered = proof.answered(made, test)
        left = proof.left(classification, answered, found.policy, leaving.cost)
        counts = np.bincount(expected, minlength=EXITS) / len(test)
        assert left.shares == dict(zip(NAMES_OF, counts.tolist()))
        answer = trace.answers.argmax(-1)[expected, np.arange(len(test))]
        assert left.quality == pytest.approx((answer == test.labels).mean())
        assert left.payload_bytes == pytest.approx(
            counts[-1] * answered.payload_bytes.mean()
        )


def test_a_learned_score_is_solved_over_the_exits_of_two_splits(
    recorded, tmp_path, monkeypatch
):
    """Exits a and b of the device and c of the edge, each with a confidence."""
    images, logits, sure, _, _, net, known = recorded
    two = replace(net, splits=(SplitPoint("b", Raw()), SplitPoint("c", Raw())))
    fresh = init(two, jax.random.key(2), images[:1])
    variables = Variables(fresh.params | known.params, fresh.state | known.state)
    codecs = codecs_of(two, variables, images[:1])
    made = chain(two, variables, codecs["split@b"], images[:64])
    recipe: Any = SimpleNamespace(net=two, task=classification, name="drawn")
    one = codecs["split@b"]
    others = {"split@c": codecs["split@c"]}
    exported = Exported(recipe, variables, one, one, runner(made), others)
    labels = logits.argmax(-1)[-1].astype(np.int32)
    held = Dataset("drawn", "validation", tuple("vwxyz"), images[:200], labels[:200])
    monkeypatch.setattr(exit_policy.run_folder, "example_of", lambda *_: held.example())
    spec = "threshold:score=confidence,budget=0.6"
    leaving = exit_policy.carried(recipe, tmp_path, spec)
    assert leaving.exits == NAMES_OF
    trace = exit_policy.trace_of(exported, held, leaving)
    expected = 1 / (1 + np.exp(-sure[:, :200].astype(np.float64)))
    np.testing.assert_allclose(trace.confidence[:-1], expected, atol=1e-4)
    found = exit_policy.solved(spec, exported, held, leaving)
    taken = found.policy(trace.answers, trace.cost, trace.confidence)
    assert {0, 3} < {*taken.tolist()}
    # What remembers the exits before is refused while nothing is converted yet.
    with pytest.raises(UsageError, match="no frame carries that"):
        exit_policy.carried(recipe, tmp_path, "patience:patience=1")


def test_shares_of_an_int8_head_are_those_asked_for(quantised):
    """On the split that they were solved on, but for scores that are equal."""
    made, _, held, _ = quantised
    leaving = exit_policy.Carried(None, NAMES_OF, COST)
    spec = "threshold:score=energy,shares=(0.4,0.3,0.2,0.1)"
    found = exit_policy.solved(spec, made, held, leaving)
    np.testing.assert_allclose(
        found.expected.exit_shares, (0.4, 0.3, 0.2, 0.1), atol=0.05
    )
