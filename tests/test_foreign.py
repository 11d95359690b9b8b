"""Files of somebody else: refused in one line, before they cost time or memory."""

import errno
import io
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from sc_jax import foreign
from sc_jax.errors import Damaged, Unread, UsageError


def zipped(parts, kind=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array))
    return out.getvalue()


def header(shape, dtype="<f4"):
    """Of a .npy file of zeros that are not there."""
    out = io.BytesIO()
    words = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(out, words)
    return out.getvalue()


def test_arrays_of_a_file_come_back(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b/c": np.array("text"),
        "d": np.asfortranarray(np.ones((2, 2), np.int32)),
        "e": np.zeros((0, 3)),
    }
    for save, read in (
        (np.savez, foreign.read_arrays),
        (np.savez_compressed, foreign.read_arrays),
        (np.savez, lambda path: foreign.arrays(path.read_bytes())),
    ):
        save(tmp_path / "a.npz", **arrays)
        found = read(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


BAD = {
    "objects": zipped({"a.npy": npy(np.zeros(1)).replace(b"'<f8'", b"'|O' ")}),
    "more than it holds": zipped({"a.npy": header((1 << 40,))}),
    "less than it holds": zipped({"a.npy": header((1,)) + bytes(8)}),
    "no array": zipped({"a.txt": b"text"}),
    "compressed": zipped({"a.npy": npy(np.zeros(9))}, zipfile.ZIP_DEFLATED),
    "bzip2": zipped({"a.npy": npy(np.zeros(9))}, zipfile.ZIP_BZIP2),
    "encrypted": zipped({"a.npy": npy([1])}).replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "another sum": zipped({"a.npy": npy([1.0])}).replace(npy([1.0]), npy([2.0])),
    "no zip": b"PK\x03\x04 and no more",
    "nothing": b"",
    "code": zipped({"a.npy": b"\x93NUMPY\x01\x00\x09\x00__import_"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_table_is_one_line(name, tmp_path):
    (tmp_path / "a.npz").write_bytes(BAD[name])
    with (
        pytest.raises(Damaged, match=r"a.npz is no whole table: .*; make") as caught,
        foreign.reading(tmp_path / "a.npz", "table", "make it again"),
    ):
        foreign.arrays((tmp_path / "a.npz").read_bytes())
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "INFLATED_FREE", 1 << 20)
    zeros = npy(np.zeros(1 << 21))
    (tmp_path / "a.npz").write_bytes(zipped({"a.npy": zeros}, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "a.npz").stat().st_size < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="bytes that unpack to 16,777,344"):
            foreign.read_arrays(tmp_path / "a.npz")
        with (
            pytest.raises(ValueError, match="npy is compressed"),
            foreign.parts(tmp_path / "a.npz") as part,
        ):
            part("a.npy", 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_pipes_devices_folders_and_large_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(100))
    (tmp_path / "link").symlink_to("link")
    for path, words in (
        (tmp_path / "pipe", "no regular file"), ("/dev/zero", "no regular file"),
        (tmp_path, "directory"), (tmp_path / "large", "100 bytes, not 99"),
        (tmp_path / "none", "none is missing"), (tmp_path / "link", "symbolic links"),
    ):  # fmt: skip
        with (
            pytest.raises(UsageError, match=words) as caught,
            foreign.reading(path, "manifest"),
        ):
            foreign.read_bytes(path, 99)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"indent": 1}])
def test_any_change_of_sealed_json_shows(options):
    content = {"labels": ["a", "b"], "n": 1.5, "none": None, "inner": {"x": "0" * 64}}
    data = foreign.sealed(content, **options)
    assert foreign.unsealed(data) == content
    assert foreign.unsealed(json.dumps(content).encode()) == content  # an older one
    for at in range(len(data)):
        for bit in (1, 4, 32):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(ValueError):
                foreign.unsealed(bytes(changed))


def test_what_is_no_json_object_is_one_line(tmp_path):
    for data in (b"", b"[1]", b"{", b"[" * 10**6, b"\xff", b'{"a": ' * 10**5, b"null"):
        (tmp_path / "a.json").write_bytes(data)
        with pytest.raises(Damaged, match=r"a.json is no whole report") as caught:
            foreign.read_json(tmp_path / "a.json", "report")
        assert "\n" not in str(caught.value)


FAILURES = {
    "out of memory": MemoryError("Unable to allocate 1 GiB"),
    "Too many open files": OSError(errno.EMFILE, "Too many open files"),
    "Input/output error": OSError(errno.EIO, "Input/output error"),
    "Cannot allocate memory": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "Permission denied": PermissionError(errno.EACCES, "Permission denied"),
    "RESOURCE_EXHAUSTED": RuntimeError("RESOURCE_EXHAUSTED: Out of memory on device"),
}


@pytest.mark.parametrize("words", FAILURES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_fails_about_the_machine_is_no_damage(words, wrapped):
    """As it comes, and as orbax wraps it."""
    with (
        pytest.raises(Unread, match=f"file could not be read: {words}") as caught,
        foreign.reading("file", "bundle", "delete it"),
    ):
        if wrapped:
            raise ValueError("Encountered an error") from FAILURES[words]
        raise FAILURES[words]
    assert not isinstance(caught.value, Damaged)
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"indent": 1}])
def test_a_seal_whose_name_and_digits_changed_is_still_one(options):
    data = foreign.sealed({"labels": ["cat", "dog"]}, **options)
    key, digit = data.index(foreign.SEAL.encode()), data.rindex(b'"') - 1
    for at in range(key, key + len(foreign.SEAL)):
        for other in (0x20, 0x02):
            changed = bytearray(data.replace(b"cat", b"cot"))
            changed[at] ^= 1
            changed[digit] ^= other
            with pytest.raises(ValueError):
                foreign.unsealed(bytes(changed))
    for value in (b"null", b'""', b"0"):
        start = data.rindex(b": ") + 2
        with pytest.raises(ValueError, match="changed"):
            foreign.unsealed(data[:start] + value + b"}")
