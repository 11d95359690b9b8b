"""Joules of an answer: by a stated model of power, and by a meter where there is one.

The two never mix: `device_j` computes from watts that its caller states, `measure_j`
only reads. Two meters of Linux: RAPL's counters (/sys/class/powercap, often for root
alone; https://docs.kernel.org/power/powercap/powercap.html) and a battery that is
discharging (/sys/class/power_supply; its driver renews it seldom, so measure for a
minute). Both see the whole package or device, other programs included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, send_s

ROOT = Path("/sys/class")
NONE = "not exposed by this machine"


def device_j(
    link: Link,
    *,
    compute_s: float,
    compute_w: float,
    sent_bytes: float = 0.0,
    edge_s: float = 0.0,
) -> float:
    """Joules that a device spends on one answer, by constant power in each state.

    It computes for `compute_s` at `compute_w`, sends at the link's transmit_w, and
    waits at its idle_w for the round trip and the edge's `edge_s`. sent_bytes: 0
    answers on the device, so that the radio costs nothing and its watts may be
    unknown. UsageError where they are needed and not known.
    """
    computed_j = compute_s * compute_w
    if not sent_bytes:
        return computed_j
    if link.transmit_w is None or link.idle_w is None:
        raise UsageError(
            "the link's power is not known: give transmit_w and idle_w, as in "
            "dataclasses.replace(link, transmit_w=1.0, idle_w=0.1)"
        )
    waited_s = link.rtt_s + edge_s
    return (
        computed_j + send_s(link, sent_bytes) * link.transmit_w + waited_s * link.idle_w
    )


@dataclass(frozen=True)
class Meter:
    """read: joules since some moment, or watts at this one."""

    name: str
    counts: bool  # joules; else watts
    read: Callable[[], float]


def find_meter(root: Path = ROOT) -> Meter | None:
    """The first meter that can be read now: RAPL, then a discharging battery."""
    counters = [
        path
        for path in sorted(root.glob("powercap/intel-rapl:*"))
        if path.name.count(":") == 1  # a package; two colons are parts of one
        and _text(path / "name") != "psys"  # counts the packages once more
        and _text(path / "energy_uj").isdigit()
    ]
    if counters:
        return Meter("rapl", True, _rapl(counters))
    for path in sorted(root.glob("power_supply/*")):
        if (
            _text(path / "type") == "Battery"
            and _text(path / "status") == "Discharging"
        ):
            direct = _text(path / "power_now")
            pair = _text(path / "current_now") and _text(path / "voltage_now")
            if direct or pair:
                return Meter(f"battery {path.name}", False, partial(_watts, path))
    return None


def measure_j(meter: Meter, work: Callable[[], object], seconds: float) -> dict:
    """Runs `work` for so many seconds, after as long a rest with nothing to do.

    j_per_inference includes what the machine draws at rest; idle_w is that draw alone.
    """
    # The rest first: after the work a battery's driver would still show its watts.
    rest = lambda: time.sleep(min(seconds, 0.1))  # noqa: E731
    idle_j, idle_s, _ = _window(meter, rest, seconds)
    spent_j, spent_s, count = _window(meter, work, seconds)
    return {
        "meter": meter.name,
        "j_per_inference": spent_j / count,
        "idle_w": idle_j / idle_s,
        "inferences": count,
        "seconds": spent_s,
    }


def stage_joules(
    meter: Meter, calls: Mapping[str, Callable[[], object]], seconds: float
) -> tuple[dict[str, float], float]:
    """(joules of one call of each, watts at rest), each call repeated for `seconds`.

    Of all that the meter sees, what it draws at rest too.
    """
    rest = lambda: time.sleep(min(seconds, 0.1))  # noqa: E731
    idle_j, idle_s, _ = _window(meter, rest, seconds)
    found = {}
    for name, call in calls.items():
        call()  # the first one opens files
        meter.read()  # counters that start again must not do so twice unseen
        spent_j, _, count = _window(meter, call, seconds)
        found[name] = spent_j / count
    return found, idle_j / idle_s


def _window(meter: Meter, work: Callable[[], object], seconds: float):
    """(joules, seconds, calls)."""
    begun, before, count, watts = time.perf_counter(), meter.read(), 0, []
    while not count or time.perf_counter() - begun < seconds:
        work()
        count += 1
        if not meter.counts:
            watts.append(meter.read())
    spent = time.perf_counter() - begun
    if meter.counts:
        return meter.read() - before, spent, count
    return spent * sum(watts) / len(watts), spent, count


def _rapl(counters: list[Path]) -> Callable[[], float]:
    """Sums counters that start again at max_energy_range_uj."""
    last = [_count(path / "energy_uj") for path in counters]
    limits = [_count(path / "max_energy_range_uj") for path in counters]
    total = 0

    def read() -> float:
        nonlocal total
        for i, path in enumerate(counters):
            now = _count(path / "energy_uj")
            total += now - last[i] + (limits[i] if now < last[i] else 0)
            last[i] = now
        return 1e-6 * total

    return read


def _count(path: Path) -> int:
    """UsageError where a counter has gone or is none."""
    if not (text := _text(path)).isdigit():
        raise UsageError(f"{path} holds no count of microjoules: measure without it")
    return int(text)


def _watts(path: Path) -> float:
    """Signs differ between drivers; current and voltage come in micro-units."""
    if direct := _text(path / "power_now"):
        return abs(1e-6 * int(direct))
    return abs(
        1e-12 * int(_text(path / "current_now")) * int(_text(path / "voltage_now"))
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
