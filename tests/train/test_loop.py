"""The trainer: resumed bit for bit, frozen parts kept, trouble told in one line."""

import json
import math
import os
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from sc_jax.compressors.splits import codecs_of
from sc_jax.data.pipeline import Batches
from sc_jax.errors import UsageError
from sc_jax.losses.terms import Term
from sc_jax.recipes import build
from sc_jax.train.checkpoint import Checkpoints
from sc_jax.train.loop import first_variables, fit
from sc_jax.train.running import Diverged, Stopped
from sc_jax.train.serialisation import override
from sc_jax.train.step import begin, divide, make_step
from sc_jax.train.validation import validate

EXAMPLE = np.zeros((1, 16, 16, 1), np.uint8)
OFTEN = {"log_every": 2, "save_every": 2}


@pytest.fixture(scope="module")
def whole(student, taught, tmp_path_factory):
    """(workdir, variables, the teacher's before) of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    before = jax.device_get(taught)
    return workdir, fit(student, workdir, taught, keep=9, **OFTEN), before


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def saved(workdir, recipe):
    """(newest step, meta, variables, tables) of a finished run."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.latest()
    like = first_variables(recipe, None, EXAMPLE)
    found = checkpoints.arrays(step, like), checkpoints.tables(step)
    found = step, checkpoints.meta(step), *found
    checkpoints.close()
    return found


@pytest.mark.parametrize("step", [1, 3, 4, 7])
def test_a_broken_run_resumes_bit_for_bit(
    step, student, taught, whole, same, breaking, tmp_path
):
    mend = breaking(step)
    with pytest.raises(KeyboardInterrupt):
        fit(student, tmp_path, taught, **OFTEN)
    mend()
    variables = fit(student, tmp_path, taught, **OFTEN)
    same(variables, whole[1])
    ours, theirs = saved(tmp_path, student), saved(whole[0], student)
    assert ours[:2] == theirs[:2]
    same(ours[2:], theirs[2:])
    losses = [(r["step"], r["loss"]) for r in records(tmp_path)]
    assert losses == [(r["step"], r["loss"]) for r in records(whole[0])]


@pytest.mark.parametrize("step", [2, 3, 6])
def test_sigterm_saves_the_step_it_came_in(
    step, student, taught, whole, same, monkeypatch, tmp_path
):
    """Step 3 is the last of phase 1: the signal must not get lost there."""
    real = Batches.__next__

    def asked(self):
        if self.get_state()["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__next__", asked)
        with pytest.raises(Stopped, match=f"step {step + 1}, saved"):
            fit(student, tmp_path, taught, log_every=50, save_every=50)
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "checkpoints" / str(step + 1)).is_dir()
    same(fit(student, tmp_path, taught, **OFTEN), whole[1])


def test_a_finished_run_is_read_not_trained(student, taught, whole, same, breaking):
    breaking(0)
    same(fit(student, whole[0], taught), whole[1])


def test_parts_not_named_keep_every_bit(student, taught, whole, same):
    workdir, final, before = whole
    start = first_variables(student, taught, EXAMPLE)
    current, cold = raw_arrays(workdir, 4)  # where stage 2 begins
    hot, state = current["hot"], current["state"]
    middle = {**hot, **cold}
    for part in ("layer2", "layer3", "fc"):  # stage 1 trains what lies before
        same(dict(middle[part]), jax.device_get(start.params[part]))
        assert any_change(final.params[part], middle[part])
    for part in ("encoder", "split@encoder"):  # stage 2 what lies behind
        same(final.params[part], middle[part])
        same(final.state[part], state.get(part) or {})
        assert any_change(start.params[part], middle[part])
    assert any_change(start.state["layer2"], final.state["layer2"])
    same(taught, before)


def raw_arrays(workdir, step):
    """The saved arrays of a step as they lie on disk, with no net to shape them."""
    restore = ocp.args.StandardRestore()
    with ocp.CheckpointManager((workdir / "checkpoints").absolute()) as manager:
        return manager.restore(step, args=ocp.args.Composite(arrays=restore))["arrays"]


