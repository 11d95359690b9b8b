"""Which of several plans to follow as the link changes under way.

A controller is data: `choose` says what the next input does, `observe` learns from how
long a message took. SPINN (Laskaridis et al. 2020, https://arxiv.org/abs/2008.06402)
scales its measured times by observed ones and follows bandwidth by a moving average, as
CRIME (2020) does round trips. One message cannot tell a rate from a round trip, so
seconds are believed choice by choice here, and one off by several times moves the
others within what any rate and round trip allow. What nobody follows is looked at now
and then by a message beside the input's own, for whose answer nothing waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sc_jax.errors import UsageError
from sc_jax.plan.link import Link, latency_s
from sc_jax.plan.plan import Plan


@dataclass(frozen=True)
class Choice:
    """A plan as adaptation needs it: seconds of device and edge, bytes on the link."""

    name: str
    compute_s: float
    sent_bytes: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.compute_s < math.inf and 0 <= self.sent_bytes < math.inf):
            raise UsageError(
                f"{self.name}: seconds and bytes are 0 or more and finite, not "
                f"{self.compute_s} and {self.sent_bytes}"
            )


def choice_of(plan: Plan, link: Link) -> Choice:
    """A plan that crosses the link once, planned for `link`; UsageError for others."""
    if len(plan.cuts) > 1:
        raise UsageError(f"{plan.name} crosses the link more than once")
    if plan.cuts and plan.threshold is not None:
        # Its bytes are a mean over inputs, no message's.
        raise UsageError(f"{plan.name} sends only what no exit answers")
    on_air = latency_s(link, plan.sent_bytes) if plan.cuts else 0.0
    return Choice(plan.name, max(0.0, plan.latency_s - on_air), plan.sent_bytes)


@dataclass(frozen=True)
class Controller:
    """Choices and what is believed of the link; `start` makes one.

    on_air_s: of each choice, seconds of its message both ways; 0 where none is sent.
    heard: whether they are of a message since the link last changed. gain: of the
    moving average, in 0..1; a message more than `abrupt` times off is believed alone.
    margin: share by which a choice must be faster to be changed to. probe_s: seconds
    between messages beside; they double up to `probe_most_s` while nothing changes.
    """

    choices: tuple[Choice, ...]
    on_air_s: tuple[float, ...]
    heard: tuple[bool, ...]
    gain: float = 0.5
    abrupt: float = 3.0
    margin: float = 0.1
    probe_s: float = 2.0
    probe_most_s: float = 8.0
    current: int | None = None
    wait_s: float = 0.0  # between the last look and the next
    looked_s: float | None = None  # when the last message beside was sent

    def __post_init__(self) -> None:
        if not self.choices:
            raise UsageError("a controller needs a choice at least")
        if not (0 < self.gain <= 1 and 0 <= self.margin < 1 < self.abrupt):
            raise UsageError(
                "gain is in 0..1, margin below 1 and abrupt above 1, not "
                f"{self.gain}, {self.margin} and {self.abrupt}"
            )
        if not 0 < self.probe_s <= self.probe_most_s:
            raise UsageError(
                f"probe_s is above 0 and at most probe_most_s, not {self.probe_s} and "
                f"{self.probe_most_s}"
            )


def start(choices: Sequence[Choice], link: Link, **settings: Any) -> Controller:
    """A controller that believes in `link` until it hears otherwise."""
    on_air = (latency_s(link, c.sent_bytes) if c.sent_bytes else 0.0 for c in choices)
    unheard = (False,) * len(choices)
    return Controller(tuple(choices), tuple(on_air), unheard, **settings)


def predicted_s(controller: Controller) -> list[float]:
    """Seconds of each choice, by what is believed of the link."""
    pairs = zip(controller.choices, controller.on_air_s)
    return [each.compute_s + on_air for each, on_air in pairs]


def choose(controller: Controller, now_s: float) -> tuple[Controller, int, int | None]:
    """(the controller from now on, the input's choice, one to look at beside or None).

    Indices of choices. The fastest by belief, changed to only beyond the margin.
    """
    seconds = predicted_s(controller)
    current = controller.current
    best = min(range(len(seconds)), key=seconds.__getitem__)
    if current is None or seconds[best] < (1 - controller.margin) * seconds[current]:
        current = best
    looked_s = now_s if controller.looked_s is None else controller.looked_s
    wait_s = controller.wait_s or controller.probe_s
    controller = replace(controller, current=current, looked_s=looked_s, wait_s=wait_s)
    beside = _worth_a_look(controller) if now_s - looked_s >= wait_s else None
    if beside is None:
        return controller, current, None
    longer = min(2 * wait_s, controller.probe_most_s)
    return replace(controller, looked_s=now_s, wait_s=longer), current, beside


def _worth_a_look(controller: Controller) -> int | None:
    """The choice that might be faster than the one followed; None: surely none.

    A device that sends nothing hears nothing: the fewest bytes tell it most cheaply.
    """
    assert controller.current is not None
    choices, followed = controller.choices, controller.choices[controller.current]
    others = [
        i for i, each in enumerate(choices) if each.sent_bytes and each is not followed
    ]
    if not followed.sent_bytes:
        few = min(others, key=lambda i: choices[i].sent_bytes, default=None)
        known = [i for i in others if controller.heard[i]]
        source = max(known, key=lambda i: choices[i].sent_bytes, default=None)
        if few is None or source is None:
            return few
        # Once that one has been heard, a larger may still be worth it.
        bounds = {i: _allowed(controller, source, i)[0] for i in others}
    else:
        few = None
        bounds = {i: _allowed(controller, controller.current, i)[0] for i in others}
    least = (1 - controller.margin) * predicted_s(controller)[controller.current]
    hopeful = [
        i
        for i in others
        if not controller.heard[i] and choices[i].compute_s + bounds[i] < least
    ]
    return min(hopeful, key=lambda i: choices[i].sent_bytes, default=few)


def _allowed(controller: Controller, heard: int, other: int) -> tuple[float, float]:
    """Least and most seconds of another message, by any rate and round trip."""
    on_air = controller.on_air_s[heard]
    sizes = (controller.choices[i].sent_bytes for i in (heard, other))
    known, asked = sizes
    # All of it the round trip, or all of it the bytes.
    alike = on_air, on_air * asked / known
    return min(alike), max(alike)


def observe(controller: Controller, index: int, link_s: float) -> Controller:
    """After a message of choice `index` took `link_s` on its way, edge left out.

    Of a message that was given up, the seconds that it was waited for.
    """
    if not (controller.choices[index].sent_bytes and 0 < link_s < math.inf):
        raise UsageError(
            f"a message of {controller.choices[index].name} has bytes and takes time, "
            f"not {link_s} s"
        )
    on_air, heard = list(controller.on_air_s), list(controller.heard)
    first, ratio = not heard[index], link_s / on_air[index]
    # Of what was never heard a wrong belief says nothing of the link's change.
    changed = not first and abs(math.log(ratio)) > math.log(controller.abrupt)
    on_air[index] *= ratio ** (1.0 if first or changed else controller.gain)
    heard = [kept and not changed for kept in heard]
    heard[index] = True
    now = replace(controller, on_air_s=tuple(on_air), heard=tuple(heard))
    for i, each in enumerate(controller.choices):
        if not heard[i] and each.sent_bytes:
            least, most = _allowed(now, index, i)
            on_air[i] = min(max(ratio * on_air[i], least), most)
    wait_s = 0.0 if changed else controller.wait_s
    return replace(now, on_air_s=tuple(on_air), wait_s=wait_s)


def replay(
    controller: Controller, links: Sequence[tuple[float, Link]], times: Sequence[float]
) -> list[tuple[str, float]]:
    """(choice, seconds) of inputs at `times` over a link that changes at known times.

    links: (from when on, the link), rising, the first at or before the first input.
    What a plan would have met; no request is made.
    """
    found = []
    for now in times:
        link = [each for since, each in links if since <= now][-1]
        controller, taken, beside = choose(controller, now)
        each = controller.choices[taken]
        seconds = each.compute_s
        for index in (taken, beside):
            if index is not None and (sent := controller.choices[index].sent_bytes):
                on_air = latency_s(link, sent)
                controller = observe(controller, index, on_air)
                seconds += on_air if index == taken else 0.0
        found.append((each.name, seconds))
    return found
