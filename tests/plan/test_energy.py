"""A stated model of power, and Linux's meters from folders like /sys/class."""

import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import energy
from sc_jax.plan.link import Link


def write(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def test_no_meter_is_none(tmp_path):
    assert energy.find_meter(tmp_path) is None
    charging = {"type": "Battery", "status": "Charging", "power_now": 3_000_000}
    write(tmp_path / "power_supply/BAT0", **charging)
    write(tmp_path / "power_supply/AC", type="Mains", online=1)
    assert energy.find_meter(tmp_path) is None


def test_rapl_sums_packages_and_starts_again(tmp_path):
    power = tmp_path / "powercap"
    one = write(power / "intel-rapl:0", name="package-0", energy_uj=900)
    two = write(power / "intel-rapl:1", name="package-1", energy_uj=0)
    for folder in (one, two):
        (folder / "max_energy_range_uj").write_text("1000\n")
    write(power / "intel-rapl:2", name="psys", energy_uj=7)
    write(power / "intel-rapl:0:0", name="core", energy_uj=7)
    meter = energy.find_meter(tmp_path)
    assert meter is not None and meter.counts
    assert meter.read() == 0
    (one / "energy_uj").write_text("50\n")  # 100 to the end and 50 after it
    (two / "energy_uj").write_text("300\n")
    assert meter.read() == pytest.approx(450e-6)


def test_joules_of_an_inference_by_a_counter():
    spent = iter([0.0, 2.0, 2.0, 12.0])  # at rest 2 J, at work 10 J
    meter = energy.Meter("rapl", True, lambda: next(spent))
    found = energy.measure_j(meter, lambda: None, seconds=0)
    assert found["j_per_inference"] == 10 and found["inferences"] == 1
    assert found["idle_w"] > 0


def test_a_battery_gives_watts(tmp_path):
    files = {"type": "Battery", "status": "Discharging"}
    files |= {"current_now": -500_000, "voltage_now": 4_000_000}
    write(tmp_path / "power_supply/battery", **files)
    meter = energy.find_meter(tmp_path)
    assert meter is not None and not meter.counts
    assert meter.read() == pytest.approx(2)
    found = energy.measure_j(meter, lambda: None, seconds=0.02)
    joules = found["j_per_inference"] * found["inferences"]
    assert joules == pytest.approx(2 * found["seconds"])
    assert found["idle_w"] == pytest.approx(2)


def test_joules_of_an_answer_by_the_power_of_each_state():
    link = Link(8e3, rtt_s=0.5, transmit_w=3.0, idle_w=0.5)
    local = energy.device_j(link, compute_s=2.0, compute_w=4.0)
    assert local == 8
    # 2 s of computing at 4 W, 1 s of sending 1,000 bytes at 3 W, 0.5 + 0.3 s at 0.5 W
    sent = energy.device_j(
        link, compute_s=2.0, compute_w=4.0, sent_bytes=1e3, edge_s=0.3
    )
    assert sent == pytest.approx(8 + 3 + 0.4)


def test_power_that_nobody_stated_is_no_estimate():
    link = Link(8e3, rtt_s=0.5)
    assert energy.device_j(link, compute_s=1.0, compute_w=2.0) == 2
    with pytest.raises(UsageError, match="transmit_w and idle_w"):
        energy.device_j(link, compute_s=1.0, compute_w=2.0, sent_bytes=1)