def any_change(a, b):
    a, b = jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b))
    return any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_saved_tables_are_those_of_the_final_weights(student, whole):
    _, meta, variables, tables = saved(whole[0], student)
    assert meta["phase"] == 2 and set(tables) == {"split@encoder"}
    frozen = codecs_of(student.net, variables, EXAMPLE)
    medians = frozen["split@encoder"].medians
    assert np.array_equal(tables["split@encoder"]["medians"], medians)


def test_weights_are_on_disk_before_codecs_are_made(
    student, taught, whole, same, monkeypatch, tmp_path
):
    """What fails in a codec loses nothing: the same command makes the tables."""
    from sc_jax.train import loop

    def broken(*_):
        raise TypeError("no codec")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "codecs_of", broken)
        with pytest.raises(TypeError, match="no codec"):
            fit(student, tmp_path, taught, **OFTEN)
    variables = fit(student, tmp_path, taught, **OFTEN)
    same(variables, whole[1])
    same(saved(tmp_path, student)[2:], saved(whole[0], student)[2:])


def test_a_longer_last_phase_goes_on_from_the_end(classifier, same, tmp_path):
    """With a constant rate it is the run that was longer from the start, bit for bit.

    A schedule over the phase differs: its first steps were those of the shorter run.
    """
    constant = override(classifier, "phases.0.optimiser.schedule=constant")
    constant = override(constant, "phases.0.optimiser.warmup=0.0")
    short, long = (override(constant, f"phases.0.steps={n}") for n in (3, 5))
    fit(short, tmp_path / "on", log_every=1)
    on = fit(long, tmp_path / "on", log_every=1)
    same(on, fit(long, tmp_path / "whole", log_every=1))
    assert [r["step"] for r in records(tmp_path / "on")] == [1, 2, 3, 4, 5]
    same(on, fit(long, tmp_path / "on"))
    with pytest.raises(UsageError, match=r"phases\.classify\.steps is 5 there, 3 here"):
        fit(short, tmp_path / "on")


def test_a_warm_start_takes_the_parts_that_fit(classifier, same, tmp_path):
    other = build("classifier", {"data": "little", "batch_size": 8, "seed": 3})
    donor = first_variables(other, None, EXAMPLE)
    fc = jax.tree.map(lambda a: np.zeros((*a.shape, 2), a.dtype), donor.params["fc"])
    donor = donor._replace(params=donor.params | {"fc": fc})
    still = override(classifier, "phases.0.steps=1")
    still = override(still, "phases.0.optimiser.learning_rate=0.0")
    still = override(still, "phases.0.optimiser.weight_decay=0.0")
    variables = fit(still, tmp_path, start=donor)
    fresh = first_variables(still, None, EXAMPLE)
    same(variables.params["layer1"], donor.params["layer1"])
    same(variables.params["fc"], fresh.params["fc"])


def test_metrics_and_checkpoints_are_as_asked(whole, classifier, tmp_path):
    assert [r["step"] for r in records(whole[0])] == [2, 4, 6, 8]
    assert [r["phase"] for r in records(whole[0])] == ["stage1"] * 2 + ["stage2"] * 2
    for record in records(whole[0]):
        assert record["examples_per_s"] > 0 and math.isfinite(record["loss"])
    fit(classifier, tmp_path, log_every=3, save_every=1, keep=2)
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["5", "6"]


def test_divergence_is_told_and_never_saved(classifier, tmp_path):
    wild = override(classifier, "phases.0.optimiser.learning_rate=1e30")
    with pytest.raises(Diverged, match=r"step \d of phase 'classify'.*last good step"):
        fit(wild, tmp_path, log_every=1, save_every=1, keep=9)
    for step in (tmp_path / "checkpoints").iterdir():
        for leaf in jax.tree.leaves(raw_arrays(tmp_path, int(step.name))):
            assert np.isfinite(leaf).all()


