"""The fastest cut that keeps the first stages to the device, after Jeong et al. (2018).

Computation offloading for machine learning web apps in the edge server environment,
https://doi.org/10.1109/ICDCS.2018.00154. The privacy is the constraint itself: stages
whose output would show the input never run elsewhere. What the web app's snapshot
sends, and how long it takes to write, are the cuts' bytes and seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import Load, splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile
from sc_jax.spec import Knob


def jeong(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    first: Annotated[int, Knob("stages that stay on the device", at_least=1)] = 1,
    load: Load = 1.0,
) -> Plan:
    """The fastest cut behind private first stages (Jeong et al. 2018)."""
    if not 1 <= first <= len(profile.stages):
        raise UsageError(
            f"jeong: first is in 1..{len(profile.stages)} stages of {profile.network}, "
            f"not {first}"
        )
    options = splits(profile, link, load=load)
    private = (*bounds.private, *profile.stages[:first])
    within = replace(bounds, private=private)
    return choose("jeong", options, within, "latency_s", [options.latency_s])
