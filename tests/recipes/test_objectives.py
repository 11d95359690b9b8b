"""What each recipe of early exits minimises, read off its phases."""

import pytest

from sc_jax.errors import UsageError
from sc_jax.losses.distillation import KnowledgeDistillation
from sc_jax.losses.exits import (
    AdaptiveWeights,
    AssignedCrossEntropy,
    ExitDistillation,
    OwnCrossEntropy,
    WeighedCrossEntropy,
)
from sc_jax.losses.gates import (
    ConfidenceTarget,
    GateCost,
    GatedCrossEntropy,
    GateTarget,
    Halving,
    Mixture,
    Rising,
)
from sc_jax.losses.task import CrossEntropy
from sc_jax.nets.exit_classifiers.classifiers import Boosted
from sc_jax.nets.exit_classifiers.gated import Softening
from sc_jax.nets.net import FINAL, match
from sc_jax.recipes import build, tiny
from sc_jax.recipes.common import steps


def made(name, **knobs):
    return build(name, tiny(name) | knobs)


def weights(phase, kind):
    """exit -> weight, of the terms of one kind of loss."""
    terms = [term for term in phase.terms if type(term.loss) is kind]
    return {term.loss.exit: term.weight for term in terms}


def heads_only(recipe, phase):
    trained = match(recipe.net, phase.trainable)
    return bool(trained) and all(part.startswith("exit@") for part in trained)


@pytest.mark.parametrize(
    "name", ["msdnet", "ranet", "icnn", "ddnn", "lo", "spinn", "chiang", "eenet"]
)
def test_plain_joint_training_weighs_all_exits_alike(name):
    recipe = made(name)
    (phase,) = recipe.phases
    assert weights(phase, CrossEntropy) == dict.fromkeys(recipe.net.exit_names, 1.0)
    assert len(phase.terms) == len(recipe.net.exit_names)
    assert match(recipe.net, phase.trainable) == set(recipe.net.parts)
    assert phase.gradients == "sum" and recipe.teacher is None


def test_branchynet_trains_the_backbone_first_and_then_all_exits():
    recipe = made("branchynet", last_weight=0.3)
    first, second = recipe.phases
    assert weights(first, CrossEntropy) == {FINAL: 1.0} and len(first.terms) == 1
    assert not any(p.startswith("exit@") for p in match(recipe.net, first.trainable))
    assert list(weights(second, CrossEntropy).values()) == [1.0, 1.0, 1.0, 0.3]


def test_shallow_deep_weighs_by_depth_and_may_freeze_its_trunk():
    recipe = made("shallow_deep")
    given = list(weights(recipe.phases[0], CrossEntropy).values())
    assert given == pytest.approx([0.1, 0.2, 0.3, 0.4]) and recipe.teacher is None
    frozen = made("shallow_deep", frozen=True)
    assert heads_only(frozen, frozen.phases[0]) and frozen.teacher.name == "classifier"


def test_imta_has_an_equilibrium_teacher_and_heads_that_learn_from_its_last_exit():
    recipe = made("imta", gamma=0.2, tau=3.0)
    assert recipe.teacher.phases[0].gradients == "equilibrium"
    (phase,) = recipe.phases
    assert heads_only(recipe, phase)
    early = [t.loss for t in phase.terms if type(t.loss) is KnowledgeDistillation]
    assert [d.exit for d in early] == list(recipe.net.exit_names[:-1])
    assert all((d.alpha, d.tau) == (0.8, 3.0) for d in early)  # gamma is the teacher's
    assert weights(phase, CrossEntropy) == {FINAL: 1.0}
    assert all(e.module.link > 0 for e in recipe.net.exits)


def test_phuong_splits_labels_and_the_last_exit_by_c_and_scales_by_exits():
    recipe = made("phuong", share=0.25)
    (phase,), names = recipe.phases, recipe.net.exit_names
    scale = 2 * 5 / len(names)
    assert weights(phase, CrossEntropy) == dict.fromkeys(names, scale * 0.75)
    taught = weights(phase, ExitDistillation)
    assert taught == dict.fromkeys(names[:-1], scale * 0.25)
    kinds = [t.loss for t in phase.terms if type(t.loss) is ExitDistillation]
    assert {(loss.teachers, loss.tau) for loss in kinds} == {((FINAL,), None)}
    last = recipe.net.exits[-1].module
    assert type(last) is Softening and last.sharpness == 0.5


def test_boostnet_boosts_every_exit_under_equilibrium():
    recipe = made("boostnet", scale=0.7)
    assert recipe.phases[0].gradients == "equilibrium"
    assert all(type(e.module) is Boosted for e in recipe.net.exits)
    assert {e.module.scale for e in recipe.net.exits} == {0.7}


