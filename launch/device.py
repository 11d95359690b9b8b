"""Runs a bundle's head on this machine and its tail on an edge server.

  python -m launch.device --bundle=bundle --server=localhost:50051 --images=photos.zip
  python -m launch.device --bundle=bundle,whole --plan=plan.json --server=edge:50051

--images: a folder or zip, in class folders if their classes are known, or a source.
Prints accuracy if it can, where answers came from, bytes and times; --out gets a JSON
line an image. A server that refuses the first image ends it with exit code 1, unless a
local exit answers; one lost later is asked again. Ctrl-C and SIGTERM end it with the
summary. --plan is followed, and left for another as the link changes. Without jax.
"""

from contextlib import ExitStack
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.deploy.device import answers, device, following

BUNDLE = flags.DEFINE_list("bundle", [], "folders or zips of launch.export")
PLAN = flags.DEFINE_string("plan", None, "file of launch.plan, to be followed")
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
    with ExitStack() as stack:
        stack.enter_context(cli.ended_by_signals())
        # Made before the work: what is wrong with it shows before the first image.
        out = OUT.value and stack.enter_context(answers.lines(Path(OUT.value)))
        send = None
        if SERVER.value:
            token = TOKEN.value and cli.secret(TOKEN.value)
            roots = cli.read(ROOTS.value) if ROOTS.value else b""
            send = device.connect(SERVER.value, token, roots)
        runtime = following.runtime(
            BUNDLE.value, PLAN.value, send, level=LEVEL.value,
            deadline_s=DEADLINE.value, threads=THREADS.value,
        )  # fmt: skip
        shape = tuple(runtime.bundle.manifest["facts"]["input"])
        found = answers.images_of(IMAGES.value, shape, LIMIT.value)
        # One image first: a server that refuses it will refuse a thousand.
        first = runtime.trial(found.image(0))
        if first.refused:
            cli.fail(f"{SERVER.value} does not answer: {first.note}", 1)
        answers.answer_all(runtime, found, out or None, TOP.value)


if __name__ == "__main__":
    cli.start(main)
