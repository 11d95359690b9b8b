"""FILE.py:name: what it names, executed once, and its mistakes in one line."""

import re

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
