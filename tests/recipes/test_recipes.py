"""Every recipe: documented, valid, trained for two steps a phase, measured in bytes."""

import dataclasses
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sc_jax import recipes
from sc_jax.compressors.splits import codecs_of
from sc_jax.data import sources
from sc_jax.errors import UsageError
from sc_jax.evaluate.rate import measure
from sc_jax.losses.terms import Context
from sc_jax.nets.net import FINAL, match
from sc_jax.recipes import RECIPES, build, common, tiny
from sc_jax.traces.record import record
from sc_jax.train import loop
from sc_jax.train.serialisation import agrees, describe, override
from sc_jax.train.validation import validate

TAUGHT = [name for name in RECIPES if name != "classifier"]
DECODED = ("ghnd", "hnd", "cross_entropy", "entropic_student", "reconstruction")
EXAMPLE = np.zeros((1, 28, 28, 1), np.uint8)


def small(name: str):
    """The tiny preset, two steps a phase, batches of 16."""
    return cut_short(build(name, tiny(name)))


def cut_short(recipe):
    for i in range(len(recipe.phases)):
        recipe = override(recipe, f"phases.{i}.steps=2")
    return override(recipe, "data.batch_size=16")


@pytest.mark.parametrize("name", RECIPES)
def test_file_docstring_and_preset(name):
    module = sys.modules[RECIPES[name].__module__]
    assert f"--recipe={name}" in (module.__doc__ or "")
    assert "Expected" in module.__doc__ and "https://" in module.__doc__  # the paper
    lines = inspect.getsource(module).count("\n")
    assert 25 <= lines <= 90, f"{name}: {lines} lines"
    assert set(tiny(name)) <= set(recipes.knobs_of(name))
    assert RECIPES[name].__doc__


@pytest.mark.parametrize("name", RECIPES)
def test_tiny_preset_validates_describes_and_compares(name):
    recipe, again = build(name, tiny(name)), build(name, tiny(name))
    assert recipe.name == name
    validate(recipe, EXAMPLE)
    text = json.dumps(describe(recipe), sort_keys=True)
    assert text == json.dumps(describe(again), sort_keys=True)
    other = override(recipe, "seed=7")
    assert describe(other) != describe(recipe)
    for phase in recipe.phases:
        assert phase.steps >= 1 and match(recipe.net, phase.trainable)


@pytest.mark.parametrize("backbone", ["cnn", "wrn16_2"])
@pytest.mark.parametrize("name", DECODED)
def test_a_decoder_ends_as_the_feature_that_it_restores(name, backbone):
    """A wide residual group ends in a sum without ReLU, the small network in ReLU."""
    net = build(name, tiny(name) | {"backbone": backbone}).net
    decoder = net.stages[net.names.index("decoder")].module
    assert decoder.linear == (backbone == "wrn16_2")


def test_the_recipe_in_the_documentation_runs_from_a_file(tmp_path):
    text = (Path(__file__).parents[2] / "docs/adding_a_part.md").read_text()
    file = tmp_path / "mine.py"
    file.write_text(text.split("```python\n")[1].split("```")[0])
    recipe = build(str(file), {"epochs": 0.1, "beta": 0.5})
    validate(recipe, EXAMPLE)
    assert recipe.net.names[:3] == ("normalise", "encoder", "decoder")
    assert match(recipe.net, recipe.phases[0].trainable) < set(recipe.net.parts)
    assert "beta" in recipe.setting and recipe.phases[0].terms[-1].weight == 0.5
    file = tmp_path / "sooner.py"
    file.write_text(text.split("```python\n")[2].split("```")[0])
    recipe = build(str(file), {"epochs": 0.1})
    validate(recipe, EXAMPLE)
    assert len(recipe.net.exit_names) == len(recipe.phases[0].terms) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no recipe file"),
        ("def other(): pass", "has no recipe mine"),
        ("import nothing_of_the_kind", "does not load: ModuleNotFoundError"),
        ("def mine(", "does not load: SyntaxError"),
    ],
)
def test_a_mistaken_recipe_file_is_one_line(text, message, tmp_path):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message):
        build(str(file), {})


@pytest.mark.parametrize("name", RECIPES)
def test_mistaken_knobs_are_one_line(name):
    for knobs, hint in [
        ({"sed": 1}, "'seed'"),
        ({"seed": "one"}, "a whole number, 0 or more"),
        ({"seed": -1}, "0 or more, not -1"),
        ({"batch_size": 0}, "1 or more, not 0"),
        ({"backbone": 18}, "a name, not 18"),
        ({"backbone": "resnet19"}, "resnet18"),
        ({"data": "fashion_mnist_12"}, "fashion_mnist_12k"),
    ]:
        with pytest.raises(UsageError, match=hint) as caught:
            build(name, knobs)
        assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_suggested():
    with pytest.raises(UsageError, match="did you mean 'ghnd'"):
        build("ghmd", {})


