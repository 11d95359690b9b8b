"""Manifests that somebody wrote on purpose: of any kinds, and sealed again.

Damage is found by hashes (tests/test_damaged_files.py); here the hashes are right.
"""

import copy
import json
import zipfile

import pytest

pytest.importorskip("grpc")

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serving import file_damage
from sc_jax import foreign
from sc_jax.deploy import bundle
from sc_jax.errors import UsageError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Kind -> (parts of a whole file, its reader)."""
    found = file_damage.artefacts(tmp_path_factory.mktemp("manifests"))
    parts = {}
    for kind in ("bundle.zip", "tail"):
        path, read = found[kind]
        with zipfile.ZipFile(path) as file:
            parts[kind] = {name: file.read(name) for name in file.namelist()}, read
    return parts


@pytest.mark.parametrize("kind", ["bundle.zip", "tail"])
def test_a_manifest_of_any_kinds_is_read_or_refused_in_a_line(kind, whole, tmp_path):
    parts, read = whole[kind]
    good = foreign.unsealed(parts[bundle.MANIFEST])
    places = list(file_damage._places(good))

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(place=st.integers(0, len(places) - 1), value=VALUES, gone=st.booleans())
    def any_kinds(place, value, gone):
        manifest = copy.deepcopy(good)
        where, key = list(file_damage._places(manifest))[place]
        if gone and isinstance(where, dict):
            del where[key]
        else:
            where[key] = value
        file = tmp_path / "file"
        file.unlink(missing_ok=True)
        bundle.pack(file, {**parts, bundle.MANIFEST: foreign.sealed(manifest)})
        try:
            read(file)
        except UsageError as error:
            assert "\n" not in str(error)
        assert json.dumps(manifest)  # what was tried is a manifest

    any_kinds()
