"""Runs a bundle's head on this machine and its tail on an edge server.

  python -m launch.device --bundle=bundle --server=localhost:50051 --images=photos.zip

--images: a folder or zip of images, in class folders if their classes are known, or
fashion_mnist_12k. Prints accuracy if it can, where answers came from, bytes and times;
--out gets a JSON line an image as it is answered: file, class, probability. A server
that refuses the first image ends it with exit code 1, unless a local exit answers; one
lost later is asked again now and then. Ctrl-C and SIGTERM end it with the summary so
far. Without --server the head and the coder are timed. It loads no jax.
"""

from contextlib import ExitStack
from pathlib import Path

from absl import flags

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
LEVEL = flags.DEFINE_integer("rate", None, "level of several rates, 0 fewest bytes", 0)
TOKEN = flags.DEFINE_string("token_file", None, "file with the server's bearer token")
ROOTS = flags.DEFINE_string("tls_roots", None, "PEM of the server's certificate: TLS")
OUT = flags.DEFINE_string("out", None, "JSON lines file; must not exist")
flags.declare_key_flag("skip_damaged")


def main(_):
    if BUNDLE.value is None:
        raise cli.UsageError("give --bundle, a folder or zip of launch.export")
    with ExitStack() as stack:
        stack.enter_context(cli.ended_by_signals())
        # Made before the work: what is wrong with it shows before the first image.
        out = OUT.value and stack.enter_context(answers.lines(Path(OUT.value)))
        installed, send = bundle.read(Path(BUNDLE.value)), None
        shape = tuple(installed.manifest["facts"]["input"])
        found = answers.images_of(IMAGES.value, shape, LIMIT.value)
        if SERVER.value:
            token = cli.secret(TOKEN.value) if TOKEN.value else None
            roots = cli.read(ROOTS.value) if ROOTS.value else b""
            send = device.connect(SERVER.value, token, roots)
        limits = {"deadline_s": DEADLINE.value, "threads": THREADS.value}
        runtime = device.Device(installed, send, level=LEVEL.value, **limits)
        # One image first: a server that refuses it will refuse a thousand.
        first = runtime.infer(found.image(0))
        if first.refused:
            cli.fail(f"{SERVER.value} does not answer: {first.note}", 1)
        answers.answer_all(runtime, found, out or None, TOP.value)


if __name__ == "__main__":
    cli.start(main)
