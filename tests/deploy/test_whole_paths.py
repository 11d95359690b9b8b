"""Trained, exported, served and asked by a device: every form answers as the run."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("litert_converter", reason="the extra export is not installed")

import sc_jax
from sc_jax.data import sources
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.device import answers
from sc_jax.deploy.device.device import Device, connect
from sc_jax.deploy.export import package
from sc_jax.deploy.export.convert import ExportError
from sc_jax.deploy.server import models, tails
from sc_jax.deploy.wire.client import Client
from sc_jax.evaluate import budgets
from sc_jax.evaluate.reports import exit_report
from sc_jax.runs import exit_runs, run_folder
from sc_jax.tasks import multilabel
from sc_jax.traces import record

RECIPE = '''
from dataclasses import replace

from sc_jax.compressors import FactorizedPrior, Image
from sc_jax.losses.task import BinaryCrossEntropy
from sc_jax.losses.terms import Term
from sc_jax.nets.backbones.cnn import cnn
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.net import Exit, Net, cut_at
from sc_jax.recipes.classifier import classifier
from sc_jax.tasks import multilabel


def spotted(*, cut: str = "", exits: bool = True, **shared):
    """Labels of several spots, an exit before the split and one behind it."""
    base = classifier(data="spots", batch_size=8, epochs=20.0, augment="none", **shared)
    places = ("stem", "layer1") if exits else ()
    early = tuple(Exit(name, PooledLinear(3)) for name in places)
    net = Net((base.net.stages[0], *cnn(classes=3, width=4)), early)
    terms = tuple(Term(BinaryCrossEntropy(n), name=n) for n in net.exit_names)
    if cut:
        net = cut_at(net, cut, Image() if cut == "input" else FactorizedPrior())
    phase = replace(base.phases[0], terms=terms, steps=30 if exits else 1)
    return replace(
        base, name="spotted", title="S", net=net, phases=(phase,), task=multilabel
    )
'''
SPOTS = ("top", "middle", "low")


@pytest.fixture(scope="module")
def spotted(tmp_path_factory):
    """cut -> the folder of a run over "spots": bright squares, each place a label."""

    def load(argument, part, data_dir):
        rng = np.random.default_rng(len(part))
        labels = rng.random(({"train": 64, "test": 32}[part], 3)) < 0.4
        images = rng.integers(0, 60, (len(labels), 16, 16, 1), np.uint8)
        for label in range(3):
            images[labels[:, label], 5 * label : 5 * label + 5, :8] += 150
        return Dataset("spots", part, SPOTS, images, labels)

    root = tmp_path_factory.mktemp("spots")
    (root / "spotted.py").write_text(RECIPE)

    def train(cut, exits=True):
        name, knobs = f"{cut or 'whole'}{exits:d}", {"cut": cut, "exits": exits}
        recipe = f"{root / 'spotted.py'}"
        sc_jax.train(recipe, root / name, report=False, **knobs)
        return root / name

    sources.SOURCES["spots"] = load
    yield train
    del sources.SOURCES["spots"]


@pytest.fixture(scope="module")
def split(spotted):
    """A run that is split behind its first exit, its test images, bundle and tail."""
    run = spotted("stem")
    options = {"policy": "threshold:shares=(0.5,0.5)", "max_drop_points": 100.0}
    made, proof = package.package(run, run / "b", max_more_bytes=9.0, **options)
    tails.pack(run, run / "t.tail")
    test = run_folder.dataset_of(run_folder.recipe_of(run), "test")
    return SimpleNamespace(run=run, made=made, proof=proof, test=test)


def test_forms_of_one_run_answer_alike(split):
    run, bundled, tail = map(
        sc_jax.load, (split.run, split.run / "b", split.run / "t.tail")
    )
    images = split.test.images
    answer, device = run(images), bundled(images)
    np.testing.assert_allclose(answer["exit_logits"][0], device["exit@stem"], atol=1e-5)
    np.testing.assert_array_equal(answer["labels"], answer["logits"] > 0)
    share = 1 / (1 + np.exp(-answer["logits"]))
    np.testing.assert_allclose(answer["probabilities"], share, rtol=1e-5)
    for i, image in enumerate(images[:4]):
        sent = bundled.encode(image)
        assert len(sent) == device["framed_bytes"][i]
        latent = bundled.decode(sent)["latent"]
        own = run.decode(run.encode(image))
        assert len(run.encode(image)) == answer["framed_bytes"][i]
        for other in (
            run.decode(sent, bundle=bundled),
            tail.decode(sent, bundle=bundled),
        ):
            np.testing.assert_array_equal(other["latent"], latent)
            np.testing.assert_array_equal(own["latent"], latent)
            np.testing.assert_allclose(other["logits"], answer["logits"][i], atol=1e-5)
    macs = dict(zip(run.cost["exit"], run.cost["macs"]))
    assert bundled.cost == {
        "exit": ["exit@stem", "final"], "macs": [macs["exit@stem"], macs["final"]]
    }  # fmt: skip
    assert (bundled.facts["dtype"], bundled.facts["head_dtype"]) == ("uint8", "float32")
    assert bundled.facts["task"] == run.facts["task"] == "multilabel"


def test_a_device_and_its_server_answer_with_labels(split, start):
    """Exits behind the split do not answer; mAP is what the export has proved."""
    model = sc_jax.load(split.run)
    exact = model(split.test.images)
    server = start(models.load_all([str(split.run)]), sizes=(1,))
    device = Device(
        bundle.read(split.run / "b.zip"), connect(server.address), deadline_s=60
    )
    found = [device.infer(image) for image in split.test.images]
    assert {a.exit for a in found} == {"exit@stem", "edge"}
    leaves = np.array([a.exit == "exit@stem" for a in found])
    left = split.proof.leaving
    assert left.shares == {"exit@stem": leaves.mean(), "final": 1 - leaves.mean()}
    chosen = np.where(leaves[:, None], exact["exit_logits"][0], exact["logits"])
    logits = np.stack([a.outputs["logits"] for a in found])
    np.testing.assert_allclose(logits, chosen, atol=1e-4)
    metrics = multilabel.metrics(logits, {"label": split.test.labels})
    assert left.quality == pytest.approx(multilabel.summary(metrics)["mAP"], abs=1e-4)
    for answer in found:
        assert answer.prediction is None and answer.outputs["labels"].shape == (3,)
    names = [np.array(SPOTS)[a.outputs["labels"]].tolist() for a in found]
    files = tuple(map(str, range(len(found))))
    examples = Dataset(
        "spots", "test", SPOTS, split.test.images, split.test.labels, files
    )
    assert [row["labels"] for row in answers.rows(found, examples, SPOTS)] == names


def test_a_report_names_the_quality_that_is_no_accuracy(split):
    recipe = run_folder.recipe_of(split.run)
    found = exit_runs.measure(recipe, split.run, split.test)
    last = np.full(len(split.test), 2)
    row = budgets.evaluate_exits("whole", found, last)
    heading = exit_report.table([row], found.trace.exits).splitlines()[0]
    assert "f1 %" in heading and "accuracy" not in heading


def test_a_run_that_sends_its_images_is_opened_and_served_without_a_bundle(
    spotted, start, tmp_path
):
    run = spotted("input", exits=False)
    model = sc_jax.load(run)
    image = run_folder.dataset_of(model.recipe, "test").images[0]
    sent = model.encode(image)
    assert model(image)["framed_bytes"] == len(sent)
    bare, shapes = replace(model.net, splits=()), model.variables
    (macs,) = record.exit_costs(bare, shapes, image[None])
    assert model.cost["macs"] == [macs]
    server = start(models.load_all([f"spots={run}"]), sizes=(1,))
    with Client(server.address) as client:
        reply = client.infer("spots", sent)
    np.testing.assert_allclose(reply.logits, model(image)["logits"], atol=1e-5)
    with pytest.raises(ExportError, match="sends the image itself"):
        package.package(run, tmp_path / "b")
