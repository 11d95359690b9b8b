"""What a planner answers: where each stage runs, what it predicts, and what was next.

A `Plan` is data and JSON; `Bounds` are what every planner keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sc_jax.errors import UsageError, unknown
from sc_jax.plan import records
from sc_jax.plan.link import Link
from sc_jax.plan.profile import Cut, Profile
from sc_jax.plan.records import number

FORMAT = 1
DEVICE, EDGE, CLOUD = "device", "edge", "cloud"
# Figures that a plan may leave out.
OPTIONAL = ("energy_j", "quality", "memory_bytes", "device_s", "deadline_s")


@dataclass(frozen=True)
class Bounds:
    """What a plan must keep; None is no bound.

    At most: deadline_s of the latency, energy_j of the device, sent_bytes up,
    memory_bytes of the device's stages. At least: quality, in the profile's unit.
    private: stages that run on the device, with all that stand before them.
    """

    deadline_s: float | None = None
    energy_j: float | None = None
    sent_bytes: float | None = None
    memory_bytes: float | None = None
    quality: float | None = None
    private: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "private" and value is not None:
                number(field.name, value, negative=field.name == "quality")


NO_BOUNDS = Bounds()
# The figure of a plan that each bound is about; quality alone is a bound from below.
BOUNDED = {
    "deadline_s": "latency_s",
    "energy_j": "energy_j",
    "sent_bytes": "sent_bytes",
    "memory_bytes": "memory_bytes",
    "quality": "quality",
}


def private_depth(profile: Profile, bounds: Bounds) -> int:
    """How many of the first stages the bounds keep on the device."""
    for name in bounds.private:
        if name not in profile.stages:
            raise unknown("private stage", name, profile.stages)
    return max((profile.stages.index(name) + 1 for name in bounds.private), default=0)


@dataclass(frozen=True)
class Certified:
    """Of a plan: at most `max_risk` of quality lost, with probability 1 - delta.

    Against the whole network, exits and codec together, over inputs drawn as the
    `examples` of the run's `split`; on those it lost `lost`. score: the confidence
    score that the plan's threshold is of.
    """

    max_risk: float
    delta: float
    split: str
    examples: int
    lost: float
    score: str = "max_probability"


@dataclass(frozen=True)
class Plan:
    """Where the stages of one network run, and what that is predicted to take.

    stages, places: those that run, "device", "edge" or, of three tiers, "cloud" each.
    cuts: where is sent, in order; () is local computing. exit: after whose stage the
    answer comes, None: the end. threshold: of the confidence score at every exit.
    latency_s: from the input to the answer. energy_j: of the device; None where a power
    is not stated.
    quality, memory_bytes: None where the profile does not say. binding: the bound that
    refuses what would be better, None where nothing better was refused; slack: what
    the plan leaves of it, in its unit. runner_up: the next best plan within the bounds,
    None: there is no other. certified: what it loses at most, where that was tested.
    device_s: what of latency_s the device computes, its coder included; None: not said.
    link, deadline_s: what it was planned for; alternatives: what a device may change to
    when the link changes, itself first, within all bounds but the deadline. Files of
    older versions have none of these.
    """

    planner: str
    network: str
    objective: str
    stages: tuple[str, ...]
    places: tuple[str, ...]
    cuts: tuple[Cut, ...]
    exit: str | None
    threshold: float | None
    latency_s: float
    energy_j: float | None
    sent_bytes: float
    quality: float | None
    memory_bytes: float | None
    binding: str | None = None
    slack: float | None = None
    runner_up: Plan | None = None
    certified: Certified | None = None
    device_s: float | None = None
    link: Link | None = None
    deadline_s: float | None = None
    alternatives: tuple[Plan, ...] = ()

    def __post_init__(self) -> None:
        if len(self.stages) != len(self.places) or not self.stages:
            raise UsageError(
                f"a plan has {len(self.places)} places for {len(self.stages)} stages"
            )
        for place in self.places:
            if place not in (DEVICE, EDGE, CLOUD):
                raise unknown("place of a stage", place, (DEVICE, EDGE, CLOUD))
        for name in ("latency_s", "sent_bytes", *OPTIONAL):
            value = getattr(self, name)
            if value is not None or name in ("latency_s", "sent_bytes"):
                number(name, value, negative=name == "quality")

    @property
    def cut(self) -> Cut | None:
        """Where the device sends first; None: it computes alone."""
        return self.cuts[0] if self.cuts else None

    @property
    def name(self) -> str:
        """In words: "local", "cut conv2/latent", "cut input/jpeg, exit conv4"."""
        words = ", ".join(f"cut {cut.name}" for cut in self.cuts) or "local"
        words += f", exit {self.exit}" if self.exit else ""
        known = self.threshold is not None
        return words + (f", threshold {self.threshold:g}" if known else "")


def write(path: str | Path, plan: Plan) -> None:
    """One JSON file."""
    records.write(path, "plan", FORMAT, plan)


def read(path: str | Path) -> Plan:
    """The file of `write`; one line for what is unknown, missing or no number."""
    return records.read(path, "plan", FORMAT, _plan)


def _plan(content: Any) -> Plan:
    parts = {
        "cuts": lambda value: records.record(Cut, value, "a cut", {}),
        "link": lambda value: records.record(Link, value, "a link", {}),
        "certified": lambda value: records.record(Certified, value, "a risk", {}),
        "runner_up": _plan,
        "alternatives": _plan,
    }
    return records.record(Plan, content, "a plan", parts)
