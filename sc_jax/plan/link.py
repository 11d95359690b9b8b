"""A link between device and edge, and presets from LoRaWAN to Wi-Fi."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sc_jax.errors import UsageError


@dataclass(frozen=True)
class Link:
    """One link as a planner sees it: constant rate, independent losses.

    up_bits_per_s: of application bytes, device to edge; the answer is a class and
    counts as nothing. rtt_s: both ways, without the transmission itself. loss: share of
    what is sent that must be sent again. transmit_w, idle_w: the device's radio while
    it sends and while it waits; None: not known. note: what it is, for a list.
    """

    up_bits_per_s: float
    rtt_s: float
    loss: float = 0.0
    transmit_w: float | None = None
    idle_w: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.up_bits_per_s < math.inf:
            raise UsageError(f"up_bits_per_s is above 0, not {self.up_bits_per_s}")
        if not 0 <= self.rtt_s < math.inf:
            raise UsageError(f"rtt_s is 0 or more, not {self.rtt_s}")
        if not 0 <= self.loss < 1:
            raise UsageError(f"loss is a share in 0..1, 1 excluded, not {self.loss}")


def send_s(link: Link, sent_bytes: float) -> float:
    """Seconds on the air; each loss is sent again: 1 / (1 - loss) times on average."""
    if not sent_bytes >= 0:
        raise UsageError(f"sent_bytes is 0 or more, not {sent_bytes}")
    return 8 * sent_bytes / (link.up_bits_per_s * (1 - link.loss))


def latency_s(link: Link, sent_bytes: float) -> float:
    """Seconds from the first byte sent to the answer, without any computing."""
    return send_s(link, sent_bytes) + link.rtt_s


# Rates. LoRaWAN: 37.5 kbit/s is its maximum (Adelantado et al. 2017,
# https://doi.org/10.1109/MCOM.2017.1600613, as cited by Matsubara et al. 2022,
# https://arxiv.org/abs/2103.04505); duty cycle and the limit of a few hundred bytes a
# message are not modelled, so this flatters it. 3G, LTE, Wi-Fi: mean uplinks of Hu et
# al. 2019 (Dynamic adaptive DNN surgery, https://doi.org/10.1109/INFOCOM.2019.8737614),
# which much later work reuses.
# Round trips. LoRaWAN: a class A device listens 1 s after it has sent (RECEIVE_DELAY1
# of the LoRaWAN regional parameters). The other three are ASSUMPTIONS of the usual
# order for an edge server near the base station or access point, from no source.
# No source for the radios' power was at hand: left None.
LINKS = {
    "LoRaWAN": Link(
        37.5e3, rtt_s=1.0, note="37.5 kbit/s up, 1 s round trip; duty cycle left out"
    ),
    "3G": Link(1.1e6, rtt_s=0.1, note="1.1 Mbit/s up, 100 ms round trip (assumed)"),
    "LTE": Link(5.85e6, rtt_s=0.05, note="5.85 Mbit/s up, 50 ms round trip (assumed)"),
    "Wi-Fi": Link(
        18.88e6, rtt_s=0.005, note="18.88 Mbit/s up, 5 ms round trip (assumed)"
    ),
}
ASSUMED_RTT = ("3G", "LTE", "Wi-Fi")
