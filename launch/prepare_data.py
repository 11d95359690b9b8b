"""Downloads a TFDS set and writes it as array_record, which training reads.

    python -m launch.prepare_data --data=tfds:mnist
    python -m launch.prepare_data --data=tfds:birds --builder=our_package.birds

Needs TensorFlow (`pip install 'sc_jax[prepare]'`) and, for public sets, a network.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

from absl import app, flags, logging

from sc_jax.data import tfds_source
from sc_jax.errors import UsageError

DATA = flags.DEFINE_string("data", None, "tfds:NAME[:config]", required=True)
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


def main(argv: list[str]) -> None:
    del argv
    try:
        folder = prepare(DATA.value, DATA_DIR.value, BUILDER.value)
    except UsageError as error:
        print(f"prepare_data: {error}", file=sys.stderr)
        sys.exit(2)
    logging.info("prepared %s in %s", DATA.value, folder)


if __name__ == "__main__":
    app.run(main)
