"""A device that follows a plan, and changes to another one when the link changes.

`sc_jax.plan.adaptation` chooses by what messages took. Seconds of a message are those
of `Answer.seconds["edge"]`: from the packed frame to the answer, so the link both ways,
the server's queue, its decoder and its stages; the planned seconds that they are
compared with hold the same. Those of head and coder are compared apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sc_jax.deploy import bundle
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.device.device import NOWHERE, Answer, Device
from sc_jax.deploy.device.routes import Route, routes
from sc_jax.deploy.wire.breaker import Breaker
from sc_jax.deploy.wire.sending import Send
from sc_jax.errors import UsageError
from sc_jax.plan import adaptation, plan
from sc_jax.plan.adaptation import Controller
from sc_jax.plan.plan import Plan

# What a plan's objective begins with where it may be changed: by quality the best
# within the deadline is followed, by latency the fastest. No belief of the link says
# what the alternatives take of another figure.
QUALITY, LATENCY = ("quality", "deepest exit"), ("latency_s",)
MEAN_OF = 16  # images whose mean seconds are compared with a planned mean


class Follower:
    """Answers images by one route of several, the first of them to begin with.

    As a Device, for which it stands: `infer`, `bundle`, `breaker`. An image that the
    server does not answer is computed here where a route sends nothing. adapts: False:
    the first route alone is followed. say: gets a line for each change. clock: seconds,
    of any zero. One thread at a time.
    """

    def __init__(
        self,
        found: Sequence[Route],
        controller: Controller,
        send: Send | None,
        *,
        deadline_s: float = 1.0,
        threads: int = 1,
        adapts: bool = True,
        say: Callable[[str], object] = tqdm.write,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.bundle, self.breaker = found[0].bundle, Breaker()
        self.controller, self.deadline_s = controller, deadline_s
        self._adapts, self._say, self._clock, self._count = adapts, say, clock, 0
        self._devices = _devices(found, send, deadline_s, threads, self.breaker)
        self._levels = [route.level for route in found]
        # Of plans with a threshold, whose seconds are means over inputs.
        self._means = [route.plan.threshold is not None for route in found]
        self._met: dict[int, list[float]] = {}
        self._beside: tuple[int, Future[Answer]] | None = None

    def trial(self, image: np.ndarray) -> Answer:
        """An answer that teaches nothing: the first ones open connections and files."""
        for index in range(1, len(self._devices)):
            device = self._at(index)
            device.infer(image) if self._alone(index) else device.encode(image)
        return self._answered(0, image)[0]

    def infer(self, image: np.ndarray) -> Answer:
        """The task's answer to one image, and how it was come by."""
        index, beside = self._choose() if self._adapts else (0, None)
        answer, edge = self._answered(index, image)
        if self._adapts:
            own_s = edge.seconds.get("head", 0.0) + edge.seconds.get("code", 0.0)
            self._timed(index, own_s)
            self._learn(index, edge)
        if beside is not None and self._beside is None:
            self._look(beside, image)
        return replace(answer, choice=self.controller.choices[index].name)

    def _timed(self, index: int, own_s: float) -> None:
        """Learns the device's pace where the plan says what was timed.

        Planned is a mean: of one input that an exit may answer it says nothing, of many
        it does. Where a bundle's own policy decides, no plan counts who leaves.
        """
        if self._devices[index].bundle.policy is not None:
            if not self._means[index]:
                return
            met = self._met.setdefault(index, [])
            met.append(own_s)
            if len(met) < MEAN_OF:
                return
            own_s = math.fsum(met) / MEAN_OF
            met.clear()
        self.controller = adaptation.timed(self.controller, index, own_s)

    def _choose(self) -> tuple[int, int | None]:
        """(the next image's choice, one to look at beside or None)."""
        if self._beside is not None and self._beside[1].done():
            looked, sent = self._beside
            self._beside = None
            self._learn(looked, sent.result())
        before = self.controller
        self.controller, index, beside = adaptation.choose(before, self._clock())
        if before.current not in (None, index):
            self._say(f"image {self._count}: {changed(before, index)}")
        self._count += 1
        return index, beside

    def _look(self, index: int, image: np.ndarray) -> None:
        """Sends the image by another choice too; `_choose` reads what it took."""
        data, _ = self._at(index).encode(image)
        nobody = Answer(None, NOWHERE, 0)
        pool = ThreadPoolExecutor(1, "beside")
        self._beside = index, pool.submit(self._devices[index].deliver, data, nobody)
        pool.shutdown(wait=False)  # its thread ends with what it sends

    def _answered(self, index: int, image: np.ndarray) -> tuple[Answer, Answer]:
        """(the answer, computed here where the choice gave none; the choice's own)."""
        first = self._at(index).infer(image)
        if first.answered or (own := self._fallback()) is None:
            return first, first
        return _instead(self._at(own).infer(image), first), first

    def _at(self, index: int) -> Device:
        """The device of a choice, at its rate."""
        if (level := self._levels[index]) is not None:
            self._devices[index].encode_at(level)
        return self._devices[index]

    def _alone(self, index: int) -> bool:
        return not self.controller.choices[index].sent_bytes

    def _fallback(self) -> int | None:
        """The best choice that sends nothing; None: there is none."""
        alone = [i for i in range(len(self._devices)) if self._alone(i)]
        seconds = adaptation.predicted_s(self.controller)
        rank = lambda i: adaptation.rank(self.controller, i, seconds[i])  # noqa: E731
        return max(alone, key=rank, default=None)

    def _learn(self, index: int, answer: Answer) -> None:
        edge_s = answer.seconds.get("edge")
        if edge_s is None:  # answered here, or not sent at all
            return
        if answer.status:  # lost, late or refused
            # Nobody knows what it would have taken: a refusal comes at once.
            edge_s = max(edge_s, self.deadline_s)
        self.controller = adaptation.observe(self.controller, index, edge_s)


