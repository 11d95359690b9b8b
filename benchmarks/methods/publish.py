"""Makes a file of the zoo (python -m launch.train --list=zoo) from a finished run.

  python -m benchmarks.methods.publish --workdir=runs/projection --name=NAME

The run's teacher is a public checkpoint as it is (pretrained=FILE,teacher_epochs=0).
What the run trained is written, kernels to 24 bits, with its tables and a record;
the file is opened again and measured, beside what the run's report says of it before it
was rounded. A file of more than 1 MB is refused.
"""

from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.evaluate.reports import report
from sc_jax.runs import publish, zoo
from sc_jax.train import devices

WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished launch.train run")
NAME = flags.DEFINE_string("name", None, "of the student: its file is NAME.npz")
OUT = flags.DEFINE_string("out", str(zoo.FOLDER), "folder of the file; the package's")
DATA = flags.DEFINE_string("data", None, "labelled set to measure; the run's own test")
TITLE = flags.DEFINE_string(
    "teacher", "torchvision MobileNet_V2_Weights.IMAGENET1K_V1", "the checkpoint's name"
)
URL = flags.DEFINE_string(
    "url",
    "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
    "where the checkpoint is had",
)


def main(_):
    if WORKDIR.value is None or not NAME.value:
        raise cli.UsageError("give --workdir, a finished run, and --name")
    devices.start(multihost=False)
    file = Path(OUT.value) / f"{NAME.value}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    cli.writable(str(file))
    made = publish.publish(
        Path(WORKDIR.value), file, title=TITLE.value, url=URL.value, test=DATA.value
    )
    print(report.table([*made.rows, *made.before]))
    last = f"; the last {len(made.before)} lines are before rounding"
    print(f"{made.file}: {made.size:,} bytes{last if made.before else ''}")


if __name__ == "__main__":
    cli.start(main)
