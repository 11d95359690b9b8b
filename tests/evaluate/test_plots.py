"""The picture of a run: labels keep apart, and the methods' markers stand out."""

import numpy as np
import pytest

from sc_jax.evaluate.reports import labels, plots
from sc_jax.evaluate.reports.report import Row

INSIDE = np.array([0.0, 0.0, 600.0, 400.0])


def overlapping(boxes):
    boxes = np.array(boxes)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    over = ((low < boxes[None, :, 2:]) & (high > boxes[None, :, :2])).all(-1)
    return over.sum() - len(boxes)


@pytest.mark.parametrize("count", [2, 12, 40])
def test_labels_that_find_a_place_cover_neither_markers_nor_labels(count):
    """A small test set: many settings of the same few qualities."""
    x = np.linspace(60, 540, count)
    points = np.stack([x, 100 + 50 * (np.arange(count) % 5 // 2)], -1)
    room = labels.Room(INSIDE)
    room.add_curve(points, 3.0)
    room.add_level(150.0)
    markers = len(room.boxes)
    size = np.array([40.0, 12.0])
    offsets = [
        room.place(points[i], size, 3.0, always=False) for i in labels.ends_first(count)
    ]
    placed = room.boxes[markers:]
    assert len(placed) == sum(offset is not None for offset in offsets) >= 2
    assert offsets[0] is not None and offsets[1] is not None  # the ends, first
    among_markers = overlapping(room.boxes[:markers])
    assert overlapping(room.boxes) == among_markers
    assert all((box[:2] >= 0).all() and (box[2:] <= INSIDE[2:]).all() for box in placed)


def test_a_methods_label_is_always_there_and_others_are_left_out():
    room = labels.Room(np.array([0.0, 0.0, 30.0, 30.0]))
    room.add_curve(np.array([[15.0, 15.0]]), 3.0)
    size = np.array([60.0, 12.0])  # wider than the axes
    assert room.place(np.array([15.0, 15.0]), size, 3.0, always=False) is None
    assert room.place(np.array([15.0, 15.0]), size, 3.0, always=True) is not None


def row(method, family, size):
    return Row(method, "", family, 0.5, 10, size and (size, size), *[None] * 3, 0, 0)


def test_methods_are_drawn_over_what_they_are_held_against():
    drawn = [[row("Mine", "learned", 9.0)], [row("JPEG", "classical", 99.0)]]
    own, other = plots._styles(drawn)
    assert own.line_width > 2 * other.line_width
    assert own.marker_size > other.marker_size and own.layer > other.layer
    assert own.colour in plots.COLOURS and other.colour not in plots.COLOURS


def test_equal_levels_are_one_line():
    rows = [row("teacher", "reference", None), row("local-only", "reference", None)]
    assert plots._levels(rows) == {50.0: ["teacher", "local-only"]}


def test_a_label_says_what_tells_its_point_from_the_others():
    settings = ["fp, beta=1, level=0", "fp, beta=1, level=1"]
    assert plots.own_parts(settings) == ["level=0", "level=1"]
    assert plots.own_parts(["fp, beta=1"]) == ["fp, beta=1"]
    assert plots.own_parts(["beta=1", "beta=2"]) == ["beta=1", "beta=2"]
