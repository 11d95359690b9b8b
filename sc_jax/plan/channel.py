"""How deep a device goes by the state of its channel, after Lo et al. (2017)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from sc_jax.errors import UsageError


@dataclass(frozen=True)
class ChannelTable:
    """The exit at which the device stops, by the rate that its channel has just now.

    Lo et al. call it a dynamic network structure: with a good channel the device
    computes little before it sends, with a bad one more, without any all of it.
    Reconstruction: their table could not be read.

    rates_bits_per_s: [R], rising. places: [R + 1], names of exits or stages, the first
    for rates under all of them.
    """

    rates_bits_per_s: tuple[float, ...]
    places: tuple[str, ...]

    def __post_init__(self) -> None:
        bounds = (0.0, *self.rates_bits_per_s, math.inf)
        if not all(a < b for a, b in itertools.pairwise(bounds)):
            raise UsageError(
                f"rates_bits_per_s rise from above 0, not {self.rates_bits_per_s}"
            )
        if len(self.places) != len(self.rates_bits_per_s) + 1:
            raise UsageError(
                f"{len(self.rates_bits_per_s)} rates part {len(bounds) - 1} states of "
                f"the channel, not {len(self.places)} places"
            )


def place(table: ChannelTable, up_bits_per_s: float) -> str:
    """The exit at which a device stops and sends, by its channel's rate; 0: none."""
    if not up_bits_per_s >= 0:
        raise UsageError(f"up_bits_per_s is 0 or more, not {up_bits_per_s}")
    return table.places[sum(up_bits_per_s >= r for r in table.rates_bits_per_s)]
