"""Traces: checked, saved whole, never of another net; temperatures and outcomes."""

import dataclasses
import json

import numpy as np
import pytest
from exit_traces import COST, EXITS, trace

from sc_jax.errors import UsageError
from sc_jax.exits.solve.calibration import temperatures
from sc_jax.exits.solve.policy_spec import policy_from_text
from sc_jax.traces.trace import Trace, for_fitting, load, of_net, outcome, save, subset

RECORDED = trace(300)


def test_a_saved_trace_comes_back_whole(tmp_path):
    path = tmp_path / "new" / "validation.npz"
    save(RECORDED, path)
    back = load(path, net="toy-0")
    for field in dataclasses.fields(Trace):
        a, b = getattr(RECORDED, field.name), getattr(back, field.name)
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    assert back.cost.dtype == np.float64 and back.answers.dtype == np.float32
    assert [p.name for p in path.parent.iterdir()] == ["validation.npz"]


def test_a_file_without_confidences_loads_and_they_stay_away(tmp_path):
    plain = dataclasses.replace(RECORDED, confidence=None)
    save(plain, tmp_path / "old.npz")
    with np.load(tmp_path / "old.npz") as file:
        assert "confidence" not in file.files
    assert load(tmp_path / "old.npz").confidence is None
    assert subset(plain, np.arange(5)).confidence is None


def test_a_file_of_predictions_and_no_quality_loads_with_that_of_labels(tmp_path):
    fields = {f.name: getattr(RECORDED, f.name) for f in dataclasses.fields(Trace)}
    fields["predictions"] = fields.pop("answers")
    del fields["quality"], fields["metric"]
    np.savez(tmp_path / "old.npz", **fields)
    old = load(tmp_path / "old.npz")
    np.testing.assert_array_equal(old.quality, RECORDED.quality)
    right = RECORDED.answers.argmax(-1) == RECORDED.labels
    np.testing.assert_array_equal(old.quality, right)


def test_a_task_without_classes_is_solved_by_its_quality(tmp_path):
    rng = np.random.default_rng(0)
    quality = np.sort(rng.uniform(size=(4, 300)).astype(np.float32), axis=0)
    tags = rng.uniform(size=(300, 7)) > 0.5
    made = dataclasses.replace(RECORDED, labels=tags, quality=quality, metric="f1")
    save(made, tmp_path / "f1.npz")
    back = load(tmp_path / "f1.npz")
    assert back.metric == "f1" and np.array_equal(back.labels, tags)
    for spec in ("threshold:budget=0.5", "threshold:accuracy=0.6", "voting:budget=0.7"):
        found = policy_from_text(spec, back)
        taken = found.policy(back.answers, back.cost)
        mean = quality[taken, np.arange(300)].mean(dtype=float)
        assert found.expected.accuracy == mean and found.expected.recalls == ()
    for spec in ("per_class", "threshold:calibrated=True", "threshold:recall=0.5"):
        with pytest.raises(UsageError, match="no classes, its quality is f1"):
            policy_from_text(spec, back)


def test_a_trace_of_another_net_is_refused(tmp_path):
    save(RECORDED, tmp_path / "t.npz")
    with pytest.raises(UsageError, match="of net 'toy-0', not of 'toy-1'"):
        load(tmp_path / "t.npz", net="toy-1")
    with pytest.raises(UsageError, match=r"exits exit@a, .* not exit@b, final"):
        of_net(RECORDED, "toy-0", ("exit@b", "final"))
    assert of_net(RECORDED, "toy-0", list(EXITS)) is RECORDED


def test_files_that_hold_no_trace(tmp_path):
    with pytest.raises(UsageError, match="no trace at"):
        load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", answers=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(UsageError, match="is no whole trace"):
            load(tmp_path / name)


def test_outcome_by_hand():
    made = Trace(
        answers=np.eye(3)[[[0, 1, 1, 2], [0, 0, 1, 1]]],
        labels=np.array([0, 0, 1, 1]),
        cost=np.array([1.0, 4.0]),
        net="hand",
        exits=("exit@a", "final"),
        split="test",
    )
    found = outcome(made, np.array([0, 0, 1, 0]))
    assert (found.split, found.examples) == ("test", 4)
    assert found.accuracy == 0.5
    assert found.mean_cost == 1.75 and found.cost_share == 1.75 / 4
    assert found.exit_shares == (0.75, 0.25)
    assert found.recalls == (0.5, 0.5, None)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["recalls"][2] is None


