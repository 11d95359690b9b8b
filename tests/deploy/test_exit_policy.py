"""What a bundle says of exits: a spec solved on validation, numbers, or nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

from sc_jax.compressors import Raw
from sc_jax.deploy.export import exit_policy
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Threshold
from sc_jax.nets.net import Net, SplitPoint, Stage
from sc_jax.tasks import classification, multilabel

NAMES, COST = ("exit@a", "final"), (1.0, 9.0)


@pytest.fixture
def recipe(monkeypatch):
    """One exit before the split and one behind it, which no device knows."""
    monkeypatch.setattr(exit_policy.run_folder, "example_of", lambda *_: None)
    outline = (np.array([1.0, 3.0, 9.0]), 4, False)
    monkeypatch.setattr(exit_policy.record, "outline", lambda *_: outline)
    stages = tuple(Stage(name, None) for name in "abc")
    exits = tuple(SimpleNamespace(after=n, name=f"exit@{n}") for n in "ab")
    net = Net(stages, exits, (SplitPoint("a", Raw()),))
    return SimpleNamespace(net=net, task=classification)


def test_exits_are_those_of_the_device_and_the_last(recipe):
    spec = "threshold:score=entropy,budget=0.5"
    for given in ({}, {"spec": spec}):  # a spec is solved when there are segments
        assert exit_policy.carried(recipe, None, **given) == (None, NAMES, COST)
    found = exit_policy.carried(recipe, None, thresholds=(0.7,))
    assert found == (Threshold((0.7,)), NAMES, COST)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"spec": "threshold", "thresholds": (0.5,)}, "--policy or --thresholds"),
        ({"spec": "top_fraction:budget=0.5"}, "ranks a batch.*threshold:shares"),
        ({"spec": "treshold"}, "did you mean 'threshold'"),
        ({"spec": "patience"}, "this net has 1: a threshold serves one"),
        ({"spec": "threshold:budget=0.01"}, "the first costs"),
        ({"spec": "threshold:score=confidence"}, "never learnt"),
        ({"thresholds": (0.5, 0.5)}, "2 thresholds for 1 exits of the head: exit@a"),
    ],
)
def test_what_a_device_cannot_do_is_one_line(recipe, given, line):
    with pytest.raises(UsageError, match=line):
        exit_policy.carried(recipe, None, **given)


def test_a_task_whose_scores_no_device_knows_is_refused_before_converting(recipe):
    made = SimpleNamespace(net=recipe.net, task=replace(multilabel, name="ranking"))
    for given in ({"spec": "threshold"}, {"thresholds": (0.5,)}):
        with pytest.raises(UsageError, match="not of 'ranking'"):
            exit_policy.carried(made, None, **given)
    assert exit_policy.carried(made, None).policy is None
