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

LEAST_S = 1e-9  # of a message on the air: beliefs are compared as ratios


@dataclass(frozen=True)
class Choice:
    """A plan as adaptation needs it.

    device_s: mean seconds of the device, its coder included. sent_bytes: of a message,
    0: none is sent. edge_s: of a message's seconds, those that the link does not take:
    the server's. quality: of the answers, None: not known. share: of the inputs that
    are sent; an exit on the device answers the others.
    """

    name: str
    device_s: float
    sent_bytes: float = 0.0
    edge_s: float = 0.0
    quality: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        numbers = self.device_s, self.sent_bytes, self.edge_s
        if not all(0 <= each < math.inf for each in numbers):
            raise UsageError(
                f"{self.name}: seconds and bytes are 0 or more and finite, not "
                f"{', '.join(map(str, numbers))}"
            )
        if not 0 <= self.share <= 1:
            raise UsageError(f"{self.name}: share is in 0..1, not {self.share}")


def choice_of(plan: Plan, link: Link) -> Choice:
    """A plan that crosses the link once, planned for `link`; UsageError for others.

    Where a threshold decides who is sent, its bytes are a mean over the inputs, those
    of its cut a message's.
    """
    if len(plan.cuts) > 1:
        raise UsageError(f"{plan.name} crosses the link more than once")
    name = plan.name
    if not plan.cuts:
        return Choice(name, plan.latency_s, quality=plan.quality)
    message = plan.cuts[0].sent_bytes
    share = min(1.0, plan.sent_bytes / message)
    on_air = latency_s(link, message)
    if plan.device_s is None:
        device_s = max(0.0, plan.latency_s - share * on_air)
        return Choice(name, device_s, message, 0.0, plan.quality, share)
    behind_s = (plan.latency_s - plan.device_s) / share if share else 0.0
    edge_s = max(0.0, behind_s - on_air)
    return Choice(name, plan.device_s, message, edge_s, plan.quality, share)


@dataclass(frozen=True)
class Controller:
    """Choices and what is believed of the link; `start` makes one.

    message_s: of each choice, seconds from its frame to the answer, the server's
    included; 0 where none is sent. heard: whether they are of a message since the link
    last changed. pace: what the device takes, as a factor on all planned seconds of it.
    deadline_s: of an input; None: the fastest choice is the best. gain:
    of the moving average, in 0..1; a message more than `abrupt` times off is believed
    alone. margin: share by which a choice must be faster, or within the deadline, to be
    changed to. probe_s: seconds between messages beside; they double up to
    `probe_most_s` while nothing changes.
    """

    choices: tuple[Choice, ...]
    message_s: tuple[float, ...]
    heard: tuple[bool, ...]
    deadline_s: float | None = None
    pace: float = 1.0
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
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise UsageError(f"deadline_s is above 0, not {self.deadline_s}")


def start(choices: Sequence[Choice], link: Link, **settings: Any) -> Controller:
    """A controller that believes in `link` until it hears otherwise."""
    message = (
        latency_s(link, c.sent_bytes) + c.edge_s if c.sent_bytes else 0.0
        for c in choices
    )
    unheard = (False,) * len(choices)
    return Controller(tuple(choices), tuple(message), unheard, **settings)


def predicted_s(controller: Controller) -> list[float]:
    """Mean seconds of each choice, by what is believed of the link."""
    indices = range(len(controller.choices))
    return [_seconds(controller, i, controller.message_s[i]) for i in indices]


def _seconds(controller: Controller, i: int, message_s: float) -> float:
    each = controller.choices[i]
    sent_s = each.share * message_s if each.sent_bytes else 0.0
    return controller.pace * each.device_s + sent_s


def rank(controller: Controller, i: int, seconds: float) -> tuple[bool, float, float]:
    """More is better: who keeps the deadline, of those the best, then the fastest."""
    keeps = controller.deadline_s is not None and seconds <= controller.deadline_s
    known = controller.choices[i].quality
    quality = -math.inf if known is None or not keeps else known
    return keeps, quality, -seconds


def _worth_it(controller: Controller, i: int, seconds: float, followed: float) -> bool:
    """Whether to change to choice i, which takes `seconds`, beyond the margin."""
    assert controller.current is not None
    least = 1 - controller.margin
    old = rank(controller, controller.current, followed)
    # What is just within the deadline now may miss it with the next message.
    new = rank(controller, i, seconds)
    sure = rank(controller, i, seconds / least)
    if new[:2] == old[:2]:
        return seconds < least * followed
    return sure[:2] > old[:2] or (new > old and seconds < least * followed)