def _devices(
    found: Sequence[Route], send, deadline_s: float, threads: int, breaker: Breaker
) -> list[Device]:
    """Of each route; rates of one bundle share one."""
    made: list[tuple[Bundle, Device]] = []
    devices = []
    for each in found:
        known = [device for bundle, device in made if _same(bundle, each.bundle)]
        if not known:
            # Late is better than never where nobody else answers.
            limit_s = deadline_s if each.plan.cuts else math.inf
            device = Device(
                each.bundle, send, deadline_s=limit_s, threads=threads, breaker=breaker
            )
            made.append((each.bundle, device))
            known = [device]
        devices.append(known[0])
    return devices


def _same(one: Bundle, other: Bundle) -> bool:
    return one.segments is other.segments and one.policy == other.policy


def _instead(own: Answer, lost: Answer) -> Answer:
    """An own answer after the server gave none: with its note, bytes and seconds."""
    steps = {*own.seconds, *lost.seconds}
    seconds = {s: own.seconds.get(s, 0.0) + lost.seconds.get(s, 0.0) for s in steps}
    return replace(own, note=lost.note, sent_bytes=lost.sent_bytes, seconds=seconds)


def changed(controller: Controller, index: int) -> str:
    """From what to what the controller changes, and why, in a line."""
    assert controller.current is not None
    seconds = [1e3 * each for each in adaptation.predicted_s(controller)]
    old, new = (controller.choices[i] for i in (controller.current, index))
    after, before = seconds[index], seconds[controller.current]
    words = f"{old.name} -> {new.name}: {after:.3g} ms expected instead of {before:.3g}"
    if controller.deadline_s is None:
        return words
    if before > (late := 1e3 * controller.deadline_s):
        return f"{words}, deadline {late:g} ms"
    known = ["unknown" if c.quality is None else f"{c.quality:.4g}" for c in (new, old)]
    return f"{words}, quality {known[0]} instead of {known[1]}"


def follow(
    planned: Plan,
    bundles: Mapping[str, Bundle],
    send: Send | None,
    *,
    deadline_s: float = 1.0,
    say: Callable[[str], object] = tqdm.write,
    **options,
) -> Follower:
    """A Follower of the plan with these bundles, by path; says what it follows.

    deadline_s: after which an image is no longer waited for; the plan's own deadline,
    which is not above, says which choice is best. UsageError where they do not fit.
    """
    sent_s = planned.latency_s if planned.cuts else 0.0
    longest_s = max(sent_s, planned.deadline_s or 0.0)
    if longest_s > deadline_s:
        raise UsageError(
            f"the plan allows {longest_s:.3g} s, --deadline_s={deadline_s:g} ends an "
            "image before: raise it"
        )
    found = routes(planned, bundles)
    if send is None and planned.cuts:
        raise UsageError(f"the plan sends ({planned.name}): give --server")
    assert planned.link is not None, "routes has refused it"
    choices = [adaptation.choice_of(route.plan, planned.link) for route in found]
    if len({route.plan.network for route in found}) > 1:
        names = [f"{r.plan.network}: {c.name}" for r, c in zip(found, choices)]
        choices = [replace(c, name=name) for c, name in zip(choices, names)]
    by_quality = planned.objective.startswith(QUALITY)
    within_s = (planned.deadline_s or deadline_s) if by_quality else None
    controller = adaptation.start(choices, planned.link, deadline_s=within_s)
    controller = replace(controller, current=0)
    adapts = by_quality or planned.objective.startswith(LATENCY)
    for line in followed(planned, controller, adapts):
        say(line)
    return Follower(
        found, controller, send, deadline_s=deadline_s, adapts=adapts, say=say,
        **options,
    )  # fmt: skip


def followed(planned: Plan, controller: Controller, adapts: bool) -> list[str]:
    """What is followed, and what it may change to, in a few lines."""
    first, *others = (each.name for each in controller.choices)
    link = planned.link
    over = link and (link.note or f"{link.up_bits_per_s:g} bits/s up")
    late = planned.deadline_s
    said = f"{first}, {1e3 * planned.latency_s:.3g} ms over {over}"
    lines = [f"plan: {said}" + (f", deadline {1e3 * late:g} ms" if late else "")]
    if not adapts:
        return [*lines, f"it is best by {planned.objective}: followed as it is"]
    lines.append(f"may change to: {'; '.join(others) or 'nothing else'}")
    if missing := len(planned.alternatives) - len(controller.choices):
        lines.append(f"left out: {missing} other plans, which no bundle follows")
    if others and planned.certified is not None:
        lines.append("certified: each of these plans alone, not changing between them")
    return lines


def runtime(
    paths: Sequence[str],
    plan_file: str | None,
    send: Send | None,
    *,
    level: int | None = None,
    **limits,
) -> Device | Follower:
    """What answers images by the bundles of these paths: by a plan's file, or alone.

    send, limits: of a Device. UsageError for a rate beside a plan, which names its own,
    and for several bundles without one.
    """
    if not paths:
        raise UsageError("give --bundle, a folder or zip of launch.export")
    bundles = {path: bundle.read(Path(path)) for path in paths}
    if plan_file is None:
        if len(bundles) > 1:
            raise UsageError("several bundles are followed by a plan: give --plan")
        return Device(bundles[paths[0]], send, level=level, **limits)
    if level is not None:
        raise UsageError("a plan names its rates: give --plan or --rate, not both")
    return follow(plan.read(plan_file), bundles, send, **limits)
