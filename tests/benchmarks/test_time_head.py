"""Timed heads: the same JSON from this machine and from a device's log."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmark_logs import COMPILED, LOGCAT, NEW, OLD

from benchmarks.speed import logged_head, timed_head
from sc_jax.codec.codecs import ImageCodec, RawCodec
from sc_jax.deploy import bundle
from sc_jax.deploy.export import convert, segments
from sc_jax.errors import UsageError
from sc_jax.traces.cost import macs

ROOT = Path(__file__).parents[2]


def program(image):
    """A 4x4 patch stem: pixels to a latent of 32 x 32 x 8."""
    weights = np.random.default_rng(0).normal(size=(4, 4, 3, 8)).astype(np.float32)
    conv = jax.lax.conv_general_dilated
    dimensions = ("NHWC", "HWIO", "NHWC")
    pixels = image.astype(jnp.float32)
    return {
        "latent": conv(pixels, weights, (4, 4), "VALID", dimension_numbers=dimensions)
    }


# Of less than a microsecond LiteRT's profiler tells nothing.
EXAMPLE = np.zeros((1, 128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def head():
    return convert.convert(*segments.lower(program, EXAMPLE))


@pytest.fixture(scope="module")
def tiny(head, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    known = {"dtype": "float32", "input": [128, 128, 3]}
    codec = RawCodec((32, 32, 8))
    bundle.write(out, {"head": head}, codec, model="m", split=0, labels=(), facts=known)
    return out


def time_head(*arguments):
    command = [sys.executable, "-m", "benchmarks.speed.time_head", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 120, "cwd": ROOT}
    return subprocess.run(command, **options)


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("here") / "here.json"
    done = time_head(tiny, "--runs=4", "--warm_up=1", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_this_machine(here, head):
    report, printed = here
    (found,) = report["heads"]
    times = found["head_ms"]
    assert 0 < times["min"] <= times["median"] <= times["p95"]
    assert (report["runs"], report["warm_up"], report["threads"]) == (4, 1, 1)
    assert found["model_bytes"] == len(head)
    assert found["payload_bytes"] == 4 * 32 * 32 * 8
    assert found["macs"] == macs(program, EXAMPLE)
    assert report["machine"] and report["versions"]["ai-edge-litert"]
    assert report["peak_memory_bytes"] > found["memory_bytes"]["overall"] > 0
    assert found["energy"] is None or found["energy"]["j_per_inference"] > 0
    assert ("energy" in found["missing"]) == (found["energy"] is None)
    assert "tiny" in printed and "Convolution" in printed


def read(text, *bundles):
    origin = {"date": "now", "command": "this test"}
    return asdict(logged_head.report(text, "phone.txt", bundles, **origin))


@pytest.mark.parametrize("text", [NEW, OLD, LOGCAT, COMPILED])
def test_a_log_has_the_same_keys(text, here):
    report = read(text)
    assert report.keys() == here[0].keys()
    (found,), (own,) = report["heads"], here[0]["heads"]
    assert found.keys() == own.keys()
    for name in ("head_ms", "memory_bytes", "profile"):
        assert found[name] is None or found[name].keys() == own[name].keys()
    if found["profile"]:
        rows = [each["profile"]["operations"][0] for each in (found, own)]
        assert rows[0].keys() == rows[1].keys()
    assert found["energy"] is found["code_ms"] is found["payload_bytes"] is None
    assert "energy" in found["missing"]
    assert report["versions"] is report["gemm_gflop_per_s"] is None
    assert found["bundle"].endswith(".tflite")


def test_a_log_with_its_bundle(tiny, head, tmp_path):
    out, file = tmp_path / "phone.json", tmp_path / "phone.txt"
    file.write_text(NEW.replace("(MB): 0.142084", f"(MB): {len(head) / 1e6:.6g}"))
    done = time_head(tiny, f"--from-benchmark-model={file}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    (found,) = report["heads"]
    assert (found["bundle"], found["model_bytes"]) == ("tiny", len(head))
    assert found["macs"] == macs(program, EXAMPLE)
    assert found["head_ms"]["median"] == 2.781
    assert report["machine"].startswith("Example Phone 9")
    assert "2.781" in done.stdout and "39.2%" in done.stdout


def test_a_log_and_a_bundle_that_do_not_fit(tiny):
    with pytest.raises(UsageError, match="give the bundle whose"):
        read(NEW, str(tiny))
    with pytest.raises(UsageError, match="one bundle or none"):
        read(NEW, "one", "two")


def test_a_whole_net_is_timed_and_sends_nothing(head, tmp_path):
    known = {"dtype": "float32", "input": [128, 128, 3]}
    whole = {"model": "m", "split": 0, "labels": (), "facts": known}
    bundle.write(tmp_path / "whole", {"head": head}, None, **whole)
    subject = timed_head.load(str(tmp_path / "whole"), 1, "fashion_mnist_12k")
    timed_head.turn(subject, 0)
    assert subject.sent == [0]
    assert subject.times["head"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one bundle"),
        (("{tmp}/picture",), "no head"),
        (("--from-benchmark-model={tmp}/log.txt",), "2>&1"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, says, tmp_path):
    (tmp_path / "log.txt").write_text("adb: no devices/emulators found\n")
    codec = ImageCodec("PNG", None, (32, 32, 3))
    out = tmp_path / "picture"
    bundle.write(
        out, {}, codec, model="m", split=0, labels=(), facts={"input": [128, 128, 3]}
    )
    done = time_head(*(each.format(tmp=tmp_path) for each in arguments))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert says in done.stderr
