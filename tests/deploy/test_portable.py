"""The tail as one file: its run's answers without training code, or one line."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import jax
import numpy as np
import pytest

from benchmarks.untrained import untrained
from sc_jax import foreign
from sc_jax.codec import codecs
from sc_jax.codec.tables import from_pmf
from sc_jax.compressors import Affine
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy import bundle
from sc_jax.deploy.server import models, portable, tails
from sc_jax.errors import UsageError
from sc_jax.nets.net import cut_at
from sc_jax.nets.run import Variables
from sc_jax.runs import run_folder

TRAINING = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "sc_jax.nets")
TRAINING += (
    "sc_jax.recipes",
    "sc_jax.data",
    "sc_jax.runs.run_folder",
    "sc_jax.train.recipe",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a bundle of other tables beside its own."""
    workdir = untrained(tmp_path_factory.mktemp("portable") / "first")
    (own,) = tails.load(workdir, "first")["first"]
    channels = own.codec.shape[-1]
    flat = from_pmf([np.full(5, 0.19)] * channels, np.full(channels, -2),
                    np.full(channels, 0.05))  # fmt: skip
    refitted = codecs.FactorizedCodec(own.codec.shape, flat, own.codec.medians)
    recipe, _, digest = identity(workdir)
    bundle.register(workdir, tails.model_id(recipe.name, digest, refitted), refitted)
    return workdir


def identity(workdir):
    recipe = run_folder.recipe_of(workdir)
    variables, _ = run_folder.restore(recipe, workdir)
    return recipe, variables, tails.weights_digest(recipe, workdir, variables)


@pytest.fixture(scope="module")
def bundled(run):
    """The id of its bundle."""
    (name,) = bundle.registered(run)
    return name


@pytest.fixture(scope="module")
def packed(run):
    file = run.parent / "first.tail"
    tails.pack(run, file)
    return file


def latents(tail, count):
    rng = np.random.default_rng(count)
    return rng.normal(0, 3, (count, *tail.codec.shape)).astype(np.float32)


def logits(tail, z):
    reply = tail.reply(z)
    assert list(reply) == ["logits", "prediction"]
    assert reply["prediction"].dtype == np.int64
    np.testing.assert_array_equal(reply["prediction"], reply["logits"].argmax(-1))
    return reply["logits"]


def test_all_models_answer_as_the_runs_own(run, packed, bundled):
    wanted, found = models.load(run), models.load(packed)
    assert list(found) == list(wanted) == ["first", bundled]
    assert found["first"][0].jitted is found[bundled][0].jitted
    for name, (tail,) in found.items():
        (own,) = wanted[name]
        assert tail.codec == own.codec
        tail.compile((1, 4))
        for count in (1, 3, 4):  # 3: any batch size
            z = latents(tail, count)
            np.testing.assert_allclose(
                logits(tail, z), logits(own, z), rtol=1e-5, atol=1e-6
            )
    assert found["first"][0].codec != found[bundled][0].codec


def test_a_bundle_of_other_weights_is_not_served(run, bundled, tmp_path, caplog):
    workdir = tmp_path / "again"
    shutil.copytree(run, workdir)
    recipe, variables, digest = identity(workdir)
    codec = bundle.registered(workdir)[bundled]
    assert tails.model_id(recipe.name, digest, codec) == bundled
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    stale = tails.weights_digest(recipe, workdir, other)
    bundle.register(workdir, tails.model_id(recipe.name, stale, codec), codec)
    assert len(bundle.registered(workdir)) == 2
    assert list(tails.load(workdir, "again")) == ["again", bundled]
    (line,) = caplog.messages
    assert "is not served" in line and str(workdir) in line and "\n" not in line


def test_a_name_replaces_the_runs_own_id_alone(run, packed, bundled):
    assert list(models.load_all([f"mine={packed}"])) == ["mine", bundled]
    assert list(models.load_all([str(packed)])) == ["first", bundled]
    with pytest.raises(UsageError, match=f"'{bundled}' is taken"):
        models.load_all([f"a={packed}", f"b={run}"])


def test_every_split_of_a_net_is_carried(trained, tmp_path):
    net = cut_at(trained.net, "layer3", Affine(8))
    variables = Variables(*(p | {"split@layer3": {}} for p in trained.variables))
    image = np.zeros((1, *trained.test.shape), np.uint8)
    two = tails.tails(net, variables, codecs_of(net, variables, image))
    portable.write(tmp_path / "two.tail", {"two": two})
    found = portable.read(tmp_path / "two.tail")["two"]
    for tail, own in zip(found, two, strict=True):
        z = latents(own, 2)
        assert tail.codec == own.codec
        np.testing.assert_allclose(
            logits(tail, z), logits(own, z), rtol=1e-5, atol=1e-6
        )


