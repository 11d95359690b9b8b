"""Bundles: written whole, read back, refused when a byte was changed."""

import json
import zipfile

import numpy as np
import pytest

from sc_jax import foreign
from sc_jax.deploy import bundle
from sc_jax.deploy.export import package
from sc_jax.errors import UsageError
from sc_jax.exits.policies import Threshold

FACTS = {"input": [28, 28, 1], "dtype": "float32"}


@pytest.fixture
def written(student, tmp_path):
    codec = student[3]
    made = bundle.write(
        tmp_path / "b", {"head": b"model bytes"}, codec,
        model="mine-0", split=0, labels=("cat", "dog"), facts=FACTS,
    )  # fmt: skip
    return tmp_path / "b", made


def test_folder_and_zip_read_back_the_same(written):
    folder, made = written
    for path in (folder, folder.with_name("b.zip")):
        again = bundle.read(path)
        assert again.segments == made.segments and again.codec == made.codec
        assert again.manifest == json.loads(json.dumps(made.manifest))
        assert again.labels == ("cat", "dog")


def test_the_same_parts_give_the_same_zip(written, student, tmp_path):
    bundle.write(
        tmp_path / "c", {"head": b"model bytes"}, student[3],
        model="mine-0", split=0, labels=("cat", "dog"), facts=FACTS,
    )  # fmt: skip
    assert (tmp_path / "c.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_nothing_is_overwritten(written, student):
    folder, _ = written
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UsageError, match="exists"):
        bundle.write(
            folder, {"head": b"other"}, student[3],
            model="mine-1", split=0, labels=(), facts={},
        )  # fmt: skip
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_tables_are_registered_only_behind_a_whole_bundle(written, student, tmp_path):
    manifest = {"model": "mine-1", "split": 0, "labels": (), "facts": FACTS}
    with pytest.raises(UsageError, match="exists"):
        package.store(tmp_path, written[0], {}, student[3], **manifest)
    assert bundle.registered(tmp_path) == {}
    package.store(tmp_path, tmp_path / "c", {}, student[3], **manifest)
    assert bundle.registered(tmp_path) == {"mine-1": student[3]}


@pytest.mark.parametrize("name", ["head.tflite", "codec.npz"])
def test_a_changed_part_is_refused_by_its_hash(written, name):
    folder, _ = written
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(UsageError, match="SHA-256"):
        bundle.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "format 3"),
        ({"segments": ["../evil"]}, "plain word"),
        ({"segments": ["tail"]}, "no whole bundle"),
        ({"parts": {}}, "no whole bundle"),
    ],
)
def test_a_changed_manifest_is_one_line(written, change, message):
    folder, _ = written
    manifest = foreign.unsealed((folder / bundle.MANIFEST).read_bytes())
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(UsageError, match=message) as caught:
        bundle.read(folder)
    assert "\n" not in str(caught.value)


def test_thresholds_of_the_first_format_are_read_as_a_policy(written):
    folder, _ = written
    for thresholds, policy in (([0.9, 2.0], Threshold((0.9, 2.0))), ([], None)):
        manifest = foreign.unsealed((folder / bundle.MANIFEST).read_bytes())
        for name in ("exits", "cost", "policy", "task"):
            manifest.pop(name, None)
        old = manifest | {"format": 1, "thresholds": thresholds}
        (folder / bundle.MANIFEST).write_text(json.dumps(old))
        again = bundle.read(folder)
        assert again.policy == policy
        assert again.manifest["task"] == "classification"
        assert len(again.manifest["exits"]) == len(thresholds) + 1


def test_what_is_no_bundle_is_one_line(tmp_path):
    (tmp_path / "file.zip").write_bytes(b"no zip")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a.txt", "a")
    for name in ("file.zip", "empty", "other.zip", "missing"):
        with pytest.raises(UsageError, match="bundle") as caught:
            bundle.read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_refitted_tables_code_their_own_symbols_shorter(student):
    codec, rng = student[3], np.random.default_rng(0)
    symbols = rng.integers(-2, 3, (50, *codec.shape)).astype(np.int32)
    symbols[..., 0] += 40  # far outside the old table
    refitted = codec.refit({"symbols": s} for s in (symbols[:20], symbols[20:]))
    far = symbols.copy()
    far[0, 0, 0, 1] = 70_000  # of one symbol: not a row of 70,000 counts
    assert len(codec.refit([{"symbols": far}]).tables.cdf[1]) < 4096
    before = sum(len(codec.pack(s)) for s in symbols)
    after = sum(len(refitted.pack(s)) for s in symbols)
    assert after < 0.9 * before
    entropy = codec.shape[0] * codec.shape[1] * codec.shape[2] * np.log2(5) / 8
    assert after / 50 < 1.03 * entropy + 8
    wild = symbols[0].copy()
    wild[0, 0, 0] = 2**30
    decoded = refitted.decode(refitted.pack(wild))
    assert np.array_equal(np.rint(decoded - codec.medians).astype(np.int64), wild)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "ab"}, {"labels": [1, 2]}, {"split": "0"}, {"split": True},
        {"facts": {"input": [28, 0, 1]}}, {"facts": {"input": ["a"]}}, {"model": None},
        {"facts": {}}, {"policy": {"policy": "none of ours"}}, {"policy": []},
        {"segments": "head"}, {"parts": []}, {"format": []}, {"codec": 5, "parts": {}},
    ],
)  # fmt: skip
def test_a_sealed_manifest_of_wrong_kinds_is_one_line(written, change):
    """Its hash is right: somebody wrote it so."""
    folder, _ = written
    manifest = foreign.unsealed((folder / bundle.MANIFEST).read_bytes())
    (folder / bundle.MANIFEST).write_bytes(foreign.sealed(manifest | change))
    with pytest.raises(UsageError, match=str(folder)) as caught:
        bundle.read(folder)
    assert "\n" not in str(caught.value)


def test_a_part_that_grew_or_is_compressed_is_not_read(written, tmp_path):
    folder, _ = written
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for part in folder.iterdir():
            file.writestr(part.name, part.read_bytes())
    with pytest.raises(UsageError, match="is compressed: unpack it"):
        bundle.read(tmp_path / "packed.zip")
    with (folder / "head.tflite").open("ab") as file:
        file.truncate(1 << 40)  # a terabyte of holes
    with pytest.raises(UsageError, match=r"head.tflite holds 1,099,511,627,776 bytes"):
        bundle.read(folder)
