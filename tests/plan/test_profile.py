"""Profiles and plans as files, two sides joined, refusals in one line."""

import json
import random
from dataclasses import replace

import plan_instances as instances
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import plan, profile
from sc_jax.plan.link import Link
from sc_jax.plan.partition.neurosurgeon import neurosurgeon
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Batch, Cut, ExitCost, Machine, Profile

DEVICE = Profile(
    "net", ("a", "b", "c"), (0.1, None, 0.2), macs=(10, 20, 30),
    cuts=(Cut("input", "raw", 300, 0.01, 0.5, 0.8), Cut("a", "z", 20)),
    exits=(ExitCost("a", 0.01, 0.7),), quality=0.8, compute_w=1.5,
    device=Machine("a phone", threads=2, runs=50, memory_bytes=4e9),
    measured=("device_s", "quality"), modelled=("sent_bytes", "decode_s"),
)  # fmt: skip
SERVER = Profile(
    "net", ("a", "b", "c"), edge_s=(0.01, 0.02, 0.03), macs=(10, 20, 30),
    edge_batch_s=(Batch(4, (0.02, 0.03, 0.04)), Batch(16, (0.1, 0.1, 0.1))),
    cuts=(Cut("a", "z", 20, decode_s=0.004),), exits=(ExitCost("a", 0, 0.001),),
    edge=Machine("a server"), measured=("edge_s", "decode_s"),
)  # fmt: skip


def test_a_profile_comes_back_from_its_file(tmp_path):
    for rng in instances.seeds(20):
        p = instances.profile(rng, exits=2, whole=rng.random() < 0.5)
        profile.write(tmp_path / "p.json", p)
        assert profile.read(tmp_path / "p.json") == p
    for side in (DEVICE, SERVER, profile.combined(DEVICE, SERVER)):
        profile.write(tmp_path / "p.json", side)
        assert profile.read(tmp_path / "p.json") == side
    assert json.loads((tmp_path / "p.json").read_text())["format"] == 1


def test_the_two_sides_of_a_network_are_joined():
    both = profile.combined(DEVICE, SERVER)
    assert both.device_s == DEVICE.device_s and both.edge_s == SERVER.edge_s
    assert both.cuts == (DEVICE.cuts[0], replace(DEVICE.cuts[1], decode_s=0.004))
    assert both.exits == (ExitCost("a", 0.01, 0.001),)
    assert both.device.description == "a phone" and both.edge.description == "a server"
    assert both.measured == ("device_s", "quality", "edge_s", "decode_s")
    assert both.modelled == ("sent_bytes",) and not both.local
    assert profile.at_batch(both, 1) == both
    assert profile.at_batch(both, 3).edge_s == (0.02, 0.03, 0.04)
    assert profile.at_batch(both, 5).edge_s == (0.1, 0.1, 0.1)
    with pytest.raises(UsageError, match=r"batch 17 was not timed.*\[1, 4, 16\]"):
        profile.at_batch(both, 17)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"stages": ("a", "x", "c")},
            "stage 2 of the device's is b, .* server's x",
        ),
        (
            {"macs": (10, 21, 30)},
            "macs of stage b are 20 in .* and 21",
        ),
    ],
)
def test_sides_of_two_networks_are_refused_by_the_first_stage(changed, said):
    with pytest.raises(UsageError, match=said):
        profile.combined(DEVICE, replace(SERVER, **changed))


def test_a_side_that_ends_sooner_and_one_that_has_no_seconds_are_refused():
    short = Profile("net", ("a", "b"), edge_s=(0.01, 0.02))
    with pytest.raises(UsageError, match="stage c is in one profile only"):
        profile.combined(DEVICE, short)
    with pytest.raises(UsageError, match="the server's profile of net has no edge_s"):
        profile.combined(DEVICE, DEVICE)
    with pytest.raises(UsageError, match="the device's profile of net has no device_s"):
        profile.combined(SERVER, SERVER)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": ()}, "stages are names"),
        ({"stages": ("a", "a", "c")}, "stages are names, each once"),
        ({"stages": ("a", "input", "c")}, "none 'input'"),
        ({"device_s": (0.1, 0.2)}, "device_s has 2 numbers for 3 stages"),
        ({"device_s": ()}, "has neither"),
        ({"device_s": (0.1, float("nan"), 0.2)}, r"device_s\[1\] is a finite number"),
        ({"macs": (1, 2, -3)}, r"macs\[2\] is a finite number, 0 or more, not -3"),
        ({"macs": (1, 2, True)}, r"macs\[2\]"),
        ({"macs": (1, None, 2)}, r"macs\[1\] is a finite number"),
        ({"edge_batch_s": (Batch(0, (1, 1, 1)),)}, "size of a batch is 1 or more"),
        ({"edge_batch_s": (Batch(2, (1, 1)),)}, "seconds of batch 2 has 2 numbers"),
        ({"cuts": (Cut("x", "z", 1),)}, "unknown stage of a cut 'x'.*input, a, b"),
        ({"cuts": (Cut("c", "z", 1),)}, "after the last stage, c, leaves nothing"),
        ({"cuts": (Cut("a", "z", 1), Cut("a", "z", 2))}, "a/z stands twice"),
        ({"exits": (ExitCost("c"),)}, "unknown stage of an exit 'c'"),
        ({"measured": ("watts",)}, "unknown number that is measured or modelled"),
        ({"measured": ("macs",), "modelled": ("macs",)}, "macs stands twice"),
        ({"quality": float("inf")}, "quality is a finite number"),
        ({"compute_w": -1}, "compute_w is a finite number, 0 or more"),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused_in_one_line(changed, said):
    with pytest.raises(UsageError, match=said) as error:
        replace(DEVICE, **changed)
    assert "\n" not in str(error.value)