def test_l2w_den_looks_ahead_with_what_its_last_exit_owns():
    recipe = made("l2w_den", eps=0.4)
    (phase,) = recipe.phases
    loss = phase.terms[0].loss
    assert type(loss) is WeighedCrossEntropy and loss.eps == 0.4
    assert loss.owner == recipe.net.exits[-1].name
    assert phase.look_ahead.learns == "weigher"
    assert loss.centring == "mat" and made("l2w_den").phases[0].terms[0].loss.eps == 0.3
    assigned = phase.look_ahead.terms[0].loss
    assert type(assigned) is AssignedCrossEntropy
    # Fewer at later exits, 0.75^k of them.
    ratios = [b / a for a, b in zip(assigned.shares, assigned.shares[1:])]
    assert ratios == pytest.approx([0.75] * (len(assigned.exits) - 1))


def test_zero_time_waste_trains_heads_alone_and_ensembles_of_all():
    recipe = made("zero_time_waste")
    (phase,) = recipe.phases
    assert heads_only(recipe, phase)
    names = [e.name for e in recipe.net.exits]
    assert weights(phase, OwnCrossEntropy) == dict.fromkeys(names[:-1], 1.0)
    assert weights(phase, CrossEntropy) == dict.fromkeys(names, 1.0)


def test_jei_dnn_warms_early_heads_most_and_then_trains_gates_for_their_price():
    recipe = made("jei_dnn", price=0.25)
    warm, gates = recipe.phases
    assert heads_only(recipe, warm) and heads_only(recipe, gates)
    assert list(weights(warm, CrossEntropy).values()) == [4.0, 3.0, 2.0, 1.0]
    first, second = (term.loss for term in gates.terms)
    assert type(first) is GatedCrossEntropy and type(second) is GateTarget
    assert second.price == 0.25 and second.costs[-1] == 1.0
    assert list(second.costs) == sorted(second.costs)


def test_pomponi_mixes_logits_over_a_frozen_network_but_its_last_layer():
    recipe = made("pomponi", beta=0.6)
    (phase,) = recipe.phases
    halves = Halving(steps(recipe.data, 1))
    mixture = Mixture(recipe.net.exit_names, "logits", halves, masked=True)
    assert phase.terms[0].loss == mixture
    assert recipe == made("pomponi", beta=0.6)
    exits = {e.name for e in recipe.net.exits}
    assert match(recipe.net, phase.trainable) == exits | {"fc"}
    assert recipe.teacher.name == "classifier"
    # Beta is of the mean over branches.
    rising = Rising(phase.steps, 0.6 / len(exits))
    assert weights(phase, ConfidenceTarget) == dict.fromkeys(exits, rising)
    joint = made("pomponi", over="losses", frozen=False, masked=False)
    assert match(joint.net, joint.phases[0].trainable) == set(joint.net.parts)
    assert joint.teacher is None and joint.phases[0].terms[0].loss.over == "losses"


def test_dynexit_leans_on_later_exits_by_their_cost():
    (phase,) = made("dynexit", priority=1.0).phases
    loss = phase.terms[0].loss
    assert type(loss) is AdaptiveWeights and loss.priorities[-1] == 1.0
    assert list(loss.priorities) == sorted(loss.priorities)


def test_ddi_steers_its_last_gated_stage():
    recipe = made("ddi", target=0.6, price=2.0)
    term = recipe.phases[0].terms[-1]
    assert type(term.loss) is GateCost and term.weight == 2.0
    assert term.loss.target == 0.6 and term.loss.stage == "layer3.1"


def test_the_filter_alone_is_trained_and_its_class_must_exist():
    recipe = made("neural_filter", negative=3)
    assert match(recipe.net, recipe.phases[0].trainable) == {"exit@stem"}
    assert recipe.net.exits[0].module.negative == 3


def test_entropic_exits_freezes_encoder_and_prior_behind_the_first_phase():
    recipe = made("entropic_exits")
    hints, distil = recipe.phases
    frozen = {"encoder", "split@encoder"}
    assert frozen <= match(recipe.net, hints.trainable)
    trained = match(recipe.net, distil.trainable)
    assert not frozen & trained and {"exit@encoder", "decoder"} <= trained
    assert set(weights(distil, KnowledgeDistillation)) == set(recipe.net.exit_names)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("neural_filter", {"negative": 10}, "no class 10 of 10"),
        ("imta", {"backbone": "cnn"}, "links exit classifiers of MSDNet"),
        ("zero_time_waste", {"backbone": "msdnet_tiny"}, "no classifier of its own"),
        ("entropic_exits", {"stage1_epochs": 0.0}, "both stages"),
        ("spinn", {"exits": 9}, "1 to 3, the places of cnn, not 9"),
        ("entropic_student", {"backbone": "msdnet_tiny"}, "takes no bottleneck"),
    ],
)
def test_what_a_recipe_cannot_be_made_of_is_one_line(name, knobs, message):
    with pytest.raises(UsageError, match=message) as caught:
        made(name, **knobs)
    assert "\n" not in str(caught.value)
