"""The case of the exit benchmark: shares met, work counted, executors that agree."""

import numpy as np
import pytest

from benchmarks.speed import exit_case
from sc_jax.errors import UsageError

SHARES = (0.4, 0.25, 0.2, 0.15)
PLACES = ("stem", "layer1", "layer2")


@pytest.fixture(scope="module")
def made():
    return exit_case.case("cnn", PLACES, 16, 40, SHARES, 0)


def test_the_case_sends_its_shares_out(made):
    assert np.bincount(made.exits).tolist() == [16, 10, 8, 6]
    assert (np.diff(made.cost) > 0).all()
    heads = made.cost[-1] - made.whole_macs
    assert 0 < heads < made.whole_macs
    few = exit_case.twenty(made)
    assert np.bincount(few.exits).tolist() == [8, 5, 4, 3]


def test_executors_agree_and_their_work_is_counted(made):
    found = exit_case.batched(made, 8)
    found["cond"] = exit_case.single(exit_case.twenty(made))["cond"]
    mean = np.dot(SHARES, made.cost)
    for subject in found.values():
        subject.call()
        assert subject.different == 0
    assert found["whole"].ideal_macs == made.whole_macs
    assert found["all_exits"].computed_macs == pytest.approx(made.cost[-1])
    for name in ("capacity", "compact", "cond"):
        assert found[name].ideal_macs == pytest.approx(mean)
        assert found[name].shares == pytest.approx(SHARES)
    assert found["capacity"].computed_macs == pytest.approx(mean)
    # Buckets of 5: 24, 14 and 6 that are left take 25, 15 and 10 rows.
    own = np.diff(made.cost, prepend=0)
    padded = np.dot((40, 25, 15, 10), own) / 40
    assert found["compact"].computed_macs == pytest.approx(padded)


def test_segments_run_alone(made):
    calls = exit_case.segments(made, repeats=2)
    assert len(calls) == 4
    for call in calls.values():
        call()


def test_shares_are_of_the_exits():
    with pytest.raises(UsageError, match="3 shares for exits exit@stem, final"):
        exit_case.case("cnn", ("stem",), 16, 20, (0.5, 0.3, 0.2), 0)
