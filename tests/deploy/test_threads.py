"""Threads of gRPC's calls: bounded, reused, and gone at the end."""

import itertools
import threading
import weakref

import pytest

pytest.importorskip("grpc")

from edge_tools import wait_until

from sc_jax.deploy.server.threads import Threads

NUMBERS = itertools.count()


@pytest.fixture
def threads():
    found = Threads(2, f"some-{next(NUMBERS)}")
    yield found
    found.shutdown()


def alive(threads):
    name = f"{threads._name}_"
    return [each for each in threading.enumerate() if each.name.startswith(name)]


def test_no_more_calls_run_than_threads_and_the_others_follow_in_order(threads):
    gate, ended, begun = threading.Event(), threading.Semaphore(0), []

    def call(number):
        begun.append(number)
        assert gate.wait(30)
        ended.release()

    for number in range(6):
        threads.submit(call, number)
    wait_until(lambda: len(begun) == 2)
    assert len(alive(threads)) == 2 and len(begun) == 2
    gate.set()
    assert all(ended.acquire(timeout=30) for _ in range(6))
    assert sorted(begun[:2]) == [0, 1] and set(begun) == set(range(6))


def test_one_thread_is_enough_for_one_call_after_another(threads):
    for _ in range(20):
        done = threading.Event()
        threads.submit(done.set)
        assert done.wait(30)
        wait_until(lambda: threads._free)
    assert len(alive(threads)) == 1


def test_where_the_system_has_no_more_threads_a_call_waits(threads, monkeypatch):
    gate, called, start = threading.Event(), [], threading.Thread.start

    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    threads.submit(called.append, 1)
    monkeypatch.setattr(threading.Thread, "start", start)
    threads.submit(gate.wait, 30)
    monkeypatch.setattr(threading.Thread, "start", refused)
    threads.submit(called.append, 2)
    assert not called and len(alive(threads)) == 1
    gate.set()
    wait_until(lambda: called == [1, 2])


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_call_that_fails_ends_no_thread(threads, error):
    def fail():
        raise error("on purpose")

    done = threading.Barrier(3)
    for _ in range(5):
        threads.submit(fail)
    for _ in range(2):
        threads.submit(done.wait)
    done.wait(30)  # both threads are there
    assert len(alive(threads)) == 2


def test_a_free_thread_keeps_nothing_of_its_last_call(threads):
    class Message:
        pass

    message = Message()
    gone = weakref.ref(message)
    threads.submit(lambda given: None, message)
    del message
    wait_until(lambda: threads._free)
    assert gone() is None


def test_after_the_end_what_waits_is_called_and_no_thread_is_left():
    threads, gate, called = Threads(1, "few"), threading.Event(), []
    threads.submit(gate.wait, 30)
    threads.submit(called.append, 1)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="few have ended"):
        threads.submit(called.append, 2)
    left = alive(threads)
    gate.set()
    for each in left:
        each.join(30)
    assert called == [1] and not alive(threads)
    idle = Threads(1, "idle")
    idle.submit(int)
    wait_until(lambda: idle._free)
    (thread,) = alive(idle)
    idle.shutdown()
    thread.join(30)
    assert not thread.is_alive()
