"""Which exit and which cut under a deadline, after Edgent and Boomerang.

Li, Zhou and Chen (2018, https://arxiv.org/abs/1806.07840); Zeng et al. (2019,
Boomerang, IEEE Network). From the deepest exit to the first: the fastest cut of that
exit, if it is within the bounds. Reconstruction: their search is known from abstracts;
the learned variant of Boomerang is left out.
"""

from __future__ import annotations

from sc_jax.plan.link import Link
from sc_jax.plan.partition.choice import choose
from sc_jax.plan.partition.options import Load, joined, splits
from sc_jax.plan.plan import NO_BOUNDS, Bounds, Plan
from sc_jax.plan.profile import Profile


def edgent(
    profile: Profile, link: Link, bounds: Bounds = NO_BOUNDS, *, load: Load = 1.0
) -> Plan:
    """The deepest exit that fits, at its fastest cut (Edgent 2018, Boomerang 2019).

    A deeper exit is taken to answer better. Every input leaves at the one exit, whose
    classifier alone is computed.
    """
    endings = (*profile.exits, None)
    options = joined([splits(profile, link, load=load, ending=e) for e in endings])
    keys = [-options.end, options.latency_s]
    return choose("edgent", options, bounds, "deepest exit, then latency_s", keys)
