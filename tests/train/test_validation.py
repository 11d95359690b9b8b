"""What is wrong with a recipe is one line before the first step, teacher included."""

from dataclasses import dataclass, replace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.losses.terms import Term
from sc_jax.tasks import classification
from sc_jax.train import validation
from sc_jax.train.serialisation import override
from sc_jax.train.validation import check_ranges, validate

EXAMPLE = np.zeros((1, 16, 16, 1), np.uint8)


def refused(recipe, message):
    with pytest.raises(UsageError, match=message) as caught:
        validate(recipe, EXAMPLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("phases.0.steps=0", "'classify': steps is a whole number, 1 or more, not 0"),
        ("phases.0.optimiser.learning_rate=-1.0", "learning_rate is .* 0 or more"),
        ("phases.0.optimiser.weight_decay=-0.1", "weight_decay is .* 0 or more"),
        ("phases.0.optimiser.warmup=1.5", "warmup is a number, 0 to 1, not 1.5"),
        ("phases.0.optimiser.schedule=cosin", "did you mean 'cosine'"),
        ("phases.0.gradients=summ", "did you mean 'sum'"),
        ("phases.0.reduction=max", "reduction"),
        ("seed=-1", "recipe classifier: seed is a whole number, 0 or more"),
        ("dtype=float16", "dtype"),
    ],
)
def test_numbers_out_of_range_are_one_line(classifier, assignment, message):
    refused(override(classifier, assignment), message)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), lambda step: 1.0 - step])
def test_weights_of_terms_are_not_negative(student, weight):
    first = student.phases[0]
    phase = replace(first, terms=(replace(first.terms[-1], weight=weight),))
    with pytest.raises(UsageError, match=r"'stage1': the weight of bits .* 0 or more"):
        check_ranges(replace(student, phases=(phase,)))


@dataclass(frozen=True)
class Reduced:
    """Wrong on purpose: a mean over the batch, or one number a class."""

    axis: int | None

    def __call__(self, context):
        return context.student.predictions["final"].mean(self.axis)


@pytest.mark.parametrize(("axis", "shape"), [(None, r"\(\)"), (0, r"\(3,\)")])
def test_a_loss_that_reduces_the_batch_is_refused(classifier, axis, shape):
    phase = replace(classifier.phases[0], terms=(Term(Reduced(axis)),))
    refused(
        replace(classifier, phases=(phase,)),
        f"'classify': the loss of term Reduced has shape {shape} for 7 examples",
    )


def test_an_answer_that_the_task_cannot_read_is_refused(classifier):
    def metrics(answer, batch):
        return {"accuracy": answer["boxes"]}

    wrong = replace(classification, metrics=metrics)
    refused(replace(classifier, task=wrong), "metrics cannot read the net's answer")
    scalar = replace(
        classification, metrics=lambda answer, batch: {"accuracy": jnp.mean(answer)}
    )
    refused(replace(classifier, task=scalar), "must begin with the batch's 7 examples")


class Silent(nn.Module):
    """A compressor of one's own that trains, and could send nothing."""

    @nn.compact
    def __call__(self, z, *, train):
        return z, jnp.zeros(len(z))


def test_a_compressor_without_a_codec_is_refused(student):
    (split,) = student.net.splits
    net = replace(student.net, splits=(replace(split, compressor=Silent()),))
    refused(replace(student, net=net), "compressor Silent has no method")


def test_the_teacher_is_asked_too(student):
    teacher = override(student.teacher, "phases.0.optimiser.learning_rate=-1.0")
    refused(replace(student, teacher=teacher), "learning_rate")


def test_equal_recipes_are_traced_once_and_errors_never_kept(student, monkeypatch):
    traced = []
    real = validation._objectives
    monkeypatch.setattr(
        validation, "_objectives", lambda *a: traced.append(a[0]) or real(*a)
    )
    validation._kept_check.cache_clear()
    for _ in range(2):
        validate(student, EXAMPLE)
        validate(student.teacher, EXAMPLE)
    assert traced == [student, student.teacher]
    validate(student.teacher, np.zeros((1, 20, 20, 1), np.uint8))
    assert len(traced) == 3  # other shapes
    # True equals 1, and is refused all the same.
    validate(replace(student.teacher, seed=1), EXAMPLE)
    refused(replace(student.teacher, seed=True), "seed is a whole number")
    wrong = replace(student.phases[0], terms=(Term(Reduced(None)),))
    for _ in range(2):
        refused(replace(student, phases=(wrong,)), "a loss is f32")
