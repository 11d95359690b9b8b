"""Parts of one's own: `FILE.py:name` serves wherever a registered name does.

A file runs because a person named it. What a folder or bundle of somebody else names
does not (`opening`), unless its bytes are those of a file that a person named.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from sc_jax.errors import UsageError, unknown

# SHA-256 of the files that this process was pointed at: these may run anywhere.
_trusted: set[str] = set()
# The folder that is being opened, whose files are not to run by themselves.
_opened: ContextVar[Path | None] = ContextVar("opened", default=None)


def is_file(text: str) -> bool:
    """Whether the text names a Python file, as FILE.py or FILE.py:name."""
    return text.partition(":")[0].endswith(".py")


def trust(files: str | Path | Iterable[str | Path]) -> None:
    """Files that a run's folder may run, by their bytes; UsageError where one is none.

    As FILE.py, FILE.py:name or a whole recipe, whose other knobs are left aside. A
    Path is one file, whatever its name holds.
    """
    several = [files] if isinstance(files, str | Path) else list(files)
    found = [file for file in several if isinstance(file, Path)]
    # In one: flags split their lists at commas, those of a file's name too.
    found += _named(",".join(file for file in several if isinstance(file, str)))
    for file in found:
        _trusted.add(_digest(_bytes("trusted", file)))


def _named(text: str) -> Iterator[Path]:
    """The Python files of a recipe or of several; absent ones as they are written.

    Where a file's own name holds "," or "=", it is the one that is there.
    """
    pieces = re.split("([,=])", text)  # every other one is a separator
    start = 0
    while start < len(pieces):
        for end in range(start + 1, len(pieces) + 1, 2):
            written = "".join(pieces[start:end])
            names = (written, written.partition(":")[0])
            file = next((n for n in names if _is_there(n)), None)
            if file is not None:
                yield Path(file)
                start = end - 1
                break
        else:
            if is_file(pieces[start]):
                yield Path(pieces[start].partition(":")[0])
        start += 2


def _is_there(name: str) -> bool:
    return name.endswith(".py") and os.path.isfile(name)


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """In which a Python file runs only where `trust` knows its bytes."""
    token = _opened.set(folder)
    try:
        yield
    finally:
        _opened.reset(token)


def refuse_untrusted(text: str) -> None:
    """UsageError while a folder is opened, if FILE.py of it is not to run by itself."""
    file, folder = Path(text.partition(":")[0]), _opened.get()
    if folder is not None:
        _check(folder, file, _bytes("part", file))


def _check(folder: Path, file: Path, data: bytes) -> None:
    if _digest(data) not in _trusted:
        raise UsageError(
            f"{folder} names a Python file, which opening it would run: read {file}, "
            f"and name it if you trust it, --recipe={file} "
            f'(sc_jax.load({str(folder)!r}, trust="{file.name}"))'
        )


def _bytes(kind: str, file: Path) -> bytes:
    if not file.is_file():
        raise UsageError(f"no {kind} file {file}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find(
    kind: str,
    text: str,
    registry: Mapping[str, Any],
    needs: Callable[[Any], bool] = callable,
) -> Any:
    """`registry[text]`, or what FILE.py:name holds; UsageError lists the known."""
    if is_file(text):
        return from_file(kind, text, needs)
    if text not in registry:
        raise unknown(kind, text, (*registry, "FILE.py:name"))
    return registry[text]


def from_file(kind: str, text: str, needs: Callable[[Any], bool] = callable) -> Any:
    """What `name` is in FILE.py of "FILE.py:name"; "FILE.py" alone means its stem.

    `needs`: whether an object can be a `kind` ("backbone", "codec", ...): other
    objects, absent names and files that do not load are UsageErrors of one line.
    """
    path, _, name = text.partition(":")
    file = Path(path)
    data, folder = _bytes(kind, file), _opened.get()
    if folder is None:
        _trusted.add(_digest(data))
    else:
        _check(folder, file, data)
    name = name or file.stem
    found = getattr(_module(file.resolve(), data), name, None)
    if found is None or not needs(found):
        raise UsageError(f"{file} has no {kind} {name}")
    return found


def text_of(part: Any, registry: Mapping[str, Any]) -> str:
    """What `find` knows a class by: its registered name, or FILE.py:name."""
    for name, registered in registry.items():
        if registered is part:
            return name
    return f"{sys.modules[part.__module__].__file__}:{part.__qualname__}"


def _module(file: Path, data: bytes) -> ModuleType:
    """The file as a module, executed once: its classes are compared by identity."""
    if file not in _modules:
        _modules[file] = _executed(file, data)
    return _modules[file]


_modules: dict[Path, ModuleType] = {}


def _executed(file: Path, data: bytes) -> ModuleType:
    # Dataclasses, and so Flax modules, look their own module up by this name.
    name = f"sc_jax file {file}"
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(file)
    try:
        # These bytes, that were checked: a loader would read the file once more, or
        # run compiled code that lies beside it.
        exec(compile(data, str(file), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        # Half a module must not be found by the next who looks.
        del sys.modules[name]
        kind = type(error).__name__
        raise UsageError(f"{file} does not load: {kind}: {error}") from error
    return module
