"""Exports a finished run's head as a bundle that a device installs.

  python -m launch.export --workdir=runs/first --out=bundle
  python -m launch.export --workdir=runs/first --out=bundle_int8 --dtype=int8
  python -m launch.export --workdir=runs/first --tail=first.tail

Writes the folder --out and --out.zip: the .tflite head, integer tables, fitted to its
outputs on training images, labels, hashes. It is compared with JAX and measured on the
test split; beyond a bound nothing is written. --whole, and a run without a split: all
of the net. --tail: a server's part. Needs: pip install -e '.[export]' (docs/bundle.md).
"""

from pathlib import Path

from absl import flags

from launch import cli
from sc_jax import plugins
from sc_jax.spec import numbers

DTYPES = ["float32", "float16", "int8_weights", "dynamic", "int8"]
WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
OUT = flags.DEFINE_string("out", None, "folder of the bundle; must not exist")
TAIL = flags.DEFINE_string("tail", None, "file of the server's part; must not exist")
WHOLE = flags.DEFINE_bool("whole", False, "the net of a split run in one piece")
DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "of weights; int8: all of it")
FLOAT_OPS = flags.DEFINE_list("float_ops", ["DIV"], "what int8 leaves in float")
FLOAT_STAGES = flags.DEFINE_list("float_stages", [], "stages kept in float: normalise")
POLICY = flags.DEFINE_string("policy", "", "who leaves at local exits, NAME:knob=...")
THRESHOLDS = flags.DEFINE_list("thresholds", None, "largest probability, one an exit")
CALIBRATION = flags.DEFINE_integer("calibration", 256, "training images", 1)
DROP = flags.DEFINE_float("max_drop_points", 1.0, "accuracy the head may lose")
MORE = flags.DEFINE_float("max_more_bytes", 0.05, "share of bytes it may add")
RECIPE = flags.DEFINE_list("recipe", [], "FILE.py,... of the run, to be trusted")
flags.declare_key_flag("skip_damaged")


def main(_):
    plugins.trust(RECIPE.value)
    if WORKDIR.value is None or not (OUT.value or TAIL.value):
        raise cli.UsageError("give --workdir and --out, a folder, or --tail, a file")
    if TAIL.value and Path(TAIL.value).exists():
        raise cli.UsageError(f"{TAIL.value} exists; give another --tail or remove it")
    options = dict(
        dtype=DTYPE.value, policy=POLICY.value, calibration=CALIBRATION.value,
        whole=WHOLE.value, max_drop_points=DROP.value, max_more_bytes=MORE.value,
        float_ops=tuple(FLOAT_OPS.value), float_stages=tuple(FLOAT_STAGES.value),
        thresholds=THRESHOLDS.value and numbers(THRESHOLDS.value, "--thresholds"),
    )  # fmt: skip
    from sc_jax.deploy.export import package  # after --help, which is quick so

    try:
        lines = package.export(Path(WORKDIR.value), OUT.value, TAIL.value, options)
    except ModuleNotFoundError as error:
        raise cli.UsageError(f"no {error.name}: pip install -e '.[export]'") from None
    print("\n".join(lines))


if __name__ == "__main__":
    cli.start(main)
