"""Every task: shapes, NumPy as JAX, figures that are floats, replies that travel."""

import contextlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.errors import UsageError
from sc_jax.tasks import TASKS, check, classification, multilabel
from sc_jax.tasks.multilabel import average_precision
from sc_jax.train.serialisation import override

B, K = 8, 5
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(0, 2, (B, K)).astype(np.float32)
# By task, (answer, batch) of B examples. A new task takes the first that its functions
# can read, and a row where that is none.
SAMPLES = {
    "classification": (LOGITS, {"label": RNG.integers(0, K, B, np.int32)}),
    "multilabel": (LOGITS, {"label": RNG.random((B, K)) < 0.4}),
}
WIRE = {"bool", "int32", "int64", "uint8", "float32"}


@pytest.fixture(params=TASKS.values(), ids=lambda task: task.name)
def sample(request):
    task = request.param
    if task.name in SAMPLES:
        return task, *SAMPLES[task.name]
    for answer, batch in SAMPLES.values():
        with contextlib.suppress(UsageError):
            check(task, answer, batch)
            return task, answer, batch
    raise AssertionError(f"no sample for task {task.name!r}: a row in SAMPLES")


def test_numpy_and_jax_give_the_same(sample):
    task, answer, batch = sample
    both = jax.tree.map(jnp.asarray, (answer, batch))
    metrics = jax.jit(task.metrics)(*both)
    for name, value in task.metrics(answer, batch).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)
    for function in (task.reply, lambda a: {"logits": task.logits(a)}):
        traced = jax.jit(function)(both[0])
        for name, value in function(answer).items():
            np.testing.assert_array_equal(traced[name], value, err_msg=name)


def test_shapes_and_types(sample):
    task, answer, batch = sample
    check(task, answer, batch)
    metrics = task.metrics(answer, batch)
    assert metrics[task.quality].shape == (B,)
    assert metrics[task.quality].dtype == np.float32
    assert all(len(value) == B for value in metrics.values())
    assert task.logits(answer).shape[0] == B and task.logits(answer).ndim == 2
    for value in task.reply(answer).values():
        assert len(value) == B and value.dtype.name in WIRE
    jax.eval_shape(lambda *both: check(task, *both), answer, batch)  # before training


def test_a_reply_travels(sample):
    """Example by example over the wire, and back as it was."""
    pytest.importorskip("google.protobuf", reason="the extra serve is not installed")
    from sc_jax.deploy.wire import layout, protocol
    from sc_jax.deploy.wire.reply import Reply

    task, answer, _ = sample
    arrays = jax.device_get(jax.jit(task.reply)(answer))
    outputs = {name: np.asarray(value[0]) for name, value in arrays.items()}
    response = layout.response(protocol.InferRequest(), Reply(outputs))
    again = protocol.reply_of(protocol.InferResponse.FromString(response))
    assert again.outputs.keys() == outputs.keys()
    for name, value in outputs.items():
        np.testing.assert_array_equal(again.outputs[name], value, err_msg=name)


def test_figures_are_floats_and_do_not_depend_on_the_order(sample):
    task, answer, batch = sample
    metrics = task.metrics(answer, batch)
    figures = task.summary(metrics)
    assert all(type(value) is float for value in figures.values())
    assert task.unit != "%" or 0 <= figures[task.figure] <= 1
    turned = {name: value[::-1] for name, value in metrics.items()}
    assert task.summary(turned) == pytest.approx(figures)


def test_a_task_that_cannot_read_the_answer_is_one_line():
    answer, batch = SAMPLES["classification"]
    broken = {
        "quality": (dict(quality="f1"), "unknown quality of task"),
        "figure": (dict(figure="mAP"), "unknown figure of task"),
        "metrics": (
            dict(metrics=lambda a, b: {"accuracy": a > 0}),
            r"metrics\['accuracy'\] has shape \(8, 5\), not \[B\]",
        ),
        "mean": (
            dict(metrics=lambda a, b: {"accuracy": (a > 0).mean()}),
            r"has shape \(\), it must begin with the batch's 8 examples",
        ),
        "logits": (dict(logits=lambda a: a[:, 0]), r"logits has shape .*\[B, K\]"),
        "reply": (
            dict(reply=lambda a: {"x": a[:2]}),
            r"reply\['x'\] has shape \(2, 5\)",
        ),
        "raises": (dict(reply=lambda a: a["boxes"]), "reply cannot read the net's"),
    }
    for change, message in broken.values():
        with pytest.raises(UsageError, match=message) as caught:
            check(replace(classification, **change), answer, batch)
        assert "\n" not in str(caught.value)


def test_a_recipe_takes_a_task_by_its_name():
    recipe = recipes.build("classifier", recipes.tiny("classifier"))
    assert override(recipe, "task=multilabel").task is multilabel
    with pytest.raises(UsageError, match="did you mean 'multilabel'"):
        override(recipe, "task=multilabels")


def test_top1_is_the_share_of_right_answers_to_the_digit():
    right = np.arange(999) % 7 < 4
    metrics = {"accuracy": right.astype(np.float32)}
    assert classification.summary(metrics) == {"top-1": right.mean()}


def test_average_precision_is_that_of_a_ranking_worked_out_by_hand():
    score = np.array([0.9, 0.8, 0.7, 0.6])
    truth = np.array([True, False, True, False])
    assert average_precision(score, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), truth) == pytest.approx(0.5)  # all tied


def test_mean_average_precision_is_of_the_set_and_no_mean_over_examples():
    answer, batch = SAMPLES["multilabel"]
    metrics = multilabel.metrics(answer, batch)
    whole = multilabel.summary(metrics)["mAP"]
    halves = [
        multilabel.summary({n: v[part] for n, v in metrics.items()})["mAP"]
        for part in (slice(0, 4), slice(4, 8))
    ]
    assert whole != pytest.approx(np.mean(halves), abs=1e-3)
    sure = multilabel.metrics(np.where(batch["label"], 9.0, -9.0), batch)
    assert multilabel.summary(sure) == {"mAP": 1.0, "f1": 1.0}


def test_a_multilabel_answer_is_as_sure_as_its_least_sure_label():
    logits = multilabel.logits(np.array([[4.0, -0.5, 3.0]]))
    largest = 1 / (1 + np.exp(-(logits[:, 0] - logits[:, 1])))
    assert largest == pytest.approx(1 / (1 + np.exp(-0.5)))
