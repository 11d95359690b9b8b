"""The one cut of least latency or energy, after Neurosurgeon (Kang et al. 2017).

Neurosurgeon: collaborative intelligence between the cloud and mobile edge,
https://doi.org/10.1145/3037697.3037698. It predicts a layer's seconds by regression,
here they come from the profile, and it enumerates, as here: S + 1 places, each with
every codec that the profile has there.
"""

from __future__ import annotations

from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import Load, Objective, splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile


def neurosurgeon(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    objective: Objective = "latency_s",
    load: Load = 1.0,
) -> Plan:
    """One cut of least latency or device energy, by enumeration (Kang et al. 2017).

    load: Neurosurgeon's K, by which a busy server is slower than in the profile.
    """
    options = splits(profile, link, load=load)
    keys = [getattr(options, objective)]
    return choose("neurosurgeon", options, bounds, objective, keys)
