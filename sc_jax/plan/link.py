"""A link between device and edge, presets from LoRaWAN to 5G, and recorded rates."""

from __future__ import annotations

import bisect
import csv
import io
import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from sc_jax import foreign, spec
from sc_jax.errors import UsageError, unknown
from sc_jax.spec import Knob


@dataclass(frozen=True)
class Link:
    """One link as a planner sees it: constant rates, independent losses.

    up_bits_per_s: of application bytes, device to edge; down_bits_per_s: back, None is
    as up. rtt_s: both ways, without the transmission itself. loss: share of what is
    sent that must be sent again. transmit_w, receive_w, idle_w: the device's radio
    while it sends, receives and waits; None: not known. up_j_per_bit, down_j_per_bit,
    base_w: the same by the rate, as `transmit_power_w` says. note: what it is, for a
    list.
    """

    up_bits_per_s: float
    rtt_s: float
    loss: float = 0.0
    transmit_w: float | None = None
    idle_w: float | None = None
    note: str = ""
    down_bits_per_s: float | None = None
    receive_w: float | None = None
    up_j_per_bit: float | None = None
    down_j_per_bit: float | None = None
    base_w: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.up_bits_per_s < math.inf:
            raise UsageError(f"up_bits_per_s is above 0, not {self.up_bits_per_s}")
        down = self.down_bits_per_s
        if down is not None and not 0 < down < math.inf:
            raise UsageError(f"down_bits_per_s is above 0, not {down}")
        if not 0 <= self.rtt_s < math.inf:
            raise UsageError(f"rtt_s is 0 or more, not {self.rtt_s}")
        if not 0 <= self.loss < 1:
            raise UsageError(f"loss is a share in 0..1, 1 excluded, not {self.loss}")
        for name in POWERS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} is 0 or more, not {value}")


POWERS = (
    "transmit_w", "receive_w", "idle_w", "up_j_per_bit", "down_j_per_bit", "base_w",
)  # fmt: skip


def send_s(link: Link, sent_bytes: float) -> float:
    """Seconds on the air; each loss is sent again: 1 / (1 - loss) times on average."""
    if not sent_bytes >= 0:
        raise UsageError(f"sent_bytes is 0 or more, not {sent_bytes}")
    return 8 * sent_bytes / (link.up_bits_per_s * (1 - link.loss))


def receive_s(link: Link, reply_bytes: float) -> float:
    """Seconds on the air from edge to device, as `send_s`."""
    if not reply_bytes >= 0:
        raise UsageError(f"reply_bytes is 0 or more, not {reply_bytes}")
    down = link.down_bits_per_s or link.up_bits_per_s
    return 8 * reply_bytes / (down * (1 - link.loss))


def latency_s(link: Link, sent_bytes: float, reply_bytes: float = 0.0) -> float:
    """Seconds from the first byte sent to the answer, without any computing."""
    return send_s(link, sent_bytes) + link.rtt_s + receive_s(link, reply_bytes)


def transmit_power_w(link: Link) -> float | None:
    """The radio's watts while it sends: transmit_w, or alpha x throughput + beta.

    The line is that of Huang et al. (2012, A close examination of performance and
    power characteristics of 4G LTE networks, https://doi.org/10.1145/2307636.2307658),
    which JointDNN takes: up_j_per_bit is alpha, base_w beta. None: not known.
    """
    if link.transmit_w is not None:
        return link.transmit_w
    if link.up_j_per_bit is None or link.base_w is None:
        return None
    return link.up_j_per_bit * link.up_bits_per_s + link.base_w


def receive_power_w(link: Link) -> float | None:
    """The radio's watts while it receives, as `transmit_power_w`."""
    if link.receive_w is not None:
        return link.receive_w
    if link.down_j_per_bit is None or link.base_w is None:
        return None
    down = link.down_bits_per_s or link.up_bits_per_s
    return link.down_j_per_bit * down + link.base_w


# Rates. LoRaWAN: 37.5 kbit/s is its maximum (Adelantado et al. 2017,
# https://doi.org/10.1109/MCOM.2017.1600613, as cited by Matsubara et al. 2022,
# https://arxiv.org/abs/2103.04505); duty cycle and the limit of a few hundred bytes a
# message are not modelled, so this flatters it. 3G, LTE, Wi-Fi: mean uplinks of Hu et
# al. 2019 (Dynamic adaptive DNN surgery, https://doi.org/10.1109/INFOCOM.2019.8737614),
# which much later work reuses.
# Round trips. LoRaWAN: a class A device listens 1 s after it has sent (RECEIVE_DELAY1
# of the LoRaWAN regional parameters). Those of ASSUMED_RTT are ASSUMPTIONS of the usual
# order for an edge server near the base station or access point, from no source.
# NB-IoT: peak rates of category NB1 and the least of its latencies, 1.6 to 10 s
# (https://blog.mbedded.ninja/electronics/communication-protocols/cellular). 5G: mean
# rates of 2,536 engineers' tests in 51 countries, March to May 2022 (Cellsmart,
# https://capacitymedia.com/article/2a3r5onp5s04e9cuan5z5/news/survey-says-5g-lagging-in-upload-speeds).
# The radios' power could be read in no source at hand: left None.
LINKS = {
    "LoRaWAN": Link(
        37.5e3, rtt_s=1.0, note="37.5 kbit/s up, 1 s round trip; duty cycle left out"
    ),
    "NB-IoT": Link(
        62e3, rtt_s=1.6, down_bits_per_s=26e3,
        note="0.062 Mbit/s up, 26 kbit/s down at best, 1.6 s round trip at best",
    ),
    "3G": Link(1.1e6, rtt_s=0.1, note="1.1 Mbit/s up, 100 ms round trip (assumed)"),
    "LTE": Link(5.85e6, rtt_s=0.05, note="5.85 Mbit/s up, 50 ms round trip (assumed)"),
    "Wi-Fi": Link(
        18.88e6, rtt_s=0.005, note="18.88 Mbit/s up, 5 ms round trip (assumed)"
    ),
    "5G": Link(
        31.27e6, rtt_s=0.02, down_bits_per_s=241.61e6,
        note="31.27 Mbit/s up, 241.61 down, 20 ms round trip (assumed)",
    ),
}  # fmt: skip
ASSUMED_RTT = ("3G", "LTE", "Wi-Fi", "5G")