def test_overrides_check_types_and_suggest():
    recipe = build("ghnd", tiny("ghnd"))
    new = override(recipe, "phases.generalised.optimiser.learning_rate=1")
    assert new.phases[0].optimiser.learning_rate == 1.0
    assert recipe.phases[0].optimiser.learning_rate == 1e-3
    assert override(recipe, "phases.0.steps=9").phases[0].steps == 9
    assert override(recipe, "data.augment=none").data.augment == "none"
    for wrong, hint in [
        ("data.batch_sise=3", "'batch_size'"),
        ("phases.generalized.steps=3", "'generalised'"),
        ("phases.1.steps=3", "generalised"),
        ("phases.0.steps=two", "not a int"),
        ("phases.0.steps=2.5", "not a int"),
        ("seed", "path=value"),
    ]:
        with pytest.raises(UsageError, match=hint) as caught:
            override(recipe, wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TAUGHT)
def test_a_phase_that_trains_the_encoder_gives_it_a_true_gradient(name):
    """Rounding has none: the split must train too, or pass its latent unchanged."""
    recipe = small(name)
    for phase in recipe.phases:
        training = match(recipe.net, phase.trainable)
        if "encoder" in training:
            assert "split@encoder" in training, phase.name


def taught(recipe):
    """The teacher's variables as if trained: those of no init of the student."""
    variables = loop.first_variables(recipe.teacher, None, EXAMPLE)
    return jax.tree.map(lambda leaf: leaf + np.asarray(0.01, leaf.dtype), variables)


@pytest.mark.parametrize("name", RECIPES)
def test_trains_two_steps_a_phase_and_measures(name, tmp_path):
    recipe = small(name)
    teacher = None if recipe.teacher is None else taught(recipe)
    variables = loop.fit(recipe, tmp_path, teacher)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    records = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in records]
    assert {r["phase"] for r in records} == {p.name for p in recipe.phases}
    assert all(np.isfinite(r["loss"]) for r in records)
    codecs = codecs_of(recipe.net, variables, EXAMPLE)
    test = sources.load("fashion_mnist_12k", "test").take(np.arange(20))
    if recipe.net.exits:
        made = record(
            recipe.net, variables, test, net_name=name, codecs=codecs, batch_size=20
        ).trace
        assert made.answers.shape == (len(recipe.net.exit_names), 20, 10)
        assert (np.diff(made.cost) > 0).all()
        assert np.ptp(made.answers, axis=2).min() > 0
    if recipe.net.splits or not recipe.net.exits:
        measured = measure(recipe.net, variables, codecs, test, batch_size=20)
        assert measured.disagreements == 0
        assert len(measured.metrics[recipe.task.quality]) == 20
    if recipe.net.splits:
        assert (measured.payload_bytes > 0).all()
        assert (measured.framed_bytes > measured.payload_bytes).all()
    if teacher is not None:  # what no phase trains is the teacher's own, bit for bit
        hot = {p for ph in recipe.phases for p in match(recipe.net, ph.trainable)}
        for part in set(recipe.net.parts) & set(teacher.params) - hot:
            same = jax.tree.map(
                np.array_equal, variables.params[part], teacher.params[part]
            )
            assert all(jax.tree.leaves(same)), part


def test_bottlefit_starts_with_hints_at_the_cut_and_at_every_later_group():
    made = build("bottlefit", tiny("bottlefit") | {"backbone": "resnet18"})
    labels = [term.label for term in made.phases[0].terms]
    assert labels == [f"hint_layer{i}" for i in (1, 2, 3, 4)]
    assert (
        made.phases[0].terms == build("ghnd", {"backbone": "resnet18"}).phases[0].terms
    )
    published = build("bottlefit", {"backbone": "resnet50", "pair": "hnd"})
    hints = [term.loss for term in published.phases[0].terms]
    assert hints[0].student == "decoder" and hints[0].teacher == "layer2.3"
    assert [hint.teacher for hint in hints[1:]] == ["layer3.5", "layer4.2"]


def test_momentum_is_nesterovs_unless_said():
    recipe = build("bottlefit", tiny("bottlefit"))
    for text in ("name=sgd", "nesterov=False", "weight_decay=0.01"):
        recipe = override(recipe, f"phases.stage2.optimiser.{text}")
    plain = recipe.phases[1].optimiser

    def steps(optimiser):
        build = optimiser.build(10)
        state, w, moved = build.init(jnp.ones(())), jnp.ones(()), []
        for _ in range(2):
            update, state = build.update(jnp.ones(()), state, w)
            moved.append(float(update))
        return moved

    # Of a constant gradient 1 + decay: v, then 0.9 v + v; Nesterov's is one ahead.
    once = 1.01 * float(plain.rate(10)(0))
    again = float(plain.rate(10)(1) / plain.rate(10)(0))
    assert steps(plain) == pytest.approx([-once, -1.9 * once * again], rel=1e-3)
    ahead = steps(dataclasses.replace(plain, nesterov=True))
    assert ahead == pytest.approx([-1.9 * once, -2.71 * once * again], rel=1e-3)