def test_temperatures_minimise_the_likelihood_loss():
    fitted = temperatures(RECORDED)

    def loss(e, t):
        z = RECORDED.answers[e].astype(float) / t
        own = z[np.arange(len(z)), RECORDED.labels]
        return (np.log(np.exp(z).sum(-1)) - own).mean()

    for e, t in enumerate(fitted):
        assert loss(e, t) <= min(loss(e, t * f) for f in (0.99, 0.999, 1.001, 1.01))


def test_temperatures_undo_a_scale():
    scale = np.array([0.5, 3.0, 1.0, 20.0])[:, None, None]
    scaled = dataclasses.replace(RECORDED, answers=RECORDED.answers * scale)
    expect = np.array(temperatures(RECORDED)) * scale[:, 0, 0]
    np.testing.assert_allclose(temperatures(scaled), expect, rtol=1e-5)


def test_temperatures_of_perfect_and_of_useless_exits_stay_within_bounds():
    right = np.eye(5)[RECORDED.labels]
    made = dataclasses.replace(
        trace(300, exits=3), answers=np.stack([right, -right, 0 * right])
    )
    assert temperatures(made) == (0.01, 100.0, 100.0)


def test_the_test_split_is_not_fitted_on():
    with pytest.raises(UsageError, match="nothing is fitted on the test split"):
        temperatures(trace(30, split="test"))
    assert for_fitting(RECORDED) is RECORDED


def test_a_subset_keeps_everything_else():
    part = subset(RECORDED, np.arange(10, 20))
    np.testing.assert_array_equal(part.answers, RECORDED.answers[:, 10:20])
    np.testing.assert_array_equal(part.confidence, RECORDED.confidence[:, 10:20])
    assert RECORDED.confidence.dtype == np.float32
    assert (part.net, part.split, len(part.labels)) == ("toy-0", "validation", 10)


def nan_logits():
    bad = RECORDED.answers.copy()
    bad[1, 7, 0] = np.nan
    return bad


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"answers": nan_logits()}, "exit 'exit@b', example 7: logits NaN"),
        ({"answers": RECORDED.answers[0]}, "answers of exits"),
        ({"answers": RECORDED.answers[..., :1]}, "2 or more classes"),
        ({"labels": RECORDED.labels[:9]}, "9 labels for 300 examples"),
        ({"labels": RECORDED.labels + 1, "quality": None}, r"labels are 0\.\.4"),
        ({"labels": "cat", "quality": None}, "trace: "),
        ({"cost": COST[:3]}, "3 costs and 4 names for 4 exits"),
        ({"exits": EXITS[1:]}, "4 costs and 3 names for 4 exits"),
        ({"exits": ("a", "b", "a", "final")}, "one name"),
        ({"cost": (10, 5, 20, 30)}, "costs never fall"),
        ({"cost": (10, 20, 30, np.nan)}, "costs never fall"),
        ({"cost": (-1, 5, 20, 30)}, "costs are 0 or more"),
        ({"split": ""}, "no name"),
        (
            {"confidence": RECORDED.confidence[1:]},
            r"confidences are \[4, 300\], .*\[3,",
        ),
        ({"confidence": RECORDED.confidence * 2}, "probabilities in 0..1"),
        ({"confidence": RECORDED.confidence * np.nan}, "probabilities in 0..1"),
    ],
)
def test_wrong_traces_are_refused_in_one_line(fields, line):
    with pytest.raises(UsageError, match=line) as raised:
        dataclasses.replace(RECORDED, **fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("taken", [np.full(300, 4), np.full(300, -1), np.zeros(9, int)])
def test_outcome_takes_exits_that_are_there(taken):
    with pytest.raises(UsageError, match=r"300 numbers in 0\.\.3"):
        outcome(RECORDED, taken)
