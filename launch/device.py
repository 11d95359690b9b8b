"""Runs a bundle's head on this machine and its tail on an edge server.

  python -m launch.device --bundle=bundle --server=localhost:50051 --images=photos.zip

--images: a folder or zip of images, in class folders if their classes are known, or
fashion_mnist_12k. Prints accuracy if it can, where the answers came from, bytes and
milliseconds a step; --out keeps one JSON line an image. A server that refuses the first
image (gone, another token or model) ends it with one line and exit code 1, unless a
local exit answers. Without --server nothing is sent: the head and the coder are timed.
No jax, flax or TensorFlow is loaded.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from launch import cli
from sc_jax.data import sources
from sc_jax.data.trees import open_tree
from sc_jax.deploy import bundle
from sc_jax.deploy.device import device

BUNDLE = flags.DEFINE_string("bundle", None, "folder or zip of launch.export")
SERVER = flags.DEFINE_string("server", None, "host:port,... of launch.serve")
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "folder, zip or source")
LIMIT = flags.DEFINE_integer("limit", 1000, "images at most", 1)
DEADLINE = flags.DEFINE_float("deadline_s", 1.0, "of one answer, head included")
THREADS = flags.DEFINE_integer("threads", 1, "of the head", 1)
TOKEN = flags.DEFINE_string("token_file", None, "file with the server's bearer token")
ROOTS = flags.DEFINE_string("tls_roots", None, "PEM of the server's certificate: TLS")
OUT = flags.DEFINE_string("out", None, "JSON lines file; must not exist")

LATE = "DEADLINE_EXCEEDED"  # may be the link's fault, this once


def main(_):
    if BUNDLE.value is None:
        raise cli.UsageError("give --bundle, a folder or zip of launch.export")
    if OUT.value and Path(OUT.value).exists():
        raise cli.UsageError(f"{OUT.value} exists; give another --out")
    installed = bundle.read(Path(BUNDLE.value))
    side = installed.manifest["facts"]["input"][0]
    name, split = IMAGES.value, "test"
    if name.partition(":")[0] not in (*sources.SOURCES, sources.ONLY):
        if open_tree(name).tops():
            name, split = f"folder:{name}", "train+validation"
        else:
            name = f"plain:{name}"
    examples = sources.load(name, split, image_size=side)
    order = np.random.default_rng(0).permutation(len(examples))[: LIMIT.value]
    send = None
    if SERVER.value:
        token = cli.secret(TOKEN.value) if TOKEN.value else None
        roots = cli.read(ROOTS.value) if ROOTS.value else b""
        send = device.connect(SERVER.value, token, roots)
    runtime = device.Device(
        installed, send, deadline_s=DEADLINE.value, threads=THREADS.value
    )
    first = runtime.infer(examples.image(order[0]))
    if first.sent_bytes and first.prediction is None and LATE not in first.note:
        cli.fail(f"{SERVER.value} does not answer: {first.note}", 1)
    bar = tqdm(order, "images", disable=None)
    answers = [runtime.infer(examples.image(i)) for i in bar]
    if OUT.value:
        rows = ({"image": int(i)} | asdict(a) for i, a in zip(order, answers))
        Path(OUT.value).write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = [a.prediction for a in answers if a.prediction is not None]
    print(f"answered {len(told)} of {len(answers)}: {Counter(a.exit for a in answers)}")
    if told and set(examples.classes) <= set(installed.labels):
        truth = (examples.classes[examples.labels[i]] for i in order)
        right = [
            a.prediction is not None and installed.labels[a.prediction] == t
            for a, t in zip(answers, truth)
        ]
        print(f"top-1 {100 * np.mean(right):.2f} % of {len(right)} images")
    for note, count in Counter(a.note for a in answers if a.note).most_common(3):
        print(f"{count} x {note}")
    print(f"sent {np.mean([a.sent_bytes for a in answers]):.1f} bytes an image, framed")
    for step in ("head", "code", "edge"):
        spent = [1e3 * a.seconds[step] for a in answers if step in a.seconds]
        if spent:
            tail = np.percentile(spent, 95)
            print(f"{step}: median {np.median(spent):.3f} ms, p95 {tail:.3f} ms")


if __name__ == "__main__":
    cli.start(main)
