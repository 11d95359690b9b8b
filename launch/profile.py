"""Measures what launch.plan reads: every stage's seconds, bytes and answers of a run.

  python -m launch.profile --workdir=runs/first --out=phone.json
  python -m launch.profile --workdir=runs/first --side=server --out=server.json
  python -m launch.profile --workdir=runs/exits --out=phone.json --records=validation

--side=device: each stage through LiteRT here, and of each cut the real bytes, the
coder's seconds and the answers to --examples test images: of a split run its own codec,
of any other net image files at the input and plain values after each stage.
--side=server: the stages jitted, at batch 1 and --batches. --records also writes
phone.npz, what every input met. All else: docs/planning.md.
"""

from pathlib import Path
from typing import Any

from absl import flags

from launch import cli
from sc_jax.spec import integers

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
OUT = flags.DEFINE_string("out", None, "JSON file; must not exist")
SIDE = flags.DEFINE_enum("side", "device", ["device", "server"], "whose seconds")
EXAMPLES = flags.DEFINE_integer("examples", 500, "of a cut; 0: none is run", 0)
THREADS = flags.DEFINE_integer("threads", 1, "of the device's segments", 1)
RUNS = flags.DEFINE_integer("runs", 30, "timings behind each median", 1)
BATCHES = flags.DEFINE_list("batches", ["8", "64"], "of the server, beside 1")
BUNDLE = flags.DEFINE_string("bundle", None, "of the run: its head's seconds count")
LOG = flags.DEFINE_string("benchmark_model", None, "its output for --bundle's head")
RECORDS = flags.DEFINE_enum("records", None, ["validation", "test"], "what inputs met")
REGRESSION = flags.DEFINE_string("regression", None, "of fit_layers: no stage is run")
REPLY = flags.DEFINE_enum("reply", "prediction", ["prediction", "logits"], "of device")
LENGTHS = flags.DEFINE_list("lengths", [], "sides of inputs that are timed, for crime")
METERS = flags.DEFINE_string("meters", "/sys/class", "folder of powercap: its joules")
COMPUTE = flags.DEFINE_float("compute_w", None, "watts of the device at work", 0)
IDLE = flags.DEFINE_float("idle_w", None, "watts of the device while it waits", 0)


def main(_):
    if WORKDIR.value is None or OUT.value is None:
        raise cli.UsageError("give --workdir, a finished run, and --out, a file")
    cli.absent(OUT.value, RECORDS.value and str(Path(OUT.value).with_suffix(".npz")))
    log = LOG.value and cli.read(LOG.value).decode(errors="replace")
    options: dict[str, Any] = dict(
        examples=EXAMPLES.value, threads=THREADS.value, runs=RUNS.value,
        batches=integers(BATCHES.value, "--batches"), reply=REPLY.value,
        installed=BUNDLE.value, log=log, log_file=LOG.value, model=REGRESSION.value,
        compute_w=COMPUTE.value, idle_w=IDLE.value, split=RECORDS.value,
        lengths=integers(LENGTHS.value, "--lengths"), meters=METERS.value,
    )  # fmt: skip
    from sc_jax.deploy.export import profiles  # after --help, which is quick so
    from sc_jax.evaluate.reports.profile_text import lines

    found, met = profiles.measured(Path(WORKDIR.value), SIDE.value, **options)
    profiles.write(Path(OUT.value), found, met)
    print(*lines(found), sep="\n")


if __name__ == "__main__":
    cli.start(main)
