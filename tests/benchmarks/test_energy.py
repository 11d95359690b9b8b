"""Meters of Linux, from folders that look like /sys/class."""

import pytest

from benchmarks.speed import energy


def write(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def test_no_meter_is_none(tmp_path):
    assert energy.find(tmp_path) is None
    charging = {"type": "Battery", "status": "Charging", "power_now": 3_000_000}
    write(tmp_path / "power_supply/BAT0", **charging)
    write(tmp_path / "power_supply/AC", type="Mains", online=1)
    assert energy.find(tmp_path) is None


def test_rapl_sums_packages_and_starts_again(tmp_path):
    power = tmp_path / "powercap"
    one = write(power / "intel-rapl:0", name="package-0", energy_uj=900)
    two = write(power / "intel-rapl:1", name="package-1", energy_uj=0)
    for folder in (one, two):
        (folder / "max_energy_range_uj").write_text("1000\n")
    write(power / "intel-rapl:2", name="psys", energy_uj=7)
    write(power / "intel-rapl:0:0", name="core", energy_uj=7)
    meter = energy.find(tmp_path)
    assert meter is not None and meter.counts
    assert meter.read() == 0
    (one / "energy_uj").write_text("50\n")  # 100 to the end and 50 after it
    (two / "energy_uj").write_text("300\n")
    assert meter.read() == pytest.approx(450e-6)


def test_joules_of_an_inference_by_a_counter():
    spent = iter([0.0, 2.0, 2.0, 12.0])  # at rest 2 J, at work 10 J
    meter = energy.Meter("rapl", True, lambda: next(spent))
    found = energy.measure(meter, lambda: None, seconds=0)
    assert found["j_per_inference"] == 10 and found["inferences"] == 1
    assert found["idle_w"] > 0


def test_a_battery_gives_watts(tmp_path):
    files = {"type": "Battery", "status": "Discharging"}
    files |= {"current_now": -500_000, "voltage_now": 4_000_000}
    write(tmp_path / "power_supply/battery", **files)
    meter = energy.find(tmp_path)
    assert meter is not None and not meter.counts
    assert meter.read() == pytest.approx(2)
    found = energy.measure(meter, lambda: None, seconds=0.02)
    joules = found["j_per_inference"] * found["inferences"]
    assert joules == pytest.approx(2 * found["seconds"])
    assert found["idle_w"] == pytest.approx(2)
