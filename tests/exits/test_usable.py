"""What serves a net, and what does not, known before it is trained."""

import re

import pytest
from exit_traces import COST

from sc_jax.errors import UsageError
from sc_jax.exits.solve.policy_spec import usable

NAMES = ("a", "b", "c", "final")


def problem(text: str, exits: int = 4) -> str:
    """What is wrong with a policy for a net of so many exits; "" for nothing."""
    try:
        usable(text, NAMES[-exits:], 5, COST[-exits:], False)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "text", ["threshold", "patience", "eenet", "risk", "per_class"]
)
def test_what_serves_a_net_is_known_before_it_is_trained(text):
    assert problem(text) == ""


@pytest.mark.parametrize(
    ("text", "exits", "line"),
    [
        ("treshold", 4, "did you mean 'threshold'"),
        ("threshold:thresholds=(0.5,)", 4, "1 instead of 3"),
        ("patience", 2, "compares 2 exits before the last; this net has 1"),
        ("threshold:score=confidence", 4, "confidence"),
        ("threshold:budget=0.05", 4, "the first costs"),
    ],
)
def test_what_serves_no_such_net_is_refused(text, exits, line):
    assert re.search(line, problem(text, exits))
