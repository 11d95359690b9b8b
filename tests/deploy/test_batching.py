"""The batcher alone: grouping, padding, bounds, and every way a request can end."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from sc_jax.deploy.server import batching
from sc_jax.deploy.server.batching import Batcher


class Gate:
    """A function over batches that waits to be opened and notes the shapes."""

    def __init__(self, opened=True):
        self.shapes, self.opened, self.begun = [], threading.Event(), threading.Event()
        if opened:
            self.opened.set()

    def __call__(self, batch):
        self.shapes.append(batch.shape)
        self.begun.set()
        assert self.opened.wait(10)
        return {"double": 2 * batch}


@pytest.fixture
def start():
    made = []

    def build(*args, **kwargs):
        made.append(Batcher(*args, **kwargs))
        return made[-1]

    yield build
    for batcher in made:
        batcher.close()


def example(value, length=3):
    return np.full(length, value, np.float32)


def together(batcher, run, count):
    """The next `count` requests of a batcher, answered in one batch of a shut gate."""
    run.opened.clear()
    run.begun.clear()
    first = batcher.submit(example(-1))
    assert run.begun.wait(5)
    futures = [batcher.submit(example(i)) for i in range(count)]
    run.opened.set()
    first.result(5)
    return futures


def test_requests_that_wait_share_a_padded_batch_and_get_their_own_rows(start):
    run, counts = Gate(), []
    batcher = start(run, sizes=(1, 2, 4, 8), wait_s=0.3, started=counts.append)
    for i, future in enumerate(together(batcher, run, 5)):
        answer = future.result(5)
        np.testing.assert_array_equal(answer.outputs["double"], 2 * example(i))
        assert answer.batch_size == 5
        assert 0 <= answer.queue_s < 5 and 0 <= answer.compute_s < 5
    assert run.shapes == [(1, 3), (8, 3)] and counts == [1, 5]


def test_a_lone_client_never_waits(start):
    run = Gate()
    batcher = start(run, sizes=(1, 4), wait_s=30)
    for i in range(20):
        assert batcher.submit(example(i)).result(5).batch_size == 1
    assert run.shapes == [(1, 3)] * 20


def test_clients_that_ask_again_stay_together(start):
    run = Gate()
    batcher = start(run, sizes=(1, 2, 4, 8), wait_s=30)
    first = together(batcher, run, 5)
    assert [f.result(5).batch_size for f in first] == [5] * 5
    for _ in range(10):
        some = [batcher.submit(example(i)) for i in range(4)]
        time.sleep(0.005)
        assert not any(each.begun for each in some)
        again = [*some, batcher.submit(example(4))]  # the fifth: nobody else is known
        assert [f.result(5).batch_size for f in again] == [5] * 5


def test_clients_that_left_are_waited_for_a_few_batches_only(start):
    run = Gate()
    batcher = start(run, sizes=(1, 2, 4), wait_s=0.03)
    for future in together(batcher, run, 3):
        future.result(5)
    waited = []
    for i in range(2 * batching.HISTORY):
        waited.append(batcher.submit(example(i)).result(5).queue_s)
    assert min(waited[: batching.HISTORY - 1]) >= 0.029  # for those who may come again
    assert np.median(waited[batching.HISTORY :]) < 0.01


def test_a_batch_never_exceeds_the_largest_size_and_the_rest_comes_next(start):
    run = Gate()
    batcher = start(run, sizes=(1, 4), wait_s=0.01)
    sizes = [f.result(5).batch_size for f in together(batcher, run, 11)]
    assert sizes == [4] * 8 + [3] * 3
    assert run.shapes == [(1, 3), (4, 3), (4, 3), (4, 3)]


@pytest.mark.parametrize("count", range(1, batching.SIZES[-1] + 1))
def test_the_sizes_pad_at_most_a_third_of_a_batch(count):
    item = batching._Item(example(1), 0.0, 0.0, batching.Pending())
    batch = batching.padded([item] * count, batching.SIZES)
    assert count <= len(batch) and 2 * len(batch) <= 3 * count
    assert (batch[:count] == 1).all() and not batch[count:].any()


def test_what_came_during_a_run_starts_at_once_in_the_least_size(start):
    run = Gate(opened=False)
    batcher = start(run, sizes=(1, 2, 4), wait_s=0)
    first = batcher.submit(example(0))
    assert run.begun.wait(5)
    rest = [batcher.submit(example(i)) for i in range(1, 7)]
    run.opened.set()
    assert [f.result(5).batch_size for f in (first, *rest)] == [1, 4, 4, 4, 4, 2, 2]
    assert run.shapes == [(1, 3), (4, 3), (2, 3)]


def test_the_queue_is_bounded_and_takes_again_when_it_has_room(start):
    run = Gate(opened=False)
    batcher = start(run, sizes=(1,), wait_s=0, limit=2)
    held = [batcher.submit(example(0))]
    assert run.begun.wait(5)
    held += [batcher.submit(example(i)) for i in (1, 2)]
    for _ in range(50):
        with pytest.raises(batching.Full, match="queue of 2"):
            batcher.submit(example(9))
    run.opened.set()
    assert [f.result(5).outputs["double"][0] for f in held] == [0, 2, 4]
    assert batcher.submit(example(3)).result(5).outputs["double"][0] == 6


def test_late_and_cancelled_requests_cost_no_computing(start):
    run = Gate(opened=False)
    batcher = start(run, sizes=(1, 2, 4), wait_s=0)
    first = batcher.submit(example(0))
    assert run.begun.wait(5)
    late = batcher.submit(example(1), deadline_s=time.monotonic())
    left = batcher.submit(example(2))
    good = batcher.submit(example(3), deadline_s=time.monotonic() + 60)
    assert left.cancel()
    time.sleep(0.002)
    run.opened.set()
    assert first.result(5).batch_size == 1
    with pytest.raises(batching.Late, match="over budget"):
        late.result(5)
    with pytest.raises(CancelledError):
        left.result(5)
    assert good.result(5).batch_size == 1
    assert run.shapes == [(1, 3), (1, 3)]


def test_a_failing_run_fails_its_batch_alone(start):
    def run(batch):
        if batch[0, 0] < 0:
            raise ZeroDivisionError("no")
        return {"double": batch}

    batcher = start(run, sizes=(1, 2), wait_s=0)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(example(-1)).result(5)
    assert batcher.submit(example(1)).result(5).outputs["double"][0] == 1


def test_closing_answers_what_waits_and_takes_no_more():
    run = Gate(opened=False)
    batcher = Batcher(run, sizes=(1, 2), wait_s=30)
    futures = [batcher.submit(example(i)) for i in range(5)]
    run.opened.set()
    batcher.close()
    assert [f.result(0).outputs["double"][0] for f in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(batching.Full, match="closed"):
        batcher.submit(example(0))


def test_many_threads_each_get_their_own_row(start):
    batcher = start(Gate(), sizes=batching.SIZES, wait_s=0.001)
    wrong = []

    def client(number):
        for i in range(30):
            value = 100 * number + i
            answer = batcher.submit(example(value)).result(5)
            if answer.outputs["double"][0] != 2 * value:
                wrong.append(value)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
