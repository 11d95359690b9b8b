"""What the binaries share: a short --help, one-line errors, exit codes, files."""

import errno
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

# Quiet before jax loads: its C++ side logs to stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags
from absl import logging as absl_logging

from sc_jax import writing
from sc_jax.errors import Diverged, ExportError, Stopped, UsageError
from sc_jax.notices import shown
from sc_jax.spec import table

# What a disk or a folder says, which no code here can mend.
_PLACES = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip
SKIP_DAMAGED = flags.DEFINE_bool(
    "skip_damaged", False, "leave out images that are damaged"
)


def start(main: Callable[[list[str]], None], *, arguments: bool = False) -> None:
    """Runs main(argv); the caller's mistakes end in one line and exit code 2.

    `arguments`: whether words that are not flags are allowed.
    """

    def parse(argv):
        # absl's own --help lists every library's flags and exits 1.
        if {"--help", "-help", "-h", "-?"} & {*argv[1:]}:
            print(help_page(sys.modules["__main__"]))
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            fail(f"{error} (--help lists the flags)", 2)

    def guarded(argv):
        _set_output()
        try:
            if len(argv) > 1 and not arguments:
                raise UsageError(
                    f"unexpected argument {argv[1]!r} (--help lists flags)"
                )
            with skipping():
                main(argv)
        except UsageError as error:
            fail(str(error), 2)
        except (Diverged, ExportError) as error:
            fail(str(error), 1)
        except OSError as error:
            if error.errno not in _PLACES:
                raise
            name = error.filename or error.filename2 or "a file"
            fail(f"{name} cannot be written or read: {error.strerror}", 2)
        except Stopped as error:
            # 128 + SIGTERM: what a scheduler expects of who heeded it.
            fail(str(error), 143)
        except Signalled as error:
            fail(f"ended by {error.signal.name}", 128 + error.signal)
        except KeyboardInterrupt:
            # A second ends what is still closing, at once and without a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            fail("interrupted; the same command resumes from the last checkpoint", 130)

    app.run(guarded, flags_parser=parse)


def _set_output() -> None:
    """What the terminal shows: this project's lines, in letters that it has."""
    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax narrates its errors
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("sc_jax")
    own.handlers, own.propagate = [lines], False
    own.setLevel(logging.INFO)
    # Pillow tells of odd files in two lines each; what is left out is said here.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # Names of files and classes need not be of the terminal's letters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class Signalled(KeyboardInterrupt):
    """A signal ended the work; exit code 128 and its number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise Signalled; the same again ends it at once."""

    def end(number, _):
        signal.signal(number, signal.SIG_DFL)
        raise Signalled(number)

    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def skipping() -> AbstractContextManager[None]:
    """In which images that are damaged are left out, where the flag says so."""
    if not SKIP_DAMAGED.value:
        return nullcontext()
    from sc_jax.data import damage  # NumPy and Pillow: not before --help

    return damage.skipping()


def fail(line: str, code: int):
    """One line on stderr, then the exit code."""
    print("error: " + " ".join(line.split()), file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)


def help_page(binary: ModuleType) -> str:
    """What the binary says of itself, and a line on each of its own flags."""
    lines = {}
    for flag in flags.FLAGS.get_key_flags_for_module(binary.__name__):
        name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
        value = flag.default
        default = ",".join(value) if isinstance(value, list) else f"{value}"
        shown = "" if flag.boolean or value is None or not default else f" ({default})"
        lines[name] = flag.help.partition(";\n")[0] + shown  # absl adds to lists' help
    about = (binary.__doc__ or "").strip()
    return f"{about}\n\nFlags (and defaults):\n{table(lines, columns=100)}"


def command() -> str:
    """The line that started this binary, to be repeated."""
    spec = sys.modules["__main__"].__spec__
    # Under `python -m` argv has the file's path, which others cannot run.
    name = spec.name if spec is not None else sys.argv[0]
    # Reports are UTF-8, names of files need not be.
    return shown(" ".join(["python -m", name, *sys.argv[1:]]))


def writable(*files: str | None) -> None:
    """Before long work: UsageError where a file could not be written."""
    for file in files:
        if file and not Path(file).absolute().parent.is_dir():
            raise UsageError(f"{file}: make its folder first")
    writing.check(*files)


def absent(*files: str | None) -> None:
    """`writable`, and UsageError where a file is there: nothing is overwritten."""
    for file in files:
        if file and Path(file).exists():
            raise UsageError(f"{file} exists: give another name, or move it away")
    writable(*files)


def read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def pair(name: str, file: str | None, other: str, second: str | None) -> tuple:
    """What two files hold that go together, () for none; UsageError for one alone."""
    if bool(file) != bool(second):
        raise UsageError(f"--{name} and --{other} go together")
    return tuple(read(each) for each in (file, second) if each)


def secret(file: str) -> str:
    """The one line of a file; an empty one is a mistake, never an open door."""
    text = read(file).decode("utf-8", "replace").strip()
    # It travels in a header; an empty one would let everybody in.
    if not text or not text.isascii() or not text.isprintable():
        raise UsageError(f"{file} does not hold one line of ASCII")
    return text
