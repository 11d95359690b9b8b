"""Exit policies by name, as frozen data: a line of JSON that a device carries.

A policy of one's own: a file with a `Policy` beside these, and a row in POLICIES.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from sc_jax.errors import UsageError, unknown
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


def to_json(policy: Policy) -> str:
    """The policy as one line of JSON; every float comes back as the same float."""
    name = next(n for n, kind in POLICIES.items() if kind is type(policy))
    fields = {"policy": name, **dataclasses.asdict(policy)}  # pyright: ignore
    return json.dumps(fields, allow_nan=False)


def from_json(text: str) -> Policy:
    """The policy that `to_json` wrote."""
    try:
        fields = json.loads(text, object_hook=_tuples)
        kind = POLICIES.get(name := fields.pop("policy"))
        if kind is None:
            raise unknown("policy", name, POLICIES)
        if "scoring" in fields:
            fields["scoring"] = Scoring(**fields["scoring"])
        return kind(**fields)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not a policy in JSON: {error}") from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
