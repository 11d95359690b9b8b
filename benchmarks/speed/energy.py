"""Joules an inference, where the machine has a meter; never an estimate.

Two meters of Linux: RAPL's counters (/sys/class/powercap, often for root alone) and a
battery that is discharging (/sys/class/power_supply; its driver renews it seldom, so
measure for a minute). Both see the whole package or device, other programs included.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path("/sys/class")
NONE = "not exposed by this machine"


@dataclass(frozen=True)
class Meter:
    """read: joules since some moment, or watts at this one."""

    name: str
    counts: bool  # joules; else watts
    read: Callable[[], float]


def find(root: Path = ROOT) -> Meter | None:
    """The first meter that can be read now: RAPL, then a discharging battery."""
    counters = [
        path
        for path in sorted(root.glob("powercap/intel-rapl:*"))
        if path.name.count(":") == 1  # a package; two colons are parts of one
        and _text(path / "name") != "psys"  # counts the packages once more
        and _text(path / "energy_uj")
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


def measure(meter: Meter, work: Callable[[], object], seconds: float) -> dict:
    """`work` in a row for so many seconds, after as long a rest with nothing to do.

    j_per_inference includes what the machine draws at rest: idle_w tells that.
    """
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
    last = [int(_text(path / "energy_uj")) for path in counters]
    limits = [int(_text(path / "max_energy_range_uj") or 0) for path in counters]
    total = 0

    def read() -> float:
        nonlocal total
        for i, path in enumerate(counters):
            now = int(_text(path / "energy_uj"))
            total += now - last[i] + (limits[i] if now < last[i] else 0)
            last[i] = now
        return 1e-6 * total

    return read


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
