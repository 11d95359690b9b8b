"""The case of the exit benchmark: shares met, work counted, executors that agree."""

import numpy as np
import pytest

from benchmarks.speed import exit_case
from sc_jax.errors import UsageError

SHARES = (0.4, 0.35, 0.25)
PLACES = ("stem", "layer1")


@pytest.fixture(scope="module")
def case():
    return exit_case.untrained("cnn", PLACES, 16, 40, SHARES, 0)


def test_the_case_sends_its_shares_out(case):
    assert np.bincount(case.exits).tolist() == [16, 14, 10]
    assert (np.diff(case.cost) > 0).all()
    classifiers = case.cost[-1] - case.whole_macs
    assert 0 < classifiers < case.whole_macs
    few = exit_case.twenty(case)
    assert np.bincount(few.exits).tolist() == [8, 7, 5]


def test_executors_agree_and_their_work_is_counted(case):
    found = exit_case.batched(case, 8)
    found["cond"] = exit_case.single(exit_case.twenty(case))["cond"]
    mean = np.dot(SHARES, case.cost)
    for subject in found.values():
        subject.call()
        assert subject.different == 0
    assert found["whole"].ideal_macs == case.whole_macs
    assert found["run_all"].computed_macs == pytest.approx(case.cost[-1])
    for name in ("capacity", "bucketed", "cond"):
        assert found[name].ideal_macs == pytest.approx(mean)
        assert found[name].shares == pytest.approx(SHARES)
    assert found["capacity"].computed_macs == pytest.approx(mean)
    # Buckets of 5: the 24 and 10 that are left take 25 and 10 rows.
    own = np.diff(case.cost, prepend=0)
    padded = np.dot((40, 25, 10), own) / 40
    assert found["bucketed"].computed_macs == pytest.approx(padded)


def test_segments_run_alone(case):
    calls = exit_case.segments(case, repeats=2)
    assert len(calls) == 3
    for call in calls.values():
        call()


def test_shares_are_of_the_exits():
    with pytest.raises(UsageError, match="3 shares for exits exit@stem, final"):
        exit_case.untrained("cnn", ("stem",), 16, 20, (0.5, 0.3, 0.2), 0)
