"""Where caches stand, on machines without a home folder too."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from sc_jax import places
from sc_jax.data import cache, sources
from sc_jax.errors import UsageError


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """No HOME and a user id that the machine does not know; its temporary folder."""
    monkeypatch.delenv("SC_JAX_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_home_the_cache_is_a_temporary_folder(homeless, said):
    made = np.arange(5)
    assert np.array_equal(cache.cached("key", lambda: made), made)
    folder = homeless / f"sc_jax-{os.getuid()}"
    assert (folder / "key.npz").exists() and folder.stat().st_mode & 0o777 == 0o700
    assert np.array_equal(cache.cached("key", lambda: np.zeros(2)), made)
    assert [*homeless.iterdir()] == [folder]  # none that is called ~
    (line,) = said()
    assert str(folder) in line and "SC_JAX_CACHE" in line


@pytest.mark.parametrize("whose", ["link", "writable", "file"])
def test_a_temporary_folder_of_somebody_else_is_not_read(whose, homeless, said):
    folder = homeless / f"sc_jax-{os.getuid()}"
    planted = homeless / "planted"
    planted.mkdir()
    np.savez(planted / "key.npz", array=np.ones(1))
    if whose == "link":
        folder.symlink_to(planted)
    elif whose == "writable":
        planted.rename(folder)
        folder.chmod(0o777)
    else:
        folder.write_text("")
    assert places.home_cache() is None
    assert cache.cached("key", lambda: np.zeros(1)).tolist() == [0]
    assert "nothing is cached" in said()[0]


def test_a_relative_home_holds_no_cache(homeless, monkeypatch):
    (homeless / "here").mkdir()
    monkeypatch.setenv("HOME", "here")
    assert places.home_cache() == homeless / f"sc_jax-{os.getuid()}"


def test_a_home_that_is_not_ones_own_holds_no_cache(homeless, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != "/")
    assert places.home_cache() == homeless / f"sc_jax-{os.getuid()}"


def test_compiled_programs_stand_beside_it(homeless, monkeypatch):
    import jax

    from sc_jax.train import devices

    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    try:
        devices.start(multihost=False)
        own = homeless / f"sc_jax-{os.getuid()}" / "xla"
        assert jax.config.jax_compilation_cache_dir == str(own)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    "name", ["folder:~/x", "folder:~nobody_of_this_name/x", "plain:~/x", "tfds:x"]
)
def test_a_home_that_nobody_has_is_one_line(name, homeless):
    with pytest.raises(UsageError, match="no such home folder") as info:
        sources.load(name, "test")
    assert "\n" not in str(info.value)


def test_a_user_id_that_nobody_has(tmp_path):
    if os.getuid():
        pytest.skip("only root may become somebody else")
    code = (
        "import os; from sc_jax import places; os.setuid(54321); "
        "print(places.home_cache())"
    )
    own = {k: v for k, v in os.environ.items() if k not in ("HOME", "SC_JAX_CACHE")}
    tmp_path.chmod(0o777)
    for folder in list(tmp_path.parents)[:-2]:
        folder.chmod(folder.stat().st_mode | 0o011)
    shown = subprocess.check_output(
        [sys.executable, "-c", code],
        env=own | {"TMPDIR": str(tmp_path)},
        text=True,
        stderr=subprocess.DEVNULL,
    )
    assert shown.strip() == f"{tmp_path}/sc_jax-54321"


def test_a_cache_that_cannot_be_written_costs_a_line(tmp_path, monkeypatch, said):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SC_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert cache.cached("key", lambda: np.ones(3)).tolist() == [1, 1, 1]
    assert "cannot keep decoded images" in said()[0]
