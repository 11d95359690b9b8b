"""A layer's seconds by regression: laws that are found again, held out honestly."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from sc_jax.errors import UsageError
from sc_jax.plan import regression
from sc_jax.plan.layers import Layer
from sc_jax.plan.profile import Machine

HERE = Machine("a machine", threads=2, runs=30)
LAWS = {
    "linear": lambda x: 3e-9 * x.input_values + 4e-7 * x.window + 2e-5,
    "logarithmic": lambda x: 1e-9 * x.input_values**0.8 * x.window**0.9,
    "work": lambda x: 4e-11 * x.macs + 2e-10 * x.moved_bytes + 1e-6,
}


def layers(law, kind="convolution", seed=0, families="abc"):
    """Convolutions of any size, whose seconds follow a law to the last digit."""
    rng, found = np.random.default_rng(seed), []
    for i in range(45):
        side, inputs, outputs = rng.integers(7, 57), *rng.integers(8, 257, 2)
        area = rng.choice([1, 9, 25])
        layer = Layer(
            kind,
            input_values=side * side * inputs,
            output_values=side * side * outputs,
            window=area * outputs,
            macs=side * side * inputs * outputs * area,
            moved_bytes=4 * side * side * (inputs + outputs),
            weight_bytes=4 * area * inputs * outputs,
            network=f"{families[i % len(families)]}:{i % 2}",
            family=families[i % len(families)],
        )
        found.append(replace(layer, seconds=float(law(layer))))
    return found


def seconds(measured):
    return np.array([layer.seconds for layer in measured])


@pytest.mark.parametrize("form", LAWS)
def test_a_law_is_found_again_on_networks_that_were_held_out(form):
    measured = layers(LAWS[form])
    guesses = regression.held_out(measured)
    np.testing.assert_allclose(guesses, seconds(measured), rtol=1e-5)
    (model,) = regression.fit(measured, HERE).models
    assert model.form == form and model.layers == 45 and model.error < 1e-5


def test_a_family_is_predicted_without_its_own_seconds():
    rng = np.random.default_rng(1)
    noisy = [
        replace(each, seconds=each.seconds * rng.uniform(0.5, 2))
        for each in layers(LAWS["work"])
    ]
    before = regression.held_out(noisy)
    own = np.array([layer.family == "b" for layer in noisy])
    moved = [
        replace(each, seconds=7.0) if out else each for each, out in zip(noisy, own)
    ]
    after = regression.held_out(moved)
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).all()


def test_a_kind_of_one_family_alone_is_missing_when_that_is_held_out():
    measured = layers(LAWS["work"]) + layers(LAWS["work"], "pooling", families="b")
    guesses = regression.held_out(measured)
    assert np.isfinite(guesses[:45]).all() and np.isnan(guesses[45:]).all()
    kinds = [layer.kind for layer in measured]
    conv, pool = regression.errors_by(kinds, guesses, seconds(measured))
    assert (conv.missing, pool.missing) == (0, 45) and pool.error == 1
    assert conv.share + pool.share == pytest.approx(1)
    assert pool.median is None and pool.predicted_s == 0
    assert "pooling" in "\n".join(regression.lines(measured))


def test_prices_of_work_are_those_of_non_negative_least_squares():
    rng = np.random.default_rng(2)
    for columns in (1, 2, 4):
        for _ in range(25):
            table, target = rng.normal(size=(12, columns)), rng.normal(size=12)
            found = regression.not_negative(table, target)
            np.testing.assert_allclose(found, nnls(table, target)[0], atol=1e-9)


def test_no_prediction_is_negative_nor_infinite():
    falling = layers(lambda x: 1e-3 - 1e-9 * x.input_values, families="ab")
    falling = [replace(each, seconds=max(each.seconds, 0.0)) for each in falling]
    huge = [replace(each, input_values=1e15, window=1e12) for each in falling]
    for forms in (("linear",), ("logarithmic",), ("work",), ("constant",)):
        model = regression.fit(falling, HERE, forms)
        found = regression.predicted(model, [*falling, *huge])
        assert np.isfinite(found).all() and (found >= 0).all()


def test_a_regression_comes_back_from_its_file(tmp_path):
    measured = layers(LAWS["work"]) + layers(LAWS["linear"], "depthwise", seed=3)
    model = regression.fit(measured, HERE)
    regression.write(tmp_path / "r.json", model)
    again = regression.read(tmp_path / "r.json")
    assert again == model and again.machine == HERE
    np.testing.assert_array_equal(
        regression.predicted(model, measured), regression.predicted(again, measured)
    )
    text = (tmp_path / "r.json").read_text()
    (tmp_path / "r.json").write_text(text.replace('"work"', '"cubic"'))
    with pytest.raises(UsageError, match=r"cubic.*constant, linear, logarithmic, work"):
        regression.read(tmp_path / "r.json")


def test_mistakes_are_one_line():
    measured = layers(LAWS["work"])
    with pytest.raises(UsageError, match="no layer of kind softmax was measured on a"):
        regression.predicted(
            regression.fit(measured, HERE), [replace(measured[0], kind="softmax")]
        )
    with pytest.raises(UsageError, match="that were measured"):
        regression.fit([replace(measured[0], seconds=None)], HERE)
    with pytest.raises(UsageError, match="two or more"):
        regression.held_out(layers(LAWS["work"], families="a"))
    assert "one family" in regression.lines(layers(LAWS["work"], families="a"))[0]
