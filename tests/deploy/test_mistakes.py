"""What a device's binary says of a server that will not answer it: one line each."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("litert_converter", reason="the extra export is not installed")
pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("grpc_reflection")
pytest.importorskip("prometheus_client")

from sc_jax.codec import codecs
from sc_jax.deploy import bundle
from sc_jax.deploy.export import segments
from sc_jax.deploy.server import edge, tails


@pytest.fixture(scope="module")
def world(student, images, tmp_path_factory):
    """A guarded server of the student as "first", and a folder of device's files."""
    recipe, variables, cut, codec = student
    folder = tmp_path_factory.mktemp("mistakes")
    head = segments.head_segment(recipe.net, variables, cut, codec, images[:8])

    def install(name, model="first", split=0, codec=codec):
        bundle.write(
            folder / name, {"head": head.model}, codec,
            model=model, split=split, labels=("a",) * 10,
            facts={"input": [28, 28, 1]},
        )  # fmt: skip

    install("good")
    install("renamed", model="second")
    install("resplit", split=7)
    install("retabled", codec=codecs.RawCodec(codec.shape))
    (folder / "token").write_text("new\n")
    (folder / "expired").write_text("old\n")
    for side in ("a", "b"):
        (folder / "colour" / side).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "colour" / side / "0.png")
    (folder / "plain").mkdir()
    for i in range(3):
        grey = Image.fromarray(np.asarray(images[i, ..., 0]))
        grey.save(folder / "plain" / f"{i}.png")
    own = tails.tails(recipe.net, variables, {recipe.net.splits[0].name: codec})
    server = edge.serve({"first": own}, edge.Settings(sizes=(1,), token="new"))
    yield folder, server.address
    server.drain(5)


def device(folder, name, address, *more, token="token"):
    command = [sys.executable, "-m", "launch.device", f"--bundle={folder / name}"]
    command += [f"--server={address}", f"--token_file={folder / token}", "--limit=5"]
    return subprocess.run(
        [*command, "--deadline_s=20", *more], capture_output=True, text=True, timeout=90
    )


def test_each_mistake_of_a_device_is_one_line_and_an_exit_code(world):
    folder, address = world
    gone = edge.serve({}, edge.Settings(sizes=(1,)))
    gone.drain(0)
    cases = {
        "token": (1, "UNAUTHENTICATED", ("good", address), {"token": "expired"}),
        "model": (1, "unknown model 'second'", ("renamed", address), {}),
        "split": (1, "split 7, the model has 1", ("resplit", address), {}),
        "gone": (1, "UNAVAILABLE", ("good", gone.address), {}),
        "address": (2, "is not host:port", ("good", f"{address},x"), {}),
        "out": (2, "make its folder", ("good", address, f"--out={folder}/no/x"), {}),
    }
    with ThreadPoolExecutor(2) as pool:
        runs = {
            name: pool.submit(device, folder, *arguments, **options)
            for name, (_, _, arguments, options) in cases.items()
        }
        good = pool.submit(device, folder, "good", address)
        plain = f"--images={folder / 'plain'}"
        flat = pool.submit(device, folder, "good", address, plain)
        colour = f"--images={folder / 'colour'}"
        grey = pool.submit(device, folder, "good", address, colour)
    for name, (code, words, _, _) in cases.items():
        done = runs[name].result()
        assert done.returncode == code, (name, done.stderr)
        told = [
            t for t in done.stderr.splitlines() if not t.startswith("INFO: Created")
        ]
        assert len(told) == 1 and told[0].startswith("error: "), done.stderr
        assert words in told[0]
    assert good.result().returncode == 0, good.result().stderr
    assert "answered 5 of 5 (edge 5)" in good.result().stdout
    assert "answered 3 of 3 (edge 3)" in flat.result().stdout
    assert "top-1" not in flat.result().stdout
    assert "answered 2 of 2 (edge 2)" in grey.result().stdout


ENDED = """
import os, runpy, signal, sys
from sc_jax.deploy.device import device
infer, seen, name = device.Device.infer, [], sys.argv.pop()

def ended(self, image):
    seen.append(image)
    if len(seen) == 5:  # the first image is answered twice
        os.kill(os.getpid(), signal.Signals[name])
    return infer(self, image)

device.Device.infer = ended
runpy.run_module("launch.device", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_run_with_what_was_answered(world, tmp_path, name, code):
    folder, _ = world
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", ENDED, f"--bundle={folder / 'good'}"]
    command += ["--limit=8", f"--out={out}", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: ended by {name}"
    assert "Traceback" not in done.stderr
    assert "ended after 3 of 8 images" in done.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3 and all(row["exit"] == "none" for row in rows)


def test_tables_of_another_kind_are_refused_before_they_are_decoded(world):
    folder, address = world
    from sc_jax.deploy.wire import frame
    from sc_jax.deploy.wire.client import Client, EdgeError

    made = bundle.read(folder / "retabled")
    z = np.zeros(made.codec.shape, np.float32)
    data = frame.pack(1, 0, z.shape, made.codec.encode(z))
    with Client(address, "new") as client:
        with pytest.raises(EdgeError, match="codec 1, the model's is 4") as caught:
            client.infer("first", data)
        assert caught.value.code == "FAILED_PRECONDITION"