def test_last_good_step_is_exact_between_records(classifier, monkeypatch, tmp_path):
    from sc_jax.train import loop

    real = loop.make_step

    def poisoned(*args):
        advance = real(*args)

        def step(current, cold, taught, batch, number, key):
            current, values = advance(current, cold, taught, batch, number, key)
            return current, values | ({"loss": jnp.nan} if number == 4 else {})

        return step

    monkeypatch.setattr(loop, "make_step", poisoned)
    with pytest.raises(Diverged, match="step is 4, the last checkpoint 4"):
        fit(classifier, tmp_path, log_every=6, save_every=2)


def test_bfloat16_keeps_parameters_and_bits_in_float32(student, taught, tmp_path):
    half = override(student, "dtype=bfloat16")
    for phase in ("0", "1"):
        half = override(half, f"phases.{phase}.steps=1")
    variables = fit(half, tmp_path, taught, log_every=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("f4")}
    assert all(math.isfinite(r["loss"]) for r in records(tmp_path))


def test_a_broken_checkpoint_is_one_line(classifier, tmp_path):
    fit(classifier, tmp_path, log_every=6, save_every=3)
    spoilt = 0
    for file in (tmp_path / "checkpoints").glob("*/arrays/**/*"):
        if file.is_file():
            file.write_bytes(b"x" * 9)
            spoilt += 1
    assert spoilt
    files = hashes(tmp_path)
    with pytest.raises(UsageError, match="none before it is whole") as info:
        fit(classifier, tmp_path)
    assert "\n" not in str(info.value) and hashes(tmp_path) == files


def test_a_checkpoint_of_another_recipe_is_refused(classifier, tmp_path):
    fit(classifier, tmp_path, log_every=6)
    files = hashes(tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        fit(override(classifier, "phases.0.optimiser.weight_decay=0.5"), tmp_path)
    assert hashes(tmp_path) == files


def test_a_batch_that_devices_cannot_share_is_refused(classifier, tmp_path):
    with pytest.raises(UsageError, match="does not divide over 2 devices"):
        fit(override(classifier, "data.batch_size=7"), tmp_path)


def hashes(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): hash(p.read_bytes()) for p in files}


def test_a_phase_with_a_window_sees_a_square_of_every_image():
    """Both nets do; nothing is computed."""
    seen = []

    def sides(context):
        features = context.student.features, context.teacher.features
        seen.append([f["normalise"].shape for f in features])
        return jnp.zeros(len(context.batch["label"]))

    recipe = build("entropic_student", {"data": "little", "backbone": "resnet20"})
    phase = replace(recipe.phases[0], terms=(Term(sides),), window=12)
    batch = {"image": np.zeros((8, 16, 16, 1), np.uint8), "label": np.zeros(8, int)}

    def step():
        taught = first_variables(recipe.teacher, None, EXAMPLE)
        variables = first_variables(recipe, taught, EXAMPLE)
        state = begin(recipe, phase, variables)
        cold = divide(recipe, phase, variables)[1]
        advance = make_step(recipe, phase)
        return advance(state, cold, taught, batch, 0, jax.random.key(0))

    jax.eval_shape(step)
    assert seen[0] == [(8, 12, 12, 1)] * 2


def test_a_window_that_cannot_be_is_one_line():
    knobs = {"data": "little", "shallow_epochs": 1.0, "backbone": "resnet20"}
    recipe = build("entropic_student", {**knobs, "window": 12})
    for window in (-1, 17):
        wrong = override(recipe, f"phases.shallow.window={window}")
        with pytest.raises(UsageError, match=r"'shallow': window is 0 \(all\) to 16"):
            validate(wrong, EXAMPLE)
    validate(build("entropic_student", {**knobs, "window": 12}), EXAMPLE)
    knobs |= {"window": 12, "backbone": "cnn"}  # its dense layer has one size
    with pytest.raises(UsageError, match="cnn takes images of one size"):
        validate(build("entropic_student", knobs), EXAMPLE)