def test_shallow_epochs_are_stage_one_without_the_hints_behind_the_cut():
    knobs = tiny("entropic_student")
    plain = build("entropic_student", knobs)
    recipe = build("entropic_student", knobs | {"shallow_epochs": 0.02, "window": 14})
    shallow, *rest = recipe.phases
    assert tuple(rest) == plain.phases
    assert shallow.steps == 2 * plain.phases[0].steps
    labels = [term.label for term in shallow.terms]
    assert labels == ["hint_layer1", "bits"]
    assert set(labels) < {term.label for term in plain.phases[0].terms}
    assert shallow.trainable == plain.phases[0].trainable
    beta, steps = plain.phases[0].terms[-1].weight, shallow.steps
    weights = [float(shallow.terms[-1].weight(step)) for step in (0, steps / 2, steps)]
    more = (28 / 14) ** 2  # a quarter of the pixels has a quarter of the bits
    assert weights == pytest.approx([0, more * beta / 2, more * beta])


def test_logits_are_a_distortion_that_reads_no_labels():
    """Weight 0 leaves the published stage as it is."""
    plain = build("entropic_student", tiny("entropic_student"))
    recipe = build("entropic_student", tiny("entropic_student") | {"logits": 2.0})
    *hints, answers, rate = recipe.phases[0].terms
    assert (*hints, rate) == plain.phases[0].terms
    assert (answers.label, answers.weight) == ("logits", 2.0)
    rng = np.random.default_rng(0)
    theirs, ours = (rng.normal(size=(4, 10)).astype(np.float32) for _ in range(2))
    outputs = lambda logits: SimpleNamespace(predictions={FINAL: logits})  # noqa: E731
    found = answers.loss(Context(outputs(ours), outputs(theirs), {}))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (theirs, ours))
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(1), rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "zero", "one"),
    [
        ("mobilenetv2", (123.675, 116.28, 103.53), (182.07, 173.4, 160.905)),
        ("efficientnet_lite0", (127,) * 3, (255,) * 3),
    ],
)
def test_a_public_checkpoint_brings_its_own_normalisation(backbone, zero, one):
    """Pixels that become 0 and 1; without a checkpoint they are the data's."""
    facts = common.Facts(10, 100, (0.25,) * 3, (0.5,) * 3, (32, 32, 3))
    knobs = {"backbone": backbone, "epochs": 0}
    with common.known(facts):
        public = build("classifier", knobs | {"pretrained": "net.pth"}).net
        own = build("classifier", knobs).net
    for net, pixels in ((public, (zero, one)), (own, ((63.75,) * 3, (191.25,) * 3))):
        x = np.float32(pixels).reshape(2, 1, 1, 3)
        found = net.stages[0].module.apply({}, x, train=False)
        expected = np.zeros_like(x) + np.float32([0, 1]).reshape(2, 1, 1, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_saved_recipe_agrees_unless_something_that_it_tells_changed():
    """A field that came later stands at its default in runs that do not know it."""
    recipe = build("entropic_student", tiny("entropic_student"))
    saved = json.loads(json.dumps(describe(recipe)))
    assert agrees(saved, recipe)
    assert not agrees(saved, override(recipe, "phases.stage1.steps=77"))
    assert not agrees(saved | {"net": {}}, recipe) and not agrees([], recipe)
    assert not agrees(saved | {"later": 1}, recipe)
    del saved["pretrained"], saved["teacher"]["pretrained"]
    assert agrees(saved, recipe)
    assert not agrees(saved, dataclasses.replace(recipe, pretrained="net.pth"))
    del saved["phases"][0]["steps"]  # it has no default
    assert not agrees(saved, recipe)


@pytest.mark.parametrize(
    "name", ["shallow_deep", "zero_time_waste", "pomponi", "eenet", "jei_dnn"]
)
def test_exits_on_a_checkpoint_that_stays_as_it_is(name):
    """A classifier that came trained has no phase; its exits train as on any other."""
    frozen = {"frozen": True} if name in ("shallow_deep", "eenet") else {}
    same = {"backbone": "cnn", **frozen}
    trained = recipes.build(name, {**same, "pretrained": "a.pth", "teacher_epochs": 0})
    usual = recipes.build(name, same)
    assert trained.teacher.phases == () and usual.teacher.phases
    kept = [
        [(p.name, p.steps, p.optimiser) for p in r.phases] for r in (trained, usual)
    ]
    assert kept[0] == kept[1]
