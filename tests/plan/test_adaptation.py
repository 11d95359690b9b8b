"""Plans followed as the link changes: near an oracle, still where nothing changes."""

from dataclasses import replace

import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import LINKS, Cut, Link, Profile, latency_s, neurosurgeon
from sc_jax.plan.adaptation import (
    Choice,
    choice_of,
    choose,
    observe,
    predicted_s,
    replay,
    start,
    timed,
)

# A slow phone at 224 pixels: the whole net, a head with a split, a file.
CHOICES = (
    Choice("local", 0.31),
    Choice("split", 0.15, 1200),
    Choice("file", 0.02, 9000),
)
WIFI, LORA, LTE = (LINKS[name] for name in ("Wi-Fi", "LoRaWAN", "LTE"))


def best_s(link):
    return min(
        each.device_s + (latency_s(link, each.sent_bytes) if each.sent_bytes else 0)
        for each in CHOICES
    )


@pytest.mark.parametrize("seed", range(5))
def test_from_wifi_to_lora_and_back_it_stays_near_the_oracle(seed):
    rng = np.random.default_rng(seed)
    links = [(0.0, WIFI), (60.0, LORA), (120.0, LTE), (180.0, WIFI)]
    # Each message finds a rate of its own, within a factor of 1.5.
    noisy = []
    times = np.sort(rng.uniform(0, 240, 480))
    for now in times:
        link = [each for since, each in links if since <= now][-1]
        factor = float(np.exp(rng.uniform(-0.4, 0.4)))
        noisy.append((now, replace(link, up_bits_per_s=factor * link.up_bits_per_s)))
    found = replay(start(CHOICES, LTE), noisy, times)
    oracle = np.array([best_s(link) for _, link in noisy])
    taken = np.array([seconds for _, seconds in found])
    assert len(taken) == len(times) and (taken >= oracle - 1e-12).all()
    assert taken.mean() <= 1.15 * oracle.mean()
    # What it would have cost never to change.
    for each in CHOICES:
        fixed = replay(start((each,), LTE), noisy, times)
        assert taken.mean() < np.mean([seconds for _, seconds in fixed])


def test_on_a_steady_link_it_chooses_once():
    for link in LINKS.values():
        times = np.arange(0, 100, 0.5)
        found = replay(start(CHOICES, link), [(0.0, link)], times)
        names = [name for name, _ in found]
        assert len(set(names)) == 1
        assert found[0][1] == pytest.approx(best_s(link))


def test_a_device_that_computes_alone_looks_at_the_link_now_and_then():
    controller, looked = start(CHOICES, LORA), []
    for now in np.arange(0, 200, 0.5):
        controller, taken, beside = choose(controller, float(now))
        assert CHOICES[taken].name == "local"
        if beside is not None:
            assert CHOICES[beside].name == "split"  # a file takes longer on any link
            looked.append(now)
            controller = observe(controller, beside, latency_s(LORA, 1200))
    assert looked[:5] == [2, 6, 14, 22, 30] and np.diff(looked).max() == 8
    # One message at Wi-Fi's speed, and the next input is sent.
    controller = observe(controller, 1, latency_s(WIFI, 1200))
    controller, taken, _ = choose(controller, 200.5)
    assert CHOICES[taken].name != "local"


def test_what_one_message_leaves_open_another_decides():
    """52 ms of 1,200 bytes: a round trip, or a slow rate? A file is tried."""
    controller = observe(start(CHOICES, LORA), 1, latency_s(LTE, 1200))
    controller, taken, _ = choose(controller, 0.0)
    assert CHOICES[taken].name == "file"
    for rate, name in ((LTE, "file"), (replace(LTE, up_bits_per_s=2e5), "split")):
        known = observe(controller, taken, latency_s(rate, 9000))
        assert CHOICES[choose(known, 1.0)[1]].name == name


