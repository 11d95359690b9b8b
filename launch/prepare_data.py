"""Downloads a TFDS set and writes it as array_record, which training reads.

    python -m launch.prepare_data --data=tfds:mnist
    python -m launch.prepare_data --data=tfds:birds --builder=our_package.birds

Needs TensorFlow (`pip install 'sc_jax[prepare]'`) and, for public sets, a network.
"""

import importlib
import importlib.util
from pathlib import Path

from absl import flags

from launch import cli
from sc_jax.data import tfds_source
from sc_jax.errors import UsageError

DATA = flags.DEFINE_string("data", None, "tfds:NAME[:config]")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, f"where to keep it; by default {tfds_source.DEFAULT_DATA_DIR}"
)
BUILDER = flags.DEFINE_string(
    "builder", None, "module that defines the set's own tfds builder"
)


def prepare(data: str, data_dir: str | None, builder: str | None) -> Path:
    """Prepares the set, returns its folder; UsageError if that cannot start."""
    scheme, _, argument = data.partition(":")
    if scheme != "tfds" or not argument:
        raise UsageError(f"--data={data} is not tfds:NAME[:config]: only these need it")
    if importlib.util.find_spec("tensorflow") is None:
        raise UsageError("preparing needs TensorFlow: pip install 'sc_jax[prepare]'")
    if builder is not None:
        try:
            importlib.import_module(builder)
        except ModuleNotFoundError as error:
            raise UsageError(f"--builder={builder}: {error}") from error
    return tfds_source.prepare(argument, data_dir)


def main(_):
    if DATA.value is None:
        raise UsageError("give --data, a tfds:NAME[:config]")
    folder = prepare(DATA.value, DATA_DIR.value, BUILDER.value)
    print(f"prepared {DATA.value} in {folder}")


if __name__ == "__main__":
    cli.start(main)
