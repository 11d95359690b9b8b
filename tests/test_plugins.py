"""FILE.py:name: what it names, executed once, and its mistakes in one line."""

import re
from pathlib import Path

import pytest

from sc_jax import plugins
from sc_jax.errors import UsageError

TEXT = """
from __future__ import annotations
import dataclasses

@dataclasses.dataclass(frozen=True)
class Part:
    size: int = 1

def mine(): return Part()
def other(): return Part(2)
three = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    return path


def test_a_name_of_a_file_or_of_the_registry(file):
    assert plugins.find("part", str(file), {})().size == 1
    assert plugins.find("part", f"{file}:other", {})().size == 2
    assert plugins.find("part", "known", {"known": 5}) == 5
    assert plugins.from_file("part", f"{file}:three", lambda x: x == 3) == 3
    assert plugins.is_file(f"{file}:other") and not plugins.is_file("mine")


def test_a_file_is_executed_once(file):
    first, other = (plugins.find("part", f"{file}:{n}", {}) for n in ("mine", "other"))
    assert type(first()) is type(other())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("knwon", "unknown part 'knwon'; did you mean 'known'? Known: known, FILE.py"),
        ("none.py", "no part file none.py"),
        ("{file}:absent", "has no part absent"),
        ("{file}:three", "has no part three"),
    ],
)
def test_a_mistake_is_one_line(name, message, file):
    with pytest.raises(UsageError, match=re.escape(message)):
        plugins.find("part", name.format(file=file), {"known": 5})


@pytest.fixture
def trusted(monkeypatch):
    """How many files are trusted, in a process that trusted none before."""
    monkeypatch.setattr(plugins, "_trusted", set())
    return lambda: len(plugins._trusted)


@pytest.mark.parametrize("name", ["beta=0.1/mine.py", "a,b/mine.py", "a=1,b=2.py"])
@pytest.mark.parametrize(
    "of",
    [
        lambda file: file, str, "{}:mine".format, "{}:mine,beta=0.1".format,
        lambda file: [file], lambda file: str(file).split(","),
        lambda file: ["mine", *f"beta=2,codec={file}:c,policy=own".split(",")],
    ],
)  # fmt: skip
def test_a_file_is_trusted_whatever_its_name_holds(name, of, tmp_path, trusted):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(TEXT)
    plugins.trust(of(file))
    assert trusted() == 1


def test_every_file_of_a_recipe_is_trusted(file, tmp_path, trusted):
    other = tmp_path / "b=1.py"
    other.write_text(TEXT + "four = 4\n")
    plugins.trust(f"{file}:mine,codec={other}:c,beta=0.1")
    assert trusted() == 2


@pytest.mark.parametrize("absent", ["none.py", Path("none.py"), ["mine.py=none.py"]])
def test_a_file_that_is_absent_is_not_trusted(absent, trusted):
    with pytest.raises(UsageError, match="no trusted file"):
        plugins.trust(absent)
    assert trusted() == 0
