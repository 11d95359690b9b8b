"""A stated model of power, and Linux's meters from folders like /sys/class."""

from dataclasses import replace

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
    (two / "energy_uj").unlink()
    with pytest.raises(UsageError, match="energy_uj holds no count of microjoules"):
        meter.read()
    (one / "energy_uj").write_text("abc\n")
    assert energy.find_meter(tmp_path) is None


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


def counting(tmp_path, limit=1000):
    """(folder of a package's counter that starts again at `limit`, what adds to it)."""
    package = write(tmp_path / "powercap/intel-rapl:0", name="package-0", energy_uj=900)
    (package / "max_energy_range_uj").write_text(f"{limit}\n")

    def spend(microjoules):
        now = int((package / "energy_uj").read_text())
        (package / "energy_uj").write_text(f"{(now + microjoules) % limit}\n")

    return package, spend


def test_joules_of_stages_by_a_counter_that_starts_again(tmp_path):
    """Calls of known joules; their counter wraps many times over."""
    _, spend = counting(tmp_path)
    meter = energy.find_meter(tmp_path)
    calls = {"stem": lambda: spend(300), "top": lambda: (spend(50), meter.read())}
    joules, idle_w = energy.stage_joules(meter, calls, seconds=0)
    assert joules == pytest.approx({"stem": 300e-6, "top": 50e-6})
    assert idle_w == 0


def test_a_profile_says_whose_joules_it_has(tmp_path):
    from sc_jax.plan import profile
    from sc_jax.plan.partition.jointdnn import jointdnn
    from sc_jax.plan.partition.neurosurgeon import neurosurgeon

    bare = profile.Profile("net", ("a", "b"), (0.01, 0.03), (0.001, 0.001))
    assert profile.energy_source(bare) is None
    stated = profile.with_watts(bare, 2.0, None)
    assert profile.energy_source(stated) == "model" and "idle_w" not in stated.modelled
    metered = profile.with_joules(bare, {"a": 0.5, "b": 0.1}, 1.5)
    assert profile.energy_source(metered) == "measured"
    assert metered.compute_w == pytest.approx(15) and metered.idle_w == 1.5
    profile.write(tmp_path / "p.json", metered)
    again = profile.read(tmp_path / "p.json")
    assert again == metered and {"device_j", "compute_w"} <= {*again.measured}
    # The joules of each stage, not of its seconds: all 0.6 J, where 40 ms took them.
    cut = profile.Cut("a", "z", 1000)
    link = Link(1e6, 0.02, transmit_w=1.0, idle_w=0.1)
    for planner in (neurosurgeon, jointdnn):
        alone = planner(metered, link)
        assert alone.places == ("device", "device")
        assert alone.energy_j == pytest.approx(0.6)
        tail = replace(metered, device_s=(0.01, None), cuts=(cut,))
        waited = 0.021 * (0.1 + 1.5) + 0.008 * (1.0 + 1.5)
        assert planner(tail, link).energy_j == pytest.approx(0.5 + waited)
    with pytest.raises(UsageError, match="stood still"):
        profile.with_joules(bare, {"a": 0.0, "b": 0.0}, 0.0)
    with pytest.raises(UsageError, match="all stages"):
        profile.with_joules(bare, {"a": 1.0}, 0.0)


@pytest.mark.parametrize("source", ["measured", "model"])
def test_a_plan_is_printed_with_the_source_of_its_joules(tmp_path, capsys, source):
    from sc_jax.plan import profile
    from sc_jax.plan.plan import Bounds
    from sc_jax.runs import planning

    bare = profile.Profile("net", ("a", "b"), (0.01, 0.03))
    joules = {"a": 0.5, "b": 0.1}
    if source == "measured":
        found = profile.with_joules(bare, joules, 1.5)
    else:
        found = profile.with_watts(bare, 2.0, 0.1)
    profile.write(tmp_path / "p.json", found)
    planning.run([str(tmp_path / "p.json")], [], link="lte", bounds=Bounds())
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "  energy " in x]
    assert line.split()[1:3] == (
        ["measured", "by"] if source == "measured" else ["a", "model,"]
    )
