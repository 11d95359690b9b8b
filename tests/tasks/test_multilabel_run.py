"""Another task through train, measure and report: names, shapes and figures are its."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.compressors import Affine
from sc_jax.compressors.splits import codecs_of
from sc_jax.data import sources
from sc_jax.data.dataset import Dataset
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.evaluate.reports import report
from sc_jax.losses.task import BinaryCrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.net import cut_at
from sc_jax.nets.run import Variables
from sc_jax.runs import training
from sc_jax.tasks import multilabel
from sc_jax.tasks.multilabel import average_precision
from sc_jax.train import loop
from sc_jax.train.recipe import Optimiser

K = 3
TASK = replace(multilabel, input="picture")  # a batch has the names that a task says


@pytest.fixture(scope="module")
def spots():
    """A source "spots": bright squares in any of K places, each place a label."""

    def load(argument, part, data_dir):
        rng = np.random.default_rng(len(part))
        labels = rng.random(({"train": 40, "test": 30}[part], K)) < 0.4
        images = rng.integers(0, 60, (len(labels), 16, 16, 1), np.uint8)
        for label in range(K):
            images[labels[:, label], 4 * label : 4 * label + 4, :8] += 150
        return Dataset("spots", part, ("top", "middle", "low"), images, labels)

    sources.SOURCES["spots"] = load
    yield
    del sources.SOURCES["spots"]


@pytest.fixture(scope="module")
def trained(spots, tmp_path_factory):
    """(recipe, variables) of two steps."""
    base = recipes.build("classifier", {"data": "spots", "batch_size": 8})
    phase = replace(
        base.phases[0],
        steps=2,
        terms=(Term(BinaryCrossEntropy()),),
        optimiser=Optimiser("adam", 1e-3),
    )
    recipe = replace(base, phases=(phase,), task=TASK)
    folder = tmp_path_factory.mktemp("multilabel")
    variables = loop.fit(recipe, folder, log_every=1)
    log = (folder / "metrics.jsonl").read_text()
    assert '"f1"' in log and '"score"' not in log  # one number an example is logged
    return recipe, variables


def test_measured_and_reported_by_its_own_figure(trained, tmp_path):
    recipe, variables = trained
    test = sources.load("spots", "test")
    net = cut_at(recipe.net, recipe.net.names[0], Affine())
    (split,) = (split.name for split in net.splits)
    with_cut = Variables(*({**part, split: {}} for part in variables))
    codecs = codecs_of(net, with_cut, test.example())
    found = {
        "local-only": rate.measure(
            recipe.net, variables, {}, test, task=TASK, batch_size=16
        ),
        "quantised": rate.measure(
            net, with_cut, codecs, test, task=TASK, batch_size=16
        ),
    }
    rows = [
        rate.row(found["local-only"], recipe.net, variables, test.example(),
                 method="local-only", family="reference"),
        rate.row(found["quantised"], net, with_cut, test.example(), method="8 bit"),
    ]  # fmt: skip
    logits, labels = found["local-only"].metrics["score"], test.labels
    mean = np.mean([average_precision(logits[:, k], labels[:, k]) for k in range(K)])
    assert rows[0].quality == pytest.approx(mean) and rows[0].metric == "mAP"
    assert found["quantised"].disagreements == 0
    assert found["quantised"].examples == len(test) == 30
    report.write(rows, tmp_path, title="Spots", facts={})
    assert report.read(tmp_path) == rows
    page = (tmp_path / "report.md").read_text("utf-8")
    assert "| mAP % (test) |" in page and "## Bytes at equal mAP" in page
    assert "top-1" not in page and "accuracy" not in page.replace("_accuracy", "")


def test_recipes_are_checked_against_their_task_before_training(trained):
    training.check(trained[0])
    wrong = replace(trained[0], task=replace(TASK, logits=lambda logits: logits[:, 0]))
    with pytest.raises(UsageError, match=r"task 'multilabel': logits has shape"):
        training.check(wrong)


def test_a_figure_does_not_depend_on_the_batches(trained):
    """The set's figure comes from its examples at once, over batches of any size."""
    recipe, variables = trained
    test = sources.load("spots", "test")
    small, large = (
        rate.measure(recipe.net, variables, {}, test, task=TASK, batch_size=size)
        for size in (7, 30)
    )
    assert small.figure == pytest.approx(large.figure, abs=1e-6)
    assert jax.tree.map(np.shape, small.metrics) == jax.tree.map(
        np.shape, large.metrics
    )
