"""Where to compute, and what it costs: links, energy, operations, exits. No jax.

NumPy at most, so that a device can plan with what it runs on.
"""

from sc_jax.plan.break_even import answer_s, break_even_bytes
from sc_jax.plan.channel import ChannelTable, place
from sc_jax.plan.energy import Meter, device_j, find_meter, measure_j
from sc_jax.plan.link import LINKS, Link, latency_s, send_s
from sc_jax.plan.op_cost import OperationCost, operation_costs
from sc_jax.plan.op_profile import OperationTime, profile
from sc_jax.plan.placement import (
    Candidates,
    dynamic_programme,
    equal_macs,
    every,
    expected,
    explicit,
    shares,
)
from sc_jax.plan.transferred_bytes import device_bytes

# What chooses where to compute, by name: exits of a network, or a device's depth.
PLANNERS = {
    "channel": place,
    "dynamic_programme": dynamic_programme,
    "equal_macs": equal_macs,
    "every": every,
    "explicit": explicit,
    "shares": shares,
}

__all__ = [
    "LINKS",
    "PLANNERS",
    "Candidates",
    "ChannelTable",
    "Link",
    "Meter",
    "OperationCost",
    "OperationTime",
    "answer_s",
    "break_even_bytes",
    "device_bytes",
    "device_j",
    "dynamic_programme",
    "equal_macs",
    "every",
    "expected",
    "explicit",
    "find_meter",
    "latency_s",
    "measure_j",
    "operation_costs",
    "place",
    "profile",
    "send_s",
    "shares",
]