def custom(
    *,
    up: Annotated[float, Knob("bits a second up", above=0)],
    rtt: Annotated[float, Knob("seconds of a round trip", at_least=0)],
    down: Annotated[float | None, Knob("bits a second down", above=0)] = None,
    loss: Annotated[float, Knob("share sent again", at_least=0, below=1)] = 0.0,
    transmit_w: Annotated[float | None, Knob("watts sending", at_least=0)] = None,
    receive_w: Annotated[float | None, Knob("watts receiving", at_least=0)] = None,
    idle_w: Annotated[float | None, Knob("watts waiting", at_least=0)] = None,
) -> Link:
    """A link by its figures."""
    return Link(
        up, rtt, loss, transmit_w, idle_w,
        down_bits_per_s=down, receive_w=receive_w,
    )  # fmt: skip


SHORT = {"up": "up_bits_per_s", "down": "down_bits_per_s", "rtt": "rtt_s"}


def parse(text: str) -> Link:
    """ "lte", "wifi:rtt=0.01" or "up=2e6,rtt=0.03" -> Link; case and hyphens are free.

    Knobs, those of `custom`, replace what a preset has.
    """
    named = "=" not in text.partition(":")[0]
    name, knobs = spec.parse(text if named else f"custom:{text}", "link")
    known = spec.knobs_of(custom)
    if not named:
        spec.check("a link", known, knobs)
        return custom(**knobs)
    plain = {_plain(preset): preset for preset in LINKS}
    if _plain(name) not in plain:
        raise unknown("link", name, LINKS)
    for knob, value in knobs.items():
        if knob not in known:
            raise unknown(f"knob of link {name}", knob, known)
        spec.check_value(f"link {name}", known[knob], value)
    changed: dict[str, Any] = {SHORT.get(k, k): v for k, v in knobs.items()}
    if changed:
        changed["note"] = text
    return replace(LINKS[plain[_plain(name)]], **changed)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


@dataclass(frozen=True)
class Trace:
    """Rates of one link over time, each until the next: f[T] each, times rising from 0.

    down_bits_per_s: () is as up.
    """

    times_s: tuple[float, ...]
    up_bits_per_s: tuple[float, ...]
    down_bits_per_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rates = (*self.up_bits_per_s, *self.down_bits_per_s)
        for value in (*self.times_s, *rates):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"a link's trace holds numbers, not {value!r}")
        rising = all(a < b for a, b in itertools.pairwise(self.times_s))
        if not self.times_s or self.times_s[0] != 0 or not rising:
            raise UsageError("times_s of a link's trace rise from 0")
        if not math.isfinite(self.times_s[-1]):
            raise UsageError("times_s of a link's trace are finite")
        if not all(0 < rate < math.inf for rate in rates):
            raise UsageError("rates of a link's trace are finite and above 0")
        for name in ("up_bits_per_s", "down_bits_per_s"):
            count = len(getattr(self, name))
            if count != len(self.times_s) and (count or name == "up_bits_per_s"):
                raise UsageError(f"{count} {name} for {len(self.times_s)} times_s")


def at(trace: Trace, link: Link, time_s: float) -> Link:
    """The link with the trace's rates at that time; the last rate holds on."""
    if not time_s >= 0:
        raise UsageError(f"time_s is 0 or more, not {time_s}")
    i = bisect.bisect_right(trace.times_s, time_s) - 1
    down = trace.down_bits_per_s[i] if trace.down_bits_per_s else None
    return replace(link, up_bits_per_s=trace.up_bits_per_s[i], down_bits_per_s=down)


TRACE_BYTES = 1 << 26
COLUMNS = ("times_s", "up_bits_per_s", "down_bits_per_s")


def read_trace(path: str | Path) -> Trace:
    """Of JSON with lists by the names of `Trace`, or of CSV with these as its heads."""
    with foreign.reading(path, "trace of a link"):
        text = foreign.read_bytes(path, TRACE_BYTES).decode()
        if str(path).endswith(".csv"):
            head, *rows = csv.reader(io.StringIO(text), strict=True)
            rows = [[float(word) for word in row] for row in rows if row]
            if any(len(row) != len(head) for row in rows):
                raise UsageError(f"{path}: a row has not the {len(head)} columns")
            columns = {
                name.strip(): [row[i] for row in rows] for i, name in enumerate(head)
            }
        else:
            columns = json.loads(text)
        if not isinstance(columns, dict):
            raise UsageError(f"{path} is a JSON object of lists")
        for name in columns:
            if name not in COLUMNS:
                raise unknown(f"column of {path}", name, COLUMNS)
        return Trace(**{name: tuple(values) for name, values in columns.items()})
