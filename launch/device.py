"""Runs a bundle's head on this machine and its tail on an edge server.

  python -m launch.device --bundle=bundle --server=localhost:50051 --images=photos.zip

--images: a folder or zip of images, in class folders if their classes are known, or
fashion_mnist_12k. Prints accuracy if it can, where answers came from, bytes and times;
--out keeps a JSON line an image: file, class, probability. A server that refuses the
first image ends it with exit code 1, unless a local exit answers. Without --server
nothing is sent: the head and the coder are timed. No jax, flax or TensorFlow is loaded.
"""

from pathlib import Path

from absl import flags
from tqdm import tqdm

from launch import cli
from sc_jax.deploy import bundle
from sc_jax.deploy.device import answers, device

BUNDLE = flags.DEFINE_string("bundle", None, "folder or zip of launch.export")
SERVER = flags.DEFINE_string("server", None, "host:port,... of launch.serve")
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "folder, zip or source")
LIMIT = flags.DEFINE_integer("limit", 1000, "images at most", 1)
TOP = flags.DEFINE_integer("top", 1, "classes a line of --out, likeliest first", 1)
DEADLINE = flags.DEFINE_float("deadline_s", 1.0, "of one answer, head included", 0)
THREADS = flags.DEFINE_integer("threads", 1, "of the head", 1)
TOKEN = flags.DEFINE_string("token_file", None, "file with the server's bearer token")
ROOTS = flags.DEFINE_string("tls_roots", None, "PEM of the server's certificate: TLS")
OUT = flags.DEFINE_string("out", None, "JSON lines file; must not exist")
flags.declare_key_flag("skip_damaged")


def main(_):
    if BUNDLE.value is None:
        raise cli.UsageError("give --bundle, a folder or zip of launch.export")
    if OUT.value and Path(OUT.value).exists():
        raise cli.UsageError(f"{OUT.value} exists; give another --out")
    installed, send = bundle.read(Path(BUNDLE.value)), None
    shape = tuple(installed.manifest["facts"]["input"])
    found = answers.images_of(IMAGES.value, shape, LIMIT.value)
    if SERVER.value:
        token = cli.secret(TOKEN.value) if TOKEN.value else None
        roots = cli.read(ROOTS.value) if ROOTS.value else b""
        send = device.connect(SERVER.value, token, roots)
    limits = {"deadline_s": DEADLINE.value, "threads": THREADS.value}
    runtime = device.Device(installed, send, **limits)
    # One image first: a server that refuses it will refuse a thousand.
    first = runtime.infer(found.image(0))
    if first.refused:
        cli.fail(f"{SERVER.value} does not answer: {first.note}", 1)
    bar = tqdm(range(len(found)), "images", disable=None)
    results = [runtime.infer(found.image(i)) for i in bar]
    if OUT.value:
        answers.write(Path(OUT.value), results, found, installed.labels, TOP.value)
    print("\n".join(answers.summary(results, found, installed.labels)))


if __name__ == "__main__":
    cli.start(main)
