"""Exit policies by name, as frozen data: a line of JSON that a device carries.

A policy of one's own: a file with a `Policy` beside these and a row in POLICIES, or
FILE.py:name in a policy's spec, for traces and executors; a device needs the row.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from sc_jax import plugins
from sc_jax.errors import UsageError
from sc_jax.exits.policies.anytime import Anytime
from sc_jax.exits.policies.patience import Patience
from sc_jax.exits.policies.policy import Policy
from sc_jax.exits.policies.threshold import PerClass, Threshold
from sc_jax.exits.policies.top_fraction import TopFraction
from sc_jax.exits.policies.voting import Voting
from sc_jax.exits.scores import Scoring

__all__ = [
    "POLICIES",
    "Anytime",
    "Patience",
    "PerClass",
    "Policy",
    "Threshold",
    "TopFraction",
    "Voting",
    "find",
    "from_json",
    "to_json",
]

POLICIES: dict[str, type[Policy]] = {
    "threshold": Threshold,
    "per_class": PerClass,
    "top_fraction": TopFraction,
    "patience": Patience,
    "anytime": Anytime,
    "voting": Voting,
}


def find(name: str) -> type[Policy]:
    """A registered policy, or that of FILE.py:name; UsageError lists the known."""

    def able(found: Any) -> bool:
        return isinstance(found, type) and issubclass(found, Policy)

    return plugins.find("policy", name, POLICIES, able)


def to_json(policy: Policy) -> str:
    """The policy as one line of JSON; every float comes back as the same float."""
    name = plugins.text_of(type(policy), POLICIES)
    fields = {"policy": name, **dataclasses.asdict(policy)}  # pyright: ignore
    return json.dumps(fields, allow_nan=False)


def from_json(text: str) -> Policy:
    """The policy that `to_json` wrote; UsageError for a policy or score of a file."""
    try:
        fields = json.loads(text, object_hook=_tuples)
        name = fields.pop("policy")
        scoring = fields.get("scoring")
        # Before either is looked up: a bundle may come from anyone, and opening the
        # file that it names would run code.
        for named in (name, *([scoring["score"]] if scoring else ())):
            if plugins.is_file(named):
                raise UsageError(f"bundles carry no code: register what {named} holds")
        kind = find(name)
        if scoring:
            fields["scoring"] = Scoring(**scoring)
        return kind(**fields)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not a policy in JSON: {error}") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    # JSON has lists; frozen policies hold tuples, which hash and compare.
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
