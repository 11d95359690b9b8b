"""The one cut of least latency or energy, after Neurosurgeon (Kang et al. 2017).

Neurosurgeon: collaborative intelligence between the cloud and mobile edge,
https://doi.org/10.1145/3037697.3037698. It predicts a layer's seconds by regression,
here they come from the profile, and it enumerates, as here: S + 1 places, each with
every codec that the profile has there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np

from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import Load, splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile
from sc_jax.spec import Knob


def neurosurgeon(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    objective: Annotated[
        Literal["latency_s", "energy_j", "quality"], Knob("what is best")
    ] = "latency_s",
    load: Load = 1.0,
) -> Plan:
    """One cut of least latency or device energy, by enumeration (Kang et al. 2017).

    load: Neurosurgeon's K, by which a busy server is slower than in the profile.
    quality is this project's: the best answers within the bounds, then the fastest; a
    quality that is not known is the worst.
    """
    options = splits(profile, link, load=load)
    if objective == "quality":
        keys, goal = [-options.quality, options.latency_s], "quality, then latency_s"
        if not np.isnan(options.quality).all():
            keys[0] = np.nan_to_num(keys[0], nan=np.inf)
        return choose("neurosurgeon", options, bounds, goal, keys)
    keys = [getattr(options, objective)]
    return choose("neurosurgeon", options, bounds, objective, keys)
