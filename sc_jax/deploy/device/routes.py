"""Which bundle follows which plan: its network, its cut, its codec and rate."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sc_jax.codec import codecs
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.runtime import EXIT
from sc_jax.errors import UsageError
from sc_jax.exits import policies
from sc_jax.exits.policies import Policy, Threshold
from sc_jax.exits.scores import MAX_PROBABILITY, Scoring
from sc_jax.plan.plan import Plan

ALWAYS = -sys.float_info.max  # any score reaches it
NEVER = sys.float_info.max


@dataclass(frozen=True)
class Route:
    """A plan and what follows it.

    bundle: with the plan's exit and threshold as its policy, or else its own. level: of
    the codec's rates, None: it has one.
    """

    plan: Plan
    bundle: Bundle
    level: int | None


def offers(installed: Bundle) -> dict[str, int | None]:
    """(cut as a plan names it, or "local") -> level, of all that a bundle runs."""
    codec = installed.codec
    if codec is None:
        return {"local": None}
    after, count = installed.manifest["facts"]["cut"], codecs.levels_of(codec)
    if count == 1:
        return {f"{after}/{codec.kind}": None}
    return {f"{after}/level={level}": level for level in range(count)}


def routes(plan: Plan, bundles: Mapping[str, Bundle]) -> tuple[Route, ...]:
    """What the bundles, by their paths, can follow of a plan's alternatives.

    The plan itself comes first. UsageError where no bundle follows it, where two do,
    and for a plan or bundle of an older version, which does not say what it takes.
    """
    if plan.link is None or not plan.alternatives:
        raise UsageError(
            "the plan names no link and no alternatives: it was written by "
            "sc_jax.plan.plan.write or an older version; make it with launch.plan --out"
        )
    _check_bundles(bundles)
    found = []
    for each in plan.alternatives:
        fits = [(path, r) for path, b in bundles.items() if (r := route(each, b))]
        if len(fits) > 1:
            paths = " and ".join(path for path, _ in fits)
            raise UsageError(f"{paths} both are {each.network}: {each.name}; give one")
        found += [route for _, route in fits]
    first = plan.alternatives[0]
    if not found or found[0].plan is not first:
        offered = "; ".join(
            f"{path} is {_network(b)}: {', '.join(_words(b))}"
            for path, b in bundles.items()
        )
        raise UsageError(
            f"no bundle follows the plan, {first.network}: {first.name}; {offered}"
        )
    return tuple(found)


def _words(installed: Bundle) -> list[str]:
    named = [n if n == "local" else f"cut {n}" for n in offers(installed)]
    return named + [f"exit {name}" for name in _exits(installed)]


def _network(installed: Bundle) -> str:
    return installed.manifest["facts"]["network"]


def _exits(installed: Bundle) -> list[str]:
    """Stages of the exits that its policy decides about."""
    return [name.removeprefix(EXIT) for name in installed.manifest["exits"][:-1]]


def _check_bundles(bundles: Mapping[str, Bundle]) -> None:
    first, *_ = bundles.values()
    for path, each in bundles.items():
        if "network" not in each.manifest["facts"]:
            raise UsageError(
                f"{path} is of an older version, which does not name its network: "
                "export it again"
            )
        if each.labels != first.labels:
            raise UsageError(f"{path} has other labels than {next(iter(bundles))}")
        shape = each.manifest["facts"]["input"]
        if shape != first.manifest["facts"]["input"]:
            raise UsageError(
                f"{path} takes images {shape}, {next(iter(bundles))} "
                f"{first.manifest['facts']['input']}"
            )


def route(plan: Plan, installed: Bundle) -> Route | None:
    """How the bundle follows the plan; None: it does not."""
    known = offers(installed)
    names = [cut.name for cut in plan.cuts] or ["local"]
    if plan.network != _network(installed) or len(names) > 1 or names[0] not in known:
        return None
    leaving = _leaving(plan, installed)
    return leaving and Route(plan, leaving, known[names[0]])


def _leaving(plan: Plan, installed: Bundle) -> Bundle | None:
    """The bundle with the plan's exit and threshold; None: it has no such exits."""
    if plan.exit is None and plan.threshold is None:
        return installed
    exits, policy = _exits(installed), installed.policy
    if not exits and plan.exit is None and _always_sent(plan):
        return installed  # its exits are behind the cut: the server's
    scoring = _scoring(plan, policy)
    absent = plan.exit is not None and plan.exit not in exits
    if not exits or absent or scoring is None:
        return None
    threshold = ALWAYS if plan.threshold is None else plan.threshold
    own = Threshold(
        tuple(threshold if plan.exit in (None, name) else NEVER for name in exits),
        scoring,
    )
    fields = json.loads(policies.to_json(own))
    return replace(installed, manifest=installed.manifest | {"policy": fields})


def _scoring(plan: Plan, policy: Policy | None) -> Scoring | None:
    """What the plan's threshold is of; None: the bundle does not compute it.

    Recorded is the largest probability, of logits as they are: a temperature or another
    score of the bundle's own would let others leave than were planned for.
    """
    score = plan.certified.score if plan.certified else MAX_PROBABILITY.score
    if plan.threshold is None or score == MAX_PROBABILITY.score:
        return MAX_PROBABILITY
    scoring = getattr(policy, "scoring", MAX_PROBABILITY)
    return scoring if scoring.score == score else None


def _always_sent(plan: Plan) -> bool:
    return bool(plan.cuts) and plan.sent_bytes >= plan.cuts[0].sent_bytes
