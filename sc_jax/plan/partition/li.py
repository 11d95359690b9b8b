"""The fastest cut that loses little quality, after Li, Liu et al. (2018).

Auto-tuning neural network quantization framework for collaborative inference between
the cloud and edge, https://arxiv.org/abs/1812.06426. Their edge part is int8; here the
qualities of the cuts say what each loses. Reconstruction of the candidate rule.
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


def li(
    profile: Profile,
    link: Link,
    bounds: Bounds = NO_BOUNDS,
    *,
    quality_loss: Annotated[
        float, Knob("quality lost at most, of the whole network's", at_least=0)
    ] = 0.01,
    load: Load = 1.0,
) -> Plan:
    """The fastest cut within a bound on the loss of quality (Li, Liu et al. 2018)."""
    if not quality_loss >= 0:
        raise UsageError(f"quality_loss is 0 or more, not {quality_loss}")
    if profile.quality is None:
        raise UsageError(f"li: the profile of {profile.network} has no quality")
    least = profile.quality - quality_loss
    if bounds.quality is not None:
        least = max(least, bounds.quality)
    options = splits(profile, link, load=load)
    within = replace(bounds, quality=least)
    return choose("li", options, within, "latency_s", [options.latency_s])