def choose(controller: Controller, now_s: float) -> tuple[Controller, int, int | None]:
    """(the controller from now on, the input's choice, one to look at beside or None).

    Indices of choices. By belief: the best quality of those that keep the deadline; the
    fastest where none does or there is no deadline. Changed to beyond the margin alone.
    """
    seconds = predicted_s(controller)
    current = controller.current
    likely = [
        i
        for i in range(len(seconds))
        if current is None or _worth_it(controller, i, seconds[i], seconds[current])
    ]
    if likely:
        current = max(likely, key=lambda i: rank(controller, i, seconds[i]))
    assert current is not None
    looked_s = now_s if controller.looked_s is None else controller.looked_s
    wait_s = controller.wait_s or controller.probe_s
    controller = replace(controller, current=current, looked_s=looked_s, wait_s=wait_s)
    beside = _worth_a_look(controller) if now_s - looked_s >= wait_s else None
    if beside is None:
        return controller, current, None
    longer = min(2 * wait_s, controller.probe_most_s)
    return replace(controller, looked_s=now_s, wait_s=longer), current, beside


def _worth_a_look(controller: Controller) -> int | None:
    """The choice that might be better than the one followed; None: surely none.

    A device that sends nothing hears nothing: the fewest bytes tell it most cheaply.
    """
    assert controller.current is not None
    choices, followed = controller.choices, controller.choices[controller.current]
    now_s = predicted_s(controller)[controller.current]

    def hopeful(i: int, message_s: float) -> bool:
        return _worth_it(controller, i, _seconds(controller, i, message_s), now_s)

    # Of these alone a message can tell something: a perfect link might make them best.
    others = [
        i
        for i, each in enumerate(choices)
        if each.sent_bytes and each is not followed and hopeful(i, each.edge_s)
    ]
    source = controller.current
    if not followed.sent_bytes:
        known = [i for i, each in enumerate(choices) if each.sent_bytes]
        few = min(known, key=lambda i: choices[i].sent_bytes, default=None)
        known = [i for i in known if controller.heard[i]]
        source = max(known, key=lambda i: choices[i].sent_bytes, default=None)
        if few is None or not others:
            return None
        if source is None:
            return few
        # Once that one has been heard, a larger may still be worth it.
    else:
        few = None
    unheard = [i for i in others if not controller.heard[i]]
    least = {i: _allowed(controller, source, i)[0] for i in unheard}
    likely = [i for i in unheard if hopeful(i, least[i])]
    return min(likely, key=lambda i: choices[i].sent_bytes, default=few)


def _allowed(controller: Controller, heard: int, other: int) -> tuple[float, float]:
    """Least and most seconds of another message, by any rate and round trip."""
    known, asked = (controller.choices[i] for i in (heard, other))
    # A server that is faster than planned leaves less to the link than all of it.
    on_air = max(controller.message_s[heard] - known.edge_s, LEAST_S)
    # All of it the round trip, or all of it the bytes.
    alike = on_air, on_air * asked.sent_bytes / known.sent_bytes
    return min(alike) + asked.edge_s, max(alike) + asked.edge_s


def timed(controller: Controller, index: int, device_s: float) -> Controller:
    """After the device computed `device_s` for an input of choice `index`.

    One factor for all choices, as SPINN has it: a device that is busy or hot is slower
    at whatever it does.
    """
    planned_s = controller.pace * controller.choices[index].device_s
    if not (planned_s and 0 < device_s < math.inf):
        return controller  # nothing to compare
    ratio = device_s / planned_s
    return replace(controller, pace=controller.pace * ratio**controller.gain)


def observe(controller: Controller, index: int, message_s: float) -> Controller:
    """After a message of choice `index` took `message_s`, from the frame to the answer.

    Of a message that was given up, the seconds that it was waited for.
    """
    if not (controller.choices[index].sent_bytes and 0 < message_s < math.inf):
        raise UsageError(
            f"a message of {controller.choices[index].name} has bytes and takes time, "
            f"not {message_s} s"
        )
    believed, heard = list(controller.message_s), list(controller.heard)
    first, ratio = not heard[index], message_s / believed[index]
    # Of what was never heard a wrong belief says nothing of the link's change.
    changed = not first and abs(math.log(ratio)) > math.log(controller.abrupt)
    believed[index] *= ratio ** (1.0 if first or changed else controller.gain)
    heard = [kept and not changed for kept in heard]
    heard[index] = True
    now = replace(controller, message_s=tuple(believed), heard=tuple(heard))
    for i, each in enumerate(controller.choices):
        if not heard[i] and each.sent_bytes:
            least, most = _allowed(now, index, i)
            believed[i] = min(max(ratio * believed[i], least), most)
    wait_s = 0.0 if changed else controller.wait_s
    return replace(now, message_s=tuple(believed), wait_s=wait_s)


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
        seconds = each.device_s
        for index in (taken, beside):
            if index is not None and (sent := controller.choices[index]).sent_bytes:
                message_s = latency_s(link, sent.sent_bytes) + sent.edge_s
                controller = observe(controller, index, message_s)
                seconds += sent.share * message_s if index == taken else 0.0
        found.append((each.name, seconds))
    return found
