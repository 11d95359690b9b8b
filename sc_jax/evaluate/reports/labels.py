"""Where labels stand in a picture: near their points and none on another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Left or right, above or below; corners first, where lines seldom pass.
_DIRECTIONS = [(-1, 1), (1, -1), (1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)]
_GAPS = (4, 12, 22)  # pixels between a marker and its label
_CROSSED, _COVERED = 4.0, 1e3  # what a crossed piece of line, a covered label cost


@dataclass
class Room:
    """What is drawn so far, in pixels: markers and labels as boxes, lines as points."""

    inside: np.ndarray  # f[4] of the axes: left, bottom, right, top
    boxes: list[np.ndarray] = field(default_factory=list)  # f[4] each
    lines: list[np.ndarray] = field(default_factory=list)  # f[P, 2] each

    def add_curve(self, points: np.ndarray, radius: float) -> None:
        """A polyline f[P, 2] with a marker at each corner."""
        self.boxes += [np.concatenate([p - radius, p + radius]) for p in points]
        steps = np.linspace(0, 1, 33)[:, None, None]
        between = points[:-1] + steps * (points[1:] - points[:-1])
        self.lines.append(between.reshape(-1, 2))

    def add_level(self, height: float) -> None:
        """A line from the left of the axes to the right."""
        along = np.arange(self.inside[0], self.inside[2], 12.0)
        self.lines.append(np.stack([along, np.full(len(along), height)], -1))

    def place(
        self, point: np.ndarray, size: np.ndarray, radius: float, *, always: bool
    ) -> np.ndarray | None:
        """Pixels from a point to the middle of its label, whose place is then taken.

        None where every place is; with `always` the one that covers least.
        """
        boxes, lines = np.array(self.boxes), np.concatenate(self.lines)
        best, least = None, np.inf
        for gap in _GAPS:
            for direction in np.array(_DIRECTIONS):
                # A corner's gap is measured along its diagonal.
                reach = (gap + radius) / np.hypot(*direction)
                offset = direction * (reach + size / 2)
                low, high = point + offset - size / 2, point + offset + size / 2
                out = (low < self.inside[:2]).any() or (high > self.inside[2:]).any()
                covered = ((low < boxes[:, 2:]) & (high > boxes[:, :2])).all(-1).sum()
                if (out or covered) and not always:
                    continue
                crossed = ((low < lines) & (lines < high)).all(-1).sum()
                cost = _COVERED * (covered + 10 * out) + _CROSSED * crossed + gap
                if cost < least:
                    best, least = offset, cost
        if best is not None:
            middle = point + best
            self.boxes.append(np.concatenate([middle - size / 2, middle + size / 2]))
        return best


def ends_first(count: int) -> list[int]:
    """The order in which a curve's points get labels: its ends say its range."""
    return sorted(range(count), key=lambda i: (0 < i < count - 1, i))
