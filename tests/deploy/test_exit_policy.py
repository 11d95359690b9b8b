"""What a bundle says of exits: a spec solved on validation, numbers, or nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from sc_jax.compressors import Raw
from sc_jax.deploy.bundle import NEVER
from sc_jax.deploy.export import exit_policy
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Threshold
from sc_jax.exits.solve.policy_spec import policy_from_text
from sc_jax.nets.net import Net, SplitPoint, Stage
from sc_jax.tasks import classification, multilabel
from sc_jax.traces.trace import Trace

NAMES, COST = ("exit@a", "exit@b", "final"), (1.0, 3.0, 9.0)


@pytest.fixture
def recipe(monkeypatch):
    """One exit before the split and one behind it, recorded on validation."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    signal = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1) * np.eye(4)[labels]
    logits = signal + rng.normal(size=(3, 300, 4))
    trace = Trace(logits, labels, COST, "toy", NAMES, "validation")
    recorded = SimpleNamespace(trace=trace)
    monkeypatch.setattr(exit_policy.exit_runs, "recorded", lambda *_: recorded)
    monkeypatch.setattr(exit_policy.run_folder, "dataset_of", lambda *_: None)
    monkeypatch.setattr(exit_policy.run_folder, "example_of", lambda *_: None)
    outline = (np.array(COST), 4, False)
    monkeypatch.setattr(exit_policy.record, "outline", lambda *_: outline)
    stages = tuple(Stage(name, None) for name in "abc")
    exits = tuple(SimpleNamespace(after=n, name=f"exit@{n}") for n in "ab")
    net = Net(stages, exits, (SplitPoint("a", Raw()),))
    return SimpleNamespace(net=net, task=classification), trace


def test_a_spec_is_solved_on_the_recorded_validation_split(recipe):
    made, trace = recipe
    spec = "threshold:score=entropy,budget=0.5"
    found = exit_policy.carried(made, None, spec)
    assert found == (policy_from_text(spec, trace).policy, NAMES, COST)


def test_thresholds_are_of_the_heads_exits_and_no_later_one_leaves(recipe):
    made, _ = recipe
    found = exit_policy.carried(made, None, thresholds=(0.7,))
    assert found == (Threshold((0.7, NEVER)), NAMES, COST)
    assert exit_policy.carried(made, None) == (None, NAMES, COST)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"spec": "threshold", "thresholds": (0.5,)}, "--policy or --thresholds"),
        ({"spec": "top_fraction:budget=0.5"}, "ranks a batch.*threshold:shares"),
        ({"spec": "treshold"}, "did you mean 'threshold'"),
        ({"thresholds": (0.5, 0.5)}, "2 thresholds for 1 exits of the head: exit@a"),
    ],
)
def test_what_a_device_cannot_do_is_one_line(recipe, given, line):
    with pytest.raises(UsageError, match=line):
        exit_policy.carried(recipe[0], None, **given)


def test_a_task_whose_scores_no_device_knows_is_refused_before_converting(recipe):
    made = SimpleNamespace(net=recipe[0].net, task=replace(multilabel, name="ranking"))
    for given in ({"spec": "threshold"}, {"thresholds": (0.5,)}):
        with pytest.raises(UsageError, match="not of 'ranking'"):
            exit_policy.carried(made, None, **given)
    assert exit_policy.carried(made, None).policy is None