def test_what_might_be_faster_is_looked_at_beside():
    # Believed slow: nobody follows the file until a message tells.
    slow = replace(LTE, up_bits_per_s=2e5)
    controller = observe(start(CHOICES, slow), 1, latency_s(LTE, 1200))
    controller, taken, beside = choose(controller, 0.0)
    assert (CHOICES[taken].name, beside) == ("split", None)
    controller, taken, beside = choose(controller, 2.0)
    assert (CHOICES[taken].name, CHOICES[beside].name) == ("split", "file")
    controller = observe(controller, beside, latency_s(LTE, 9000))
    assert CHOICES[choose(controller, 2.5)[1]].name == "file"


def test_a_choice_of_a_plan_is_one_message():
    net = Profile(
        "net", ("a", "b"), (0.01, 9.0), (0.1, 0.002), cuts=(Cut("a", "z", 99),)
    )
    plan = neurosurgeon(net, LTE)
    found = choice_of(plan, LTE)
    assert (found.name, found.sent_bytes) == ("cut a/z", 99)
    assert found.device_s == pytest.approx(0.01)
    assert found.edge_s == pytest.approx(0.002)
    # Of exits with a threshold, latency and bytes are means over the inputs.
    third = plan.device_s + (plan.latency_s - plan.device_s) / 3
    some = replace(plan, threshold=0.5, sent_bytes=33.0, latency_s=third)
    found = choice_of(some, LTE)
    assert (found.sent_bytes, found.share) == (99, pytest.approx(1 / 3))
    assert found.edge_s == pytest.approx(0.002)
    assert predicted_s(start((found,), LTE)) == [pytest.approx(third)]
    with pytest.raises(UsageError, match="more than once"):
        choice_of(replace(plan, cuts=plan.cuts * 2), LTE)


def best_of(controller):
    """By the rule in words: the best quality in time, else the fastest."""
    seconds = predicted_s(controller)
    late = controller.deadline_s
    intime = [i for i in range(len(seconds)) if late and seconds[i] <= late]
    quality = {i: controller.choices[i].quality or -1 for i in intime}
    if intime:
        intime = [i for i in intime if quality[i] == max(quality.values())]
    return min(intime or range(len(seconds)), key=seconds.__getitem__)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_deadline_the_best_quality_in_time_is_chosen(seed):
    rng, seen = np.random.default_rng(seed), set()
    for _ in range(300):
        choices = [
            Choice(
                str(i), rng.uniform(0, 0.2), rng.choice([0, rng.uniform(10, 9000)]),
                rng.uniform(0, 0.1), rng.choice([None, 0.7, 0.8, 0.9]), rng.random(),
            )
            for i in range(rng.integers(1, 6))
        ]  # fmt: skip
        late = rng.choice([None, rng.uniform(0.01, 0.4)])
        link = Link(10 ** rng.uniform(4, 7), rng.uniform(0, 0.1))
        controller = start(choices, link, deadline_s=late, margin=0.0)
        if rng.random() < 0.7:
            current = int(rng.integers(len(choices)))
            controller = replace(controller, current=current)
        wanted = best_of(controller)
        assert choose(controller, 0.0)[1] == wanted
        seen.add((late is None, wanted == controller.current))
    assert len(seen) == 4


def test_it_follows_quality_while_the_deadline_allows_and_looks_no_more_than_it_must():
    """A better but slower file over Wi-Fi; none of it in time over LoRaWAN."""
    choices = (
        Choice("local", 0.05, quality=0.7),
        Choice("split", 0.03, 1200, 0.002, 0.8),
        Choice("file", 0.02, 9000, 0.01, 0.9),
    )
    links = [(0.0, WIFI), (50.0, LORA), (100.0, WIFI)]
    controller = start(choices, WIFI, deadline_s=0.1, margin=0.1)
    found = replay(controller, links, np.arange(0, 150, 0.5))
    names = np.array([name for name, _ in found])
    assert set(names[:100]) == {"file"} and set(names[103:200]) == {"local"}
    assert (names[220:] == "file").all() and "file" not in names[101:200]
    late = [seconds > 0.1 for _, seconds in found]
    assert sum(late) <= 3
    # What nothing could better is not looked for.
    best = replace(choices[0], quality=0.95)
    controller = start((best, *choices[1:]), LORA, deadline_s=0.1)
    for now in np.arange(0, 60, 0.5):
        controller, taken, beside = choose(controller, float(now))
        assert (taken, beside) == (0, None)


