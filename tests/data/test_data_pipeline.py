"""Batches as a pure function of the step; augmentation; the pass in order."""

import builtins
import json

import jax
import numpy as np
import pytest

from sc_jax.data import pipeline, sources
from sc_jax.data.augment import windows
from sc_jax.data.dataset import Dataset, LazyImages
from sc_jax.errors import UsageError


@pytest.fixture(scope="module")
def small():
    return sources.load("fashion_mnist_12k", "test").take(np.arange(100))


@pytest.fixture(scope="module")
def lazy():
    """30 RGB images of varying sizes; the label is the image's number."""

    def read(i):
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (20 + i, 50 - i, 3), np.uint8)

    images = LazyImages(read, np.arange(30), channels=3, size=16)
    classes = tuple(map(str, range(30)))
    return Dataset("lazy", "train", classes, images, np.arange(30, dtype=np.int32))


def first(dataset, count, **options):
    defaults = {"batch_size": 16, "seed": 3, "augment": "none"}
    stream = pipeline.batches(dataset, **{**defaults, **options})
    got = [next(stream) for _ in range(count)]
    stream.close()
    return got


def same(one, other):
    return all(
        np.array_equal(a[k], b[k])
        for a, b in zip(one, other)
        for k in ("image", "label")
    )


def test_an_epoch_visits_each_example_at_most_once(small):
    batches = first(small, 12)  # 6 batches an epoch, 4 examples dropped
    assert batches[0]["image"].shape == (16, 28, 28, 1)
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["label"].dtype == np.int32
    whole = {image.tobytes(): i for i, image in enumerate(small.images)}
    seen = [[whole[i.tobytes()] for i in b["image"]] for b in batches]
    labels = np.concatenate([b["label"] for b in batches])
    assert np.array_equal(labels, small.labels[np.concatenate(seen)])
    epochs = [np.concatenate(seen[:6]), np.concatenate(seen[6:])]
    assert all(len({*epoch}) == 96 for epoch in epochs)
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("kind", ["none", "resized_crop"])
@pytest.mark.parametrize("which", ["small", "lazy"])
def test_same_seed_same_batches(which, kind, request):
    dataset = request.getfixturevalue(which)
    options = {"augment": kind, "batch_size": 8}
    batches = first(dataset, 9, **options)
    assert same(batches, first(dataset, 9, **options))
    assert same(batches[5:], first(dataset, 4, start_step=5, **options))
    assert not same(batches, first(dataset, 9, seed=4, **options))


@pytest.mark.parametrize("which", ["small", "lazy"])
def test_processes_partition_the_batch_in_order(which, request):
    dataset = request.getfixturevalue(which)
    whole = first(dataset, 8, augment="resized_crop")
    shares = [
        first(dataset, 8, augment="resized_crop", process_index=p, process_count=4)
        for p in range(4)
    ]
    joined = [
        {k: np.concatenate([b[k] for b in step]) for k in ("image", "label")}
        for step in zip(*shares)
    ]
    assert same(whole, joined)
    assert shares[0][0]["label"].shape == (4,)


@pytest.mark.parametrize("with_grain", [True, False])
def test_state_continues_in_mid_epoch(small, with_grain, monkeypatch):
    expected = first(small, 12)
    if not with_grain:
        load = builtins.__import__

        def without(name, *rest):
            if name == "grain":
                raise ImportError(name)
            return load(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
    stream = pipeline.batches(small, batch_size=16, seed=3, augment="none")
    got = [next(stream) for _ in range(4)]
    state = json.loads(json.dumps(stream.get_state()))
    for _ in range(3):
        next(stream)
    stream.close()
    stream = pipeline.batches(small, batch_size=16, seed=3, augment="none")
    stream.set_state(state)
    got += [next(stream) for _ in range(8)]
    stream.close()
    assert same(got, expected)
    assert stream.get_state()["step"] == 12


def test_a_state_of_another_stream_is_refused(small, fails):
    stream = pipeline.batches(small, batch_size=16, seed=3, augment="none")
    state = stream.get_state()
    stream.close()
    other = pipeline.batches(small, batch_size=10, seed=3, augment="none")
    with pytest.raises(UsageError) as info:
        other.set_state(state)
    other.close()
    assert "batch_size" in fails(info)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"batch_size": 101}, "100 examples"),
        ({"batch_size": 16, "process_count": 3}, "divide"),
        ({"augment": "mixup"}, "crop_flip"),
        ({"batch_size": 0}, "at least 1"),
        ({"seed": -1}, "negative"),
    ],
)
def test_usage_errors(small, options, word, fails):
    with pytest.raises(UsageError) as info:
        first(small, 1, **options)
    assert word in fails(info)


