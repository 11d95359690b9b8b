"""Cut after cut: what is really sent there, and what images an attack makes of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from PIL import Image as Pillow

from benchmarks.methods import cuts, inversion_attack
from benchmarks.methods.inversion_attack import Budget, line
from sc_jax.nets.net import Net, head
from sc_jax.nets.run import Variables

BATCH = 10


def resized(images: np.ndarray, side: int | None) -> np.ndarray:
    """Images at a side, by area; None: as they are."""
    if side is None or images.shape[1:3] == (side, side):
        return images
    grey = images.shape[-1] == 1
    found = [
        np.asarray(
            Pillow.fromarray(x[..., 0] if grey else x).resize(
                (side, side), Pillow.Resampling.BOX
            )
        )
        for x in images
    ]
    return np.stack(found).reshape(len(images), side, side, images.shape[-1])


def sent(
    net: Net,
    variables: Variables,
    cut: str,
    text: str,
    train: np.ndarray,
    test: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """(decoded latents of training and of test images, mean bytes of the latter).

    The codec is solved from training images; both pass its bytes.
    """
    part = cuts.Part(head(net, cut), variables, cut)

    def latents(images: np.ndarray) -> np.ndarray:
        whole = -(-len(images) // BATCH) * BATCH
        padded = np.resize(images, (whole, *images.shape[1:]))
        found = [part(padded[i : i + BATCH]) for i in range(0, whole, BATCH)]
        return np.concatenate(found)[: len(images)]

    known, unseen = latents(train), latents(test)
    codec = cuts.codec_of(text, [known])
    data, decoded, _ = cuts.through(codec, unseen)
    return cuts.through(codec, known)[1], decoded, float(np.mean([*map(len, data)]))


def measured(
    net: Net,
    variables: Variables,
    places: list[str],
    train: np.ndarray,
    test: np.ndarray,
    budget: Budget,
    side: int | None = None,
    codec: str = "affine:bits=8",
    file: str = "image:format=JPEG+quality=75",
) -> tuple[list[dict[str, Any]], list[tuple[str, np.ndarray]]]:
    """(a row for each cut, the pictures of each), the references first."""
    small, truth = resized(train, side), resized(test, side)
    data, files, _ = cuts.through(cuts.codec_of(file, [train]), test)
    mean = np.rint(small.mean(0)).astype(np.uint8)
    nothing = np.broadcast_to(mean, truth.shape)
    pictures = [
        ("original", truth),
        (f"input, {file}", resized(files.astype(np.uint8), side)),
        ("no message", nothing),
    ]
    sizes = [0.0, float(np.mean([*map(len, data)])), 0.0]
    rows = [
        {"cut": name, "bytes": size, **inversion_attack.figures(truth, seen)}
        for (name, seen), size in zip(pictures[1:], sizes[1:])
    ]
    for cut in places:
        begun = time.perf_counter()
        known, unseen, size = sent(net, variables, cut, codec, train, test)
        seen = inversion_attack.inverted(known, small, unseen, budget)
        spent = time.perf_counter() - begun
        pictures.append((cut, seen))
        figures = inversion_attack.figures(truth, seen)
        shape = list(known.shape[1:])
        rows.append({"cut": cut, "bytes": size, "shape": shape, **figures})
        print(f"{line(rows[-1])} {spent:.0f} s", flush=True)
    return rows, pictures
