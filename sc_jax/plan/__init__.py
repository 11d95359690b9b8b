"""Where to compute, and what it costs: links, energy, operations, exits. No jax.

NumPy at most, so that a device can plan with what it runs on.
"""

from sc_jax.plan.break_even import answer_s, break_even_bytes
from sc_jax.plan.channel import ChannelTable, place
from sc_jax.plan.energy import Meter, device_j, find_meter, measure_j
from sc_jax.plan.link import LINKS, Link, latency_s, send_s
from sc_jax.plan.op_cost import OperationCost, operation_costs
from sc_jax.plan.op_profile import OperationTime, time_operations
from sc_jax.plan.partition.crime import crime
from sc_jax.plan.partition.edgent import edgent
from sc_jax.plan.partition.jeong import jeong
from sc_jax.plan.partition.joint import joint
from sc_jax.plan.partition.jointdnn import jointdnn
from sc_jax.plan.partition.li import li
from sc_jax.plan.partition.li_ota_dong import schedule as li_ota_dong
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.partition.spinn import spinn
from sc_jax.plan.partition.three_tiers import three_tiers
from sc_jax.plan.placement import (
    Candidates,
    dynamic_programme,
    equal_macs,
    every,
    expected,
    explicit,
    shares,
)
from sc_jax.plan.plan import Bounds, Plan
from sc_jax.plan.profile import Batch, Cut, ExitCost, Machine, Profile
from sc_jax.plan.recorded import Records
from sc_jax.plan.transferred_bytes import device_bytes

# Planners of a split, (profile, link, bounds, knobs) -> Plan: those of --planner.
PARTITION = {
    "crime": crime,
    "edgent": edgent,
    "jeong": jeong,
    "joint": joint,
    "jointdnn": jointdnn,
    "li": li,
    "neurosurgeon": neurosurgeon,
    "spinn": spinn,
}
# What chooses where to compute, by name: a split, exits of a network, a device's depth.
PLANNERS = PARTITION | {
    "channel": place,
    "dynamic_programme": dynamic_programme,
    "equal_macs": equal_macs,
    "every": every,
    "explicit": explicit,
    "li_ota_dong": li_ota_dong,
    "shares": shares,
}

__all__ = [
    "LINKS",
    "PARTITION",
    "PLANNERS",
    "Batch",
    "Bounds",
    "Candidates",
    "ChannelTable",
    "Cut",
    "ExitCost",
    "Link",
    "Machine",
    "Meter",
    "OperationCost",
    "OperationTime",
    "Plan",
    "Profile",
    "Records",
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
    "send_s",
    "shares",
    "three_tiers",
    "time_operations",
]
