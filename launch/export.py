"""Exports a finished run's head as a bundle that a device installs.

  python -m launch.export --workdir=runs/first --out=bundle
  python -m launch.export --workdir=runs/first --out=bundle_int8 --dtype=int8
  python -m launch.export --workdir=runs/first --tail=first.tail

Writes the folder --out and the same as --out.zip: the .tflite head (uint8 images in,
the coder's integers out), the integer tables, labels, a manifest of hashes. The head is
compared with JAX on real images and measured on the test split through the coder and
the tail; beyond a bound nothing is written. int8 is calibrated on training images, and
its entropy tables are fitted again to its own symbols (the server finds them under
--workdir/exports). Needs: pip install -e '.[export]'. --tail writes what a server
needs of the run and its bundles as one file, for launch.serve without training code.
"""

from pathlib import Path

from absl import flags

from launch import cli

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
OUT = flags.DEFINE_string("out", None, "folder of the bundle; must not exist")
TAIL = flags.DEFINE_string("tail", None, "file of the server's part; must not exist")
DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "float16", "int8_weights", "dynamic", "int8"],
    "of weights (float16, int8_weights), or of the arithmetic too (dynamic, int8)",
)
FLOAT_OPS = flags.DEFINE_list(
    "float_ops",
    ["DIV"],
    "LiteRT operations int8 leaves in float; DIV has no fast integer form",
)
FLOAT_STAGES = flags.DEFINE_list("float_stages", [], "stages kept in float: normalise")
POLICY = flags.DEFINE_string(
    "policy", "", "who leaves at local exits, NAME:knob=..., solved on the validation "
    "split; default: exits answer only where the server does not",
)  # fmt: skip
THRESHOLDS = flags.DEFINE_list(
    "thresholds", None, "one a local exit, of its largest probability, for --policy"
)
CALIBRATION = flags.DEFINE_integer("calibration", 256, "training images", 1)
DROP = flags.DEFINE_float("max_drop_points", 1.0, "accuracy the head may lose")
MORE = flags.DEFINE_float("max_more_bytes", 0.05, "share of bytes it may add")


def main(_):
    if WORKDIR.value is None or not (OUT.value or TAIL.value):
        raise cli.UsageError(
            "give --workdir, a finished run, and --out, a new folder, or --tail, a file"
        )
    from sc_jax.train import devices

    devices.start(multihost=False)
    if TAIL.value and Path(TAIL.value).exists():
        raise cli.UsageError(f"{TAIL.value} exists; give another --tail or remove it")
    if OUT.value:
        export_head(Path(WORKDIR.value), Path(OUT.value))
    if TAIL.value:
        export_tail(Path(WORKDIR.value), Path(TAIL.value))


def export_tail(workdir: Path, file: Path):
    from sc_jax.deploy.server import tails

    made = tails.pack(workdir, file)
    platforms = ", ".join(made["platforms"])
    print(f"{file}: {file.stat().st_size:,} bytes, for {platforms}")
    print(f"models {', '.join(made['models'])}")


def export_head(workdir: Path, out: Path):
    from sc_jax.deploy.export import package

    thresholds = THRESHOLDS.value
    try:
        if thresholds is not None:
            thresholds = tuple(float(t) for t in thresholds)
    except ValueError as error:
        raise cli.UsageError(f"--thresholds: {error}") from None
    try:
        made, proof = package.package(
            workdir, out,
            dtype=DTYPE.value, float_ops=tuple(FLOAT_OPS.value),
            float_stages=tuple(FLOAT_STAGES.value),
            policy=POLICY.value, thresholds=thresholds,
            calibration=CALIBRATION.value,
            max_drop_points=DROP.value, max_more_bytes=MORE.value,
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise cli.UsageError(f"no {error.name}: pip install -e '.[export]'") from None
    facts = made.manifest["facts"]
    for name, part in made.manifest["parts"].items():
        print(f"{name:14} {part['bytes']:>9,} bytes")
    print(f"model {made.manifest['model']}")
    for name, segment in facts["segments"].items():
        parity = segment["parity"]
        print(
            f"{name}: {parity['different']} of {parity['symbols']:,} numbers differ "
            f"from JAX, {parity['ties']} of them ties, over {parity['examples']} images"
        )
    for name, (own, exact) in proof.exits.items():
        print(f"{name}: top-1 {100 * own:.2f} % (JAX {100 * exact:.2f}) over all")
    print(
        f"{proof.split}: top-1 {100 * proof.top1:.2f} % (JAX {100 * proof.top1_jax:.2f}"
        f"), {proof.payload_bytes:.2f} bytes (JAX {proof.payload_bytes_jax:.2f}; "
        f"before refitting {proof.payload_bytes_before_refit:.2f})"
    )


if __name__ == "__main__":
    cli.start(main)