def test_a_server_loads_it_without_training_code(run, packed, tmp_path):
    (own,) = tails.load(run, "first")["first"]
    np.save(tmp_path / "z.npy", z := latents(own, 5))
    program = f"""
import sys
for name in {TRAINING!r}:
    sys.modules[name] = None  # an import of it raises
import numpy as np
from launch import cli, serve
from sc_jax.deploy.server import batching, edge, models
(tail,) = models.load_all([{str(packed)!r}])["first"]
answers = tail.reply(np.load({str(tmp_path / "z.npy")!r}))["logits"]
np.save({str(tmp_path / "out.npy")!r}, answers)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "out.npy")
    np.testing.assert_allclose(answers, logits(own, z), rtol=1e-5, atol=1e-6)


def test_the_manifest_tells_what_is_inside_and_the_bytes_are_the_parts_alone(
    run, packed
):
    with zipfile.ZipFile(packed) as file:
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(file.read(bundle.MANIFEST))
        for name, part in manifest["parts"].items():
            data = file.read(name)
            assert (len(data), hashlib.sha256(data).hexdigest()) == tuple(part.values())
    assert len(manifest["labels"]) == 10 and manifest["jax"] == jax.__version__
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["latents"][0]["dtype"] == "float32"
    assert manifest["task"] == "classification"
    assert manifest["outputs"] == {
        "logits": {"shape": [10], "dtype": "float32"},
        "prediction": {"shape": [], "dtype": "int64"},
    }
    before = packed.read_bytes()
    tails.pack(run, packed.with_name("again.tail"), "first")
    assert packed.with_name("again.tail").read_bytes() == before
    assert b".py" not in before  # no paths of the machine that wrote it
    with pytest.raises(UsageError, match="exists"):
        tails.pack(run, packed)
    assert packed.read_bytes() == before


def changed(packed, out, manifest, data=()):
    """A copy with other parts, or other values in the manifest."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            part = dict(data).get(name, old.read(name))
            if name == bundle.MANIFEST:
                part = foreign.sealed(foreign.unsealed(part) | manifest)
            new.writestr(name, part)
    return out


def test_a_file_of_format_1_is_read_as_a_classifiers(run, packed, tmp_path):
    (own,) = tails.load(run, "first")["first"]
    logits_only = replace(own, jitted=jax.jit(lambda v, z: own.jitted(v, z)["logits"]))
    data = portable._program(logits_only, ("cpu",))
    with zipfile.ZipFile(packed) as file:
        parts = json.loads(file.read(bundle.MANIFEST))["parts"]
    parts["tail0.bin"] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    old = changed(packed, tmp_path / "x.tail", {"format": 1, "parts": parts},
                  {"tail0.bin": data})  # fmt: skip
    (found,) = models.load(old)["first"]
    z = latents(own, 3)
    np.testing.assert_allclose(logits(found, z), logits(own, z), rtol=1e-5, atol=1e-6)
    assert found.task == "classification" and len(found.labels) == 10


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"format": 3}, "format 3, this reader knows 1 and 2"),
        ({"kind": "head"}, "no tail"),
        ({"calling_convention": 999, "jax": "9.9"}, "jax 9.9; jax .* is too old"),
        ({"platforms": ["tpu"]}, "runs on tpu, this machine is cpu"),
        ({"parts": {}}, "no whole tail"),
        ({"models": {"a": []}}, "no whole tail"),
    ],
)
def test_another_manifest_is_one_line(packed, tmp_path, manifest, words):
    with pytest.raises(UsageError, match=words) as caught:
        models.load(changed(packed, tmp_path / "x.tail", manifest))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["tail0.bin", "weights0.npz", "codec1-0.npz"])
def test_a_changed_part_is_refused_by_its_hash(packed, tmp_path, part):
    with zipfile.ZipFile(packed) as file:
        data = bytearray(file.read(part))
    data[len(data) // 2] ^= 1
    file = changed(packed, tmp_path / "x.tail", {}, {part: bytes(data)})
    with pytest.raises(UsageError, match=f"{part} was changed"):
        models.load(file)


def test_damage_of_the_file_is_one_line_and_exit_code_2(packed, tmp_path):
    whole = packed.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cases = {"cut": whole[:-100], "flipped": bytes(flipped), "junk": b"x" * 99}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError) as caught:
            models.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    done = subprocess.run(
        [sys.executable, "-m", "launch.serve", f"--workdir={tmp_path / 'cut'}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "whole tail" in done.stderr


def test_the_binary_writes_it(run, packed, bundled, tmp_path):
    file = tmp_path / "again.tail"
    command = [sys.executable, "-m", "launch.export", f"--workdir={run}"]
    done = subprocess.run([*command, f"--tail={file}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"models first, {bundled}" in done.stdout
    assert list(models.load(file)) == list(models.load(packed))
    again = subprocess.run([*command, f"--tail={file}"], capture_output=True, text=True)
    assert again.returncode == 2 and "exists" in again.stderr
    assert again.stderr.count("\n") == 1


def test_the_dtype_of_latents_is_the_codecs():
    image = codecs.ImageCodec("PNG", None, (4, 4, 3))
    tail = portable.Tail(image, (), jax.jit(lambda _, z: z))
    assert tail.dtype is np.uint8
    assert replace(tail, codec=codecs.RawCodec((2,))).dtype is np.float32
