"""A server that is lost costs a few losses, then a probe now and then."""

import threading
from types import SimpleNamespace

import pytest

from sc_jax.deploy.device.device import NOWHERE, Answer, Device
from sc_jax.deploy.wire.breaker import Breaker, Open
from sc_jax.deploy.wire.sending import FAULTS, ServerLost, is_loss


class World:
    """A clock, and a server that is there or not: what a breaker meets."""

    def __init__(self, **numbers):
        self.now, self.up, self.calls, self.took_s = 100.0, False, [], 0.0
        self.breaker = Breaker(clock=lambda: self.now, **numbers)

    def ask(self):
        self.calls.append(self.now)
        self.now += self.took_s
        if not self.up:
            raise ServerLost("UNAVAILABLE: no answer")
        return "answer"

    def image(self):
        try:
            return self.breaker.call(self.ask, is_loss)
        except ServerLost:
            return "lost"
        except Open as error:
            assert "3 times in a row" in str(error) and "\n" not in str(error)
            return "kept"


def test_it_opens_after_losses_in_a_row_only():
    world = World()
    assert [world.image(), world.image()] == ["lost", "lost"]
    world.up = True
    assert world.image() == "answer"
    world.up = False
    assert [world.image() for _ in range(5)] == ["lost"] * 3 + ["kept"] * 2
    assert world.breaker.kept == 2 and len(world.calls) == 6


def test_probes_come_later_and_later_and_an_answer_closes_it():
    world = World()
    for _ in range(3):
        world.image()
    opened, until = world.now, world.now + 63.4
    while world.now < until:
        world.image()
        world.now += 0.125
    # 0.5 s, then twice as long each time, 16 s at most.
    waits = [0.5, 1, 2, 4, 8, 16, 16]
    ends = [sum(waits[: i + 1]) for i in range(len(waits))]
    assert [t - opened for t in world.calls[3:]] == ends
    world.up, world.now = True, opened + ends[-1] + 15.9
    assert world.image() == "kept"
    world.now = opened + ends[-1] + 16
    assert [world.image(), world.image()] == ["answer"] * 2
    assert world.breaker.open_s == world.now - opened
    said = world.breaker.summary()
    assert said.startswith(f"the server was lost for {world.breaker.open_s:.1f} s (1 x")
    assert f"{world.breaker.kept} images were kept" in said and "still" not in said
    world.up = False
    assert [world.image() for _ in range(4)] == ["lost"] * 3 + ["kept"]
    assert world.breaker.summary().endswith("it still is")
    world.now += 0.5  # the back-off begins anew
    assert world.image() == "lost"


def test_while_it_is_open_only_probes_take_time():
    world = World(first_s=1, longest_s=16)
    world.took_s = 1.0  # each call waits for a deadline in vain
    begun, images = world.now, 0
    while world.now < begun + 600:
        world.image()
        world.now += 0.01
        images += 1
    spent = sum(world.took_s for _ in world.calls)
    assert spent < 0.07 * 600 and images > 55_000


def test_a_request_at_fault_is_not_a_lost_server():
    world = World()
    for status in sorted(FAULTS):

        def refuse(status=status):
            raise ServerLost(f"{status}: no", status)

        for _ in range(4):
            with pytest.raises(ServerLost, match=status):
                world.breaker.call(refuse, is_loss)
    assert world.breaker.summary() == "" and "INVALID_ARGUMENT" in FAULTS
    for _ in range(3):
        world.image()
    world.now += 0.5
    with pytest.raises(ServerLost):  # who refuses is there
        world.breaker.call(refuse, is_loss)
    world.up = True
    assert world.image() == "answer"


def test_what_says_nothing_of_the_server_counts_for_nothing():
    world = World()

    def late():
        raise ServerLost("DEADLINE_EXCEEDED: late", "DEADLINE_EXCEEDED")

    for _ in range(5):
        with pytest.raises(ServerLost):
            world.breaker.call(late, lambda _: None)
    assert world.breaker.summary() == ""
    assert [world.image() for _ in range(4)] == ["lost"] * 3 + ["kept"]
    world.now += 0.5
    with pytest.raises(ServerLost):  # a probe that says nothing: still open
        world.breaker.call(late, lambda _: None)
    assert world.image() == "kept"
    world.now += 0.5
    assert world.image() == "lost"


def test_a_slow_head_is_no_lost_server():
    """Little time left for the call: its deadline says nothing; with time, it does."""
    asked = []

    def send(model, data, left):
        asked.append(left)
        raise ServerLost("DEADLINE_EXCEEDED: late", "DEADLINE_EXCEEDED", True)

    device = object.__new__(Device)
    device.bundle = SimpleNamespace(manifest={"model": "m"}, labels=())
    device.send, device.deadline_s, device.breaker = send, 1.0, Breaker()
    for head_s, calls in ((0.9, 5), (0.1, 3)):
        asked.clear()
        for _ in range(5):
            device.deliver(b"frame", Answer(None, NOWHERE, 0, {"head": head_s}))
        assert len(asked) == calls


def test_of_many_threads_one_probes():
    world, gate, begun = World(), threading.Event(), threading.Event()
    for _ in range(3):
        world.image()
    world.now += 0.5

    def slow():
        begun.set()
        assert gate.wait(10)
        return "answer"

    found = []
    probe = threading.Thread(
        target=lambda: found.append(world.breaker.call(slow, is_loss))
    )
    probe.start()
    assert begun.wait(10)
    world.now += 100
    others = [
        threading.Thread(target=lambda: found.append(world.image())) for _ in range(2)
    ]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert found == ["kept", "kept"]
    gate.set()
    probe.join()
    world.up = True
    assert found[2] == "answer" and world.image() == "answer"


def test_an_interrupted_probe_is_a_loss_and_the_next_comes():
    world = World()
    for _ in range(3):
        world.image()
    world.now += 0.5

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.breaker.call(interrupted, is_loss)
    assert world.image() == "kept"
    world.now, world.up = world.now + 1, True
    assert world.image() == "answer"