def test_data_is_plain_and_checked():
    data = pipeline.Data(batch_size=64)
    assert data == pipeline.Data(batch_size=64)
    assert pipeline.Data(**json.loads(json.dumps(vars(data)))) == data
    with pytest.raises(UsageError):
        pipeline.Data(augment="mixup")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", pipeline.AUGMENTATIONS)
def test_augmentation_on_device(kind, channels):
    rng = np.random.default_rng(0)
    images = rng.integers(50, 200, (32, 32, 24, channels), np.uint8)
    run = jax.jit(pipeline.augment_on_device, static_argnums=2)
    with jax.numpy_rank_promotion("raise"):
        out, again = (np.asarray(run(images, jax.random.key(0), kind)) for _ in "ab")
        other = np.asarray(run(images, jax.random.key(1), kind))
    assert out.shape == images.shape
    assert out.dtype == np.uint8
    assert np.array_equal(out, again)
    changed = (out != images).any((1, 2, 3)).mean()
    if kind == "none":
        assert changed == 0
        return
    assert changed > 0.2
    assert not np.array_equal(out, other)
    if kind == "flip":
        mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
        assert (mirrored | (out == images).all((1, 2, 3))).all()
    if kind == "resized_crop":  # no dark rim: every pixel comes from the picture
        assert out.min() >= 50
        assert out.max() < 200


def test_crops_are_crops_of_the_padded_image():
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    images = np.repeat(image, 64, 0)
    run = jax.jit(pipeline.augment_on_device, static_argnums=2)
    out = np.asarray(run(images, jax.random.key(2), "crop_flip"))
    padded = np.pad(image[0], ((1, 1), (1, 1), (0, 0)))
    crops = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    possible = {c.tobytes() for c in [*crops, *(c[:, ::-1] for c in crops)]}
    assert {o.tobytes() for o in out} <= possible
    assert len({o.tobytes() for o in out}) > 9


def test_one_image_is_as_in_a_batch(lazy, small):
    for dataset in (lazy, small):
        batch = next(pipeline.evaluation_batches(dataset, 5))[0]
        assert all(np.array_equal(batch[i], dataset.image(i)) for i in range(5))


def test_windows_are_squares_of_their_own_image_from_corner_to_corner():
    images = np.arange(64 * 6 * 8, dtype=np.int32).reshape(64, 6, 8, 1)
    out = np.asarray(jax.jit(windows, static_argnums=2)(images, jax.random.key(0), 4))
    assert out.shape == (64, 4, 4, 1)
    tops, lefts = np.unravel_index(out[:, 0, 0, 0] % 48, (6, 8))
    for image, square, top, left in zip(images, out, tops, lefts):
        assert np.array_equal(square, image[top : top + 4, left : left + 4])
    assert set(tops) == {0, 1, 2} and set(lefts) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", pipeline.AUGMENTATIONS)
def test_lazy_sets_are_augmented_on_the_host(lazy, kind):
    batch = first(lazy, 1, augment=kind)[0]
    assert batch["image"].shape == (16, 16, 16, 3)
    plain = first(lazy, 1)[0]
    assert np.array_equal(batch["label"], plain["label"])
    assert (kind == "none") == np.array_equal(batch["image"], plain["image"])
    assert pipeline.device_kind(lazy, kind) == "none"


def test_sets_in_memory_are_left_to_the_device(small):
    assert same(first(small, 2, augment="crop_flip"), first(small, 2))
    assert pipeline.device_kind(small, "flip") == "flip"


def test_evaluation_pads_the_last_batch(small):
    batches = [*pipeline.evaluation_batches(small, 32)]
    assert [count for *_, count in batches] == [32, 32, 32, 4]
    assert all(image.shape == (32, 28, 28, 1) for image, *_ in batches)
    images = np.concatenate([image[:count] for image, _, count in batches])
    labels = np.concatenate([label[:count] for _, label, count in batches])
    assert np.array_equal(images, small.images)
    assert np.array_equal(labels, small.labels)
    assert not batches[-1][0][4:].any()


def test_mean_std_agree_with_numpy(small, lazy):
    mean, std = pipeline.mean_std(small)
    pixels = small.images / 255
    np.testing.assert_allclose([*mean, *std], [pixels.mean(), pixels.std()], atol=1e-9)
    mean, std = pipeline.mean_std(lazy)
    assert len(mean) == len(std) == 3
    assert all(type(value) is float for value in mean + std)