def test_cuts_and_machines_are_checked_too():
    with pytest.raises(UsageError, match=r"sent_bytes of a/z .* above 0"):
        Cut("a", "z", 0)
    with pytest.raises(UsageError, match="decode_s of a/z"):
        Cut("a", "z", 1, decode_s=float("nan"))
    with pytest.raises(UsageError, match="threads of a machine is 1 or more, not 0"):
        Machine("x", threads=0)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c.update(format=2), "format 2 of a profile, this version reads 1"),
        (lambda c: c.update(kind="plan"), "no profile"),
        (lambda c: c.update(stage=1), "unknown key of a profile 'stage'.*'stages'"),
        (lambda c: c.pop("network"), "a profile lacks the key 'network'"),
        (lambda c: c.update(network=3), "network of a profile is text, not 3"),
        (lambda c: c.update(device_s=3), "device_s of a profile is a list, not 3"),
        (lambda c: c.update(device=[1]), "device of a profile is no list"),
        (lambda c: c["cuts"][0].update(bytes=1), "unknown key of a cut 'bytes'"),
        (lambda c: c["cuts"].append(7), "a cut is a JSON object, not 7"),
        (lambda c: c.update(device_s=[float("nan"), 0.1, 0.1]), r"device_s\[0\]"),
        (lambda c: c.update(device_s=["x", 0.1, 0.1]), r"device_s\[0\].*not 'x'"),
        (lambda c: c.update(measured=[[1]]), "p.json"),
    ],
)
def test_a_file_that_is_no_profile_is_one_line_with_its_name(edit, said, tmp_path):
    profile.write(tmp_path / "p.json", DEVICE)
    content = json.loads((tmp_path / "p.json").read_text())
    edit(content)
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said) as error:
        profile.read(tmp_path / "p.json")
    assert "p.json" in str(error.value) and "\n" not in str(error.value)


def test_a_plan_comes_back_from_its_file_with_its_runner_up(tmp_path):
    rng = random.Random(5)
    p = instances.profile(rng, stages=4)
    found = neurosurgeon(p, Link(1e6, 0.01), Bounds(deadline_s=9.0))
    assert found.runner_up is not None
    plan.write(tmp_path / "plan.json", found)
    assert plan.read(tmp_path / "plan.json") == found
    content = json.loads((tmp_path / "plan.json").read_text())
    content["runner_up"]["places"][0] = "moon"
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="unknown place of a stage 'moon'"):
        plan.read(tmp_path / "plan.json")


def test_bounds_are_numbers():
    with pytest.raises(UsageError, match="deadline_s is a finite number, 0 or more"):
        Bounds(deadline_s=float("nan"))


def test_a_heads_own_seconds_scale_its_stages_or_all():
    whole = Profile(
        "net", ("a", "b", "c"), device_s=(1.0, 3.0, 2.0), measured=("device_s",)
    )
    head = profile.with_head_s(whole, "b", 2.0, all_of_it=False)
    assert head.device_s == (0.5, 1.5, 2.0)
    assert (head.measured, head.modelled) == ((), ("device_s",))
    assert profile.with_head_s(whole, "b", 2.0, all_of_it=True).device_s[2] == 1.0
    coded = replace(
        whole,
        cuts=(Cut("a", "z", 9, encode_s=0.4, decode_s=0.2),),
        exits=(ExitCost("a", 0.3, 0.1),),
        measured=("device_s", "encode_s", "decode_s"),
    )
    # Another number format leaves the coder alone, another device does not.
    assert profile.with_head_s(coded, "b", 2.0, all_of_it=False).cuts == coded.cuts
    phone = profile.with_head_s(coded, "b", 2.0, all_of_it=True)
    assert phone.cuts == (replace(coded.cuts[0], encode_s=0.2),)
    assert phone.exits == (ExitCost("a", 0.15, 0.1),)
    assert phone.measured == ("decode_s",)
    assert phone.modelled == ("device_s", "encode_s")
    with pytest.raises(UsageError, match=r"d'.*a, b, c"):
        profile.with_head_s(whole, "d", 2.0, all_of_it=True)
    holes = Profile("net", ("a", "b", "c"), device_s=(1.0, None, 2.0))
    with pytest.raises(UsageError, match="up to b have seconds"):
        profile.with_head_s(holes, "b", 2.0, all_of_it=True)
