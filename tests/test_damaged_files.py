"""Random damage to what is read: refused in one line, or exactly the right answer."""

import numpy as np
import pytest

from benchmarks.serving import file_damage
from benchmarks.serving.file_damage import RAISED, REFUSED, RIGHT, SILENT

EACH = {"run": 2, "bundle": 20, "bundle.zip": 40, "tail": 20, "trace": 40}


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    return file_damage.artefacts(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", EACH)
def test_no_damage_is_silent_or_a_traceback(artefacts, kind):
    root, read = artefacts[kind]
    right = read(root)
    files = file_damage.files_of(root)
    refused = 0
    for number, file in enumerate(files):
        rng = np.random.default_rng([7, number])
        ends, why = file_damage.tried(read, root, file, EACH[kind], rng, right)
        assert not why, why
        assert ends[REFUSED] + ends[RIGHT] == EACH[kind]
        refused += ends[REFUSED]
    assert refused >= len(files) / 2
    assert read(root) == right


def test_a_reader_that_looks_away_would_show(artefacts, tmp_path):
    """The harness itself: what it calls silent, and what a traceback."""
    file = tmp_path / "numbers"
    file.write_bytes(bytes(range(200)))

    def total(path):
        return str(sum(path.read_bytes()))

    rng = np.random.default_rng(0)
    ends, why = file_damage.tried(total, file, file, 100, rng, total(file))
    assert ends[SILENT] > 0 and ends[RIGHT] > 0 and ends[RAISED] > 0
    assert len(why) == ends[SILENT] + ends[RAISED]
    assert file.read_bytes() == bytes(range(200))
