"""What a server serves: tail files, and run folders where training code is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sc_jax.deploy.server import portable
from sc_jax.deploy.server.portable import Tail
from sc_jax.errors import UsageError
from sc_jax.spec import named


def load_all(workdirs: Sequence[str]) -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails, of texts "PATH" or "ID=PATH".

    PATH is a tail file, whose first id ID replaces, or a run's folder, whose id is its
    last part otherwise. Both bring the ids and tables of the run's bundles too.
    """
    if not workdirs:
        raise UsageError(
            "give --workdir, a folder that launch.train has finished, or a tail file"
        )
    models: dict[str, tuple[Tail, ...]] = {}
    for text in workdirs:
        name, path = named(text, "--workdir")
        for found, tails in load(Path(path), name).items():
            if found in models:
                raise UsageError(f"--workdir={text}: id {found!r} is taken")
            models[found] = tails
    return models


def load(path: Path, name: str = "") -> dict[str, tuple[Tail, ...]]:
    """Model id -> tails of one file or folder, its own id first: `name`, if given."""
    if not path.is_file():
        # Training code: only a machine that serves run folders has to have it.
        from sc_jax.deploy.server import tails

        return tails.load(path, name or path.resolve().name)
    models = portable.read(path)
    first = next(iter(models))
    return {name if name and key == first else key: models[key] for key in models}