def test_a_choice_within_the_margin_of_the_deadline_is_not_changed_to():
    choices = Choice("a", 0.05, quality=0.7), Choice("b", 0.095, quality=0.9)
    controller = replace(start(choices, WIFI, deadline_s=0.1), current=0)
    assert choose(controller, 0.0)[1] == 0
    assert choose(replace(controller, current=1), 0.0)[1] == 1
    assert choose(replace(controller, deadline_s=0.11), 0.0)[1] == 1
    # The fastest where none keeps it.
    assert choose(replace(controller, current=1, deadline_s=0.04), 0.0)[1] == 0


def test_a_device_slower_than_planned_computes_less_itself():
    """Over LoRaWAN it computes alone, unless it is twenty times slower."""
    controller = replace(start(CHOICES, LORA), current=0)
    assert choose(controller, 0.0)[1] == 0
    for _ in range(12):
        controller = timed(controller, 0, 20 * 0.31)
    assert controller.pace == pytest.approx(20, rel=1e-2)
    expected = [20 * 0.31, 20 * 0.15 + latency_s(LORA, 1200)]
    assert predicted_s(controller)[:2] == pytest.approx(expected, rel=1e-2)
    assert choose(controller, 0.0)[1] == 2  # 0.4 s of the device, 2.9 of the link
    for _ in range(12):
        controller = timed(controller, 2, 0.02)
    assert choose(controller, 0.0)[1] == 0
    assert timed(controller, 0, 0.0) == controller


def test_a_margin_keeps_what_is_nearly_as_fast():
    two = (Choice("a", 0.100), Choice("b", 0.095))
    controller = replace(start(two, WIFI), current=0)
    assert choose(controller, 0.0)[1] == 0
    assert choose(replace(controller, margin=0.01), 0.0)[1] == 1


def test_a_server_faster_than_planned_leaves_no_belief_of_nothing():
    slow, free = Choice("slow", 0.0, 100, 0.05), Choice("free", 0.0, 200)
    controller = observe(start([slow, free], Link(1e6, 0.0)), 0, 0.01)
    assert min(controller.message_s) > 0
    assert observe(controller, 1, 0.02).message_s == (0.01, pytest.approx(0.02))


def test_beliefs_come_to_what_is_observed():
    controller, wanted = start(CHOICES, WIFI), 2.5 * latency_s(WIFI, 1200)
    for _ in range(12):
        controller = observe(controller, 1, wanted)
    assert predicted_s(controller)[1] == pytest.approx(0.15 + wanted, rel=1e-3)
    controller = observe(controller, 1, 100 * wanted)
    least, most = 100 * wanted, 100 * wanted * 9000 / 1200
    assert least <= controller.message_s[2] <= most


@pytest.mark.parametrize(
    "make",
    [
        lambda: start((), WIFI),
        lambda: start(CHOICES, WIFI, gain=0.0),
        lambda: start(CHOICES, WIFI, abrupt=1.0),
        lambda: start(CHOICES, WIFI, probe_s=9, probe_most_s=3),
        lambda: start(CHOICES, WIFI, deadline_s=0.0),
        lambda: Choice("x", -1.0),
        lambda: Choice("x", 0.1, share=1.5),
        lambda: observe(start(CHOICES, WIFI), 0, 1.0),
        lambda: observe(start(CHOICES, WIFI), 1, float("nan")),
    ],
)
def test_mistakes_are_one_line(make):
    with pytest.raises(UsageError) as caught:
        make()
    assert "\n" not in str(caught.value)
