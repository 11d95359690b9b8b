"""Runs a bundle's head on this machine and its tail on an edge server.

  python -m launch.device --bundle=bundle --server=localhost:50051 --images=photos.zip
  python -m launch.device --bundle=bundle,whole --plan=plan.json --server=edge:50051

--images: a folder or zip, in class folders if their classes are known, or a source.
Prints accuracy if it can, where answers came from, bytes and times; --out gets a JSON
line an image. A server answers with the class and its probability, or --reply=logits;
one that refuses the first image ends it with exit code 1, unless a local exit answers.
Ctrl-C and SIGTERM end it with the summary. --plan is followed as the link changes.
"""

from contextlib import ExitStack
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.deploy.device import answers, following
from sc_jax.deploy.wire import sending
from sc_jax.deploy.wire.reply import REPLIES

BUNDLE = flags.DEFINE_list("bundle", [], "folders or zips of launch.export")
PLAN = flags.DEFINE_string("plan", None, "file of launch.plan, to be followed")
SERVER = flags.DEFINE_string("server", None, "host:port,... of launch.serve")
IMAGES = flags.DEFINE_string("images", "fashion_mnist_12k", "folder, zip or source")
LIMIT = flags.DEFINE_integer("limit", 1000, "images at most", 1)
TOP = flags.DEFINE_integer("top", 1, "classes a line of --out, likeliest first", 1)
REPLY = flags.DEFINE_enum("reply", None, REPLIES, "unset: as --top needs")
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
        out = OUT.value and stack.enter_context(answers.lines(Path(OUT.value)))
        token = TOKEN.value and cli.secret(TOKEN.value)
        roots = cli.read(ROOTS.value) if ROOTS.value else b""
        wanted = answers.wanted(REPLY.value, TOP.value)
        opened = sending.opened(SERVER.value, token, roots, wanted)
        runtime = following.runtime(
            BUNDLE.value, PLAN.value, stack.enter_context(opened), level=LEVEL.value,
            deadline_s=DEADLINE.value, threads=THREADS.value,
        )  # fmt: skip
        shape = runtime.bundle.manifest["facts"]["input"]
        found = answers.images_of(IMAGES.value, tuple(shape), LIMIT.value)
        # Who refuses one image will refuse a thousand.
        if (first := runtime.trial(found.image(0))).refused:
            cli.fail(f"{SERVER.value} does not answer: {first.note}", 1)
        answers.answer_all(runtime, found, out or None, TOP.value)


if __name__ == "__main__":
    cli.start(main)
