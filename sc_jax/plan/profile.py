"""What a network's stages cost on a device and on a server, and what its cuts send.

A planner reads nothing else but the link. One file a machine: the device's has its
seconds, the cuts, exits and qualities, the server's its seconds by batch; `combined`
joins the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sc_jax.errors import UsageError, unknown
from sc_jax.plan import records
from sc_jax.plan.records import column, number

FORMAT = 1
INPUT = "input"


@dataclass(frozen=True)
class Cut:
    """Sending after one stage by one codec; after="input" is edge computing.

    sent_bytes: framed, of one input, above 0. encode_s runs on the device, decode_s on
    the edge. quality: of the network that is cut here, in the profile's unit; None: not
    known.
    """

    after: str
    codec: str
    sent_bytes: float
    encode_s: float = 0.0
    decode_s: float = 0.0
    quality: float | None = None

    def __post_init__(self) -> None:
        number(f"sent_bytes of {self.name}", self.sent_bytes, above=0)
        number(f"encode_s of {self.name}", self.encode_s)
        number(f"decode_s of {self.name}", self.decode_s)
        if self.quality is not None:
            number(f"quality of {self.name}", self.quality, negative=True)

    @property
    def name(self) -> str:
        """The stage and the codec, as "conv2/latent"."""
        return f"{self.after}/{self.codec}"


@dataclass(frozen=True)
class ExitCost:
    """An exit classifier: what it adds on each side; quality: of its answers."""

    after: str
    device_s: float = 0.0
    edge_s: float = 0.0
    quality: float | None = None

    def __post_init__(self) -> None:
        number(f"device_s of the exit after {self.after}", self.device_s)
        number(f"edge_s of the exit after {self.after}", self.edge_s)
        if self.quality is not None:
            name = f"quality of the exit after {self.after}"
            number(name, self.quality, negative=True)


@dataclass(frozen=True)
class Batch:
    """seconds: f[S], of the whole batch of `size` inputs, at every stage."""

    size: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class ByLength:
    """Seconds of the whole network by its input's length: a line, and its timings.

    A length is a number of positions: of an image its pixels, of a text its tokens.
    Of n positions it takes seconds_per_item n + base_s; residual_s: the root of the
    mean square of what the line misses. lengths, seconds: what was timed.
    """

    seconds_per_item: float
    base_s: float
    residual_s: float
    lengths: tuple[float, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("seconds_per_item", "base_s"):
            number(f"{name} of a line by length", getattr(self, name), negative=True)
        number("residual_s of a line by length", self.residual_s)
        count = len(self.lengths)
        if len({*self.lengths}) < 2 or len(self.seconds) != count:
            raise UsageError(
                "a line by length is of two lengths or more, each with its seconds"
            )
        for name in ("lengths", "seconds"):
            for value in getattr(self, name):
                number(f"{name} of a line by length", value, above=0)


@dataclass(frozen=True)
class Machine:
    """Where seconds were taken. runs: timings behind each figure."""

    description: str
    threads: int = 1
    runs: int = 1
    memory_bytes: float | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "runs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} of a machine is 1 or more, not {value!r}")
        if self.memory_bytes is not None:
            number("memory_bytes of a machine", self.memory_bytes)


@dataclass(frozen=True)
class Profile:
    """A network of S named stages on one machine, or on a device and an edge server.

    device_s, edge_s: f[S], seconds of one input at batch 1; () where that side is not
    in the file; None in device_s: the device cannot run the stage, so that it computes
    nothing alone. edge_batch_s: the server's seconds at larger batches. macs,
    parameters, output_bytes (as the next stage reads it), memory_bytes (what a stage
    needs to be held on the device), device_j (joules that a meter saw the device spend
    on a stage, all that it draws): f[S] or () where not known. quality: of the whole
    network, more is better, in one unit with cuts' and exits'. reply_bytes: of an
    answer. compute_w, idle_w: the device's watts while it computes and while it waits,
    stated ("modelled") or of a meter ("measured"). measured, modelled: names in
    NUMBERS. device_by_length, edge_by_length: the whole network's seconds by its
    input's length, which in this profile is input_length. records: the file
    beside the device's with what single inputs met (plan.recorded).
    """

    network: str
    stages: tuple[str, ...]
    device_s: tuple[float | None, ...] = ()
    edge_s: tuple[float, ...] = ()
    edge_batch_s: tuple[Batch, ...] = ()
    macs: tuple[float, ...] = ()
    parameters: tuple[float, ...] = ()
    output_bytes: tuple[float, ...] = ()
    memory_bytes: tuple[float, ...] = ()
    cuts: tuple[Cut, ...] = ()
    exits: tuple[ExitCost, ...] = ()
    quality: float | None = None
    reply_bytes: float = 0.0
    compute_w: float | None = None
    idle_w: float | None = None
    device: Machine | None = None
    edge: Machine | None = None
    measured: tuple[str, ...] = ()
    modelled: tuple[str, ...] = ()
    records: str | None = None
    device_j: tuple[float, ...] = ()
    input_length: float | None = None
    device_by_length: ByLength | None = None
    edge_by_length: ByLength | None = None

    def __post_init__(self) -> None:
        count = len(self.stages)
        texts = all(isinstance(s, str) and s for s in self.stages)
        if not count or not texts or len({*self.stages, INPUT}) <= count:
            raise UsageError(
                "stages are names, each once and none 'input': "
                f"{', '.join(map(str, self.stages)) or 'none'}"
            )
        if not self.device_s and not self.edge_s:
            raise UsageError("a profile has device_s or edge_s, this one has neither")
        for name in COLUMNS:
            if values := getattr(self, name):
                known = column(name, values, count, holes=name == "device_s")
                object.__setattr__(self, name, known)
        number("reply_bytes", self.reply_bytes)
        for name in ("compute_w", "idle_w"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name))
        if self.input_length is not None:
            number("input_length", self.input_length, above=0)
        if self.quality is not None:
            number("quality", self.quality, negative=True)
        name = self.records
        if name is not None and not (isinstance(name, str) and Path(name).name == name):
            raise UsageError(f"records is a file beside the profile's, not {name!r}")
        _check_batches(self)
        _check_places(self)
        _check_sources(self)

    @property
    def local(self) -> bool:
        """Whether the device can compute the whole network, which sends nothing."""
        return bool(self.device_s) and None not in self.device_s


COLUMNS = (
    "device_s", "edge_s", "macs", "parameters", "output_bytes", "memory_bytes",
    "device_j",
)  # fmt: skip
# What a profile says of as measured or modelled: fields of it and of its cuts.
NUMBERS = (
    *COLUMNS, "edge_batch_s", "sent_bytes", "encode_s", "decode_s", "exits", "quality",
    "reply_bytes", "compute_w", "idle_w", "device_by_length", "edge_by_length",
)  # fmt: skip


def _check_batches(profile: Profile) -> None:
    for batch in profile.edge_batch_s:
        if type(batch.size) is not int or batch.size < 1:
            raise UsageError(f"size of a batch is 1 or more, not {batch.size!r}")
        column(f"seconds of batch {batch.size}", batch.seconds, len(profile.stages))
    sizes = [batch.size for batch in profile.edge_batch_s]
    if sizes != sorted(set(sizes)):
        raise UsageError(f"sizes of edge_batch_s rise, not {sizes}")


def _check_places(profile: Profile) -> None:
    places = (INPUT, *profile.stages[:-1])
    for cut in profile.cuts:
        if cut.after == profile.stages[-1]:
            raise UsageError(
                f"a cut after the last stage, {cut.after}, leaves nothing to the edge: "
                "local computing is there without one"
            )
        if cut.after not in places:
            raise unknown("stage of a cut", cut.after, places)
    for ending in profile.exits:
        if ending.after not in profile.stages[:-1]:
            raise unknown("stage of an exit", ending.after, profile.stages[:-1])
    _once("cut", [cut.name for cut in profile.cuts])
    _once("exit", [ending.after for ending in profile.exits])


def _check_sources(profile: Profile) -> None:
    for name in (*profile.measured, *profile.modelled):
        if name not in NUMBERS:
            raise unknown("number that is measured or modelled", name, NUMBERS)
    _once("measured or modelled number", [*profile.measured, *profile.modelled])


def _once(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"each {what} stands once, {name} stands twice")


def combined(device: Profile, server: Profile) -> Profile:
    """The device's file with the server's seconds; UsageError for another network.

    Of cuts and exits that both have, decode_s and edge_s are the server's.
    """
    if not device.device_s:
        raise UsageError(f"the device's profile of {device.network} has no device_s")
    if not server.edge_s:
        raise UsageError(f"the server's profile of {server.network} has no edge_s")
    _same(device, server)
    decode = {cut.name: cut.decode_s for cut in server.cuts}
    endings = {ending.after: ending.edge_s for ending in server.exits}
    theirs = {"edge_s", "edge_batch_s", "edge_by_length"} | (
        {"decode_s"} if decode else set()
    )
    sources = {
        kind: tuple(
            name
            for side, name in (
                *((device, n) for n in getattr(device, kind) if n not in theirs),
                *((server, n) for n in getattr(server, kind) if n in theirs),
            )
        )
        for kind in ("measured", "modelled")
    }
    return replace(
        device,
        edge_s=server.edge_s,
        edge_batch_s=server.edge_batch_s,
        edge_by_length=server.edge_by_length,
        edge=server.edge,
        cuts=tuple(
            replace(cut, decode_s=decode.get(cut.name, cut.decode_s))
            for cut in device.cuts
        ),
        exits=tuple(
            replace(e, edge_s=endings.get(e.after, e.edge_s)) for e in device.exits
        ),
        **sources,
    )


def _same(device: Profile, server: Profile) -> None:
    """UsageError for the first stage in which the two differ: name, macs, weights."""
    for i, (ours, theirs) in enumerate(zip(device.stages, server.stages)):
        if ours != theirs:
            raise UsageError(
                f"two networks: stage {i + 1} of the device's is {ours}, "
                f"of the server's {theirs}"
            )
        for name in ("macs", "parameters", "output_bytes"):
            mine, other = getattr(device, name), getattr(server, name)
            if mine and other and mine[i] != other[i]:
                raise UsageError(
                    f"two networks: {name} of stage {ours} are {mine[i]:g} in the "
                    f"device's profile and {other[i]:g} in the server's"
                )
    if len(device.stages) != len(server.stages):
        short, long = sorted((device, server), key=lambda side: len(side.stages))
        raise UsageError(
            f"two networks: stage {long.stages[len(short.stages)]} is in one profile "
            "only"
        )


def at_batch(profile: Profile, size: int) -> Profile:
    """The profile of an edge that serves batches: an input waits for all of its own.

    The least measured batch that holds `size` inputs counts; 1 is the profile itself.
    """
    if size == 1:
        return profile
    for batch in profile.edge_batch_s:
        if batch.size >= size:
            return replace(profile, edge_s=batch.seconds)
    known = [1, *(batch.size for batch in profile.edge_batch_s)]
    raise UsageError(f"batch {size} was not timed: the edge's profile has {known}")


def only(profile: Profile, cut: Cut | None) -> Profile:
    """The profile with this one way to run: a cut of it, or None, local computing."""
    if cut is None:
        return replace(profile, cuts=())
    # Without the seconds of its last stage the device computes nothing alone.
    return replace(profile, cuts=(cut,), device_s=(*profile.device_s[:-1], None))


def with_head_s(profile: Profile, cut: str, head_s: float, all_of_it: bool) -> Profile:
    """Its seconds scaled so that the stages up to `cut` take `head_s` together.

    As of another number format, or of another device (`all_of_it`: the stages behind
    the cut, encoders and exits too). What was measured is modelled from then on.
    """
    if cut not in profile.stages:
        raise unknown("stage that a head ends with", cut, profile.stages)
    number("head_s", head_s, above=0)
    ends = profile.stages.index(cut) + 1
    head = profile.device_s[:ends]
    known = [s for s in head if s is not None]
    if len(known) < ends or not sum(known):
        raise UsageError(f"not all stages up to {cut} have seconds to be scaled")
    factor = head_s / sum(known)
    seconds = tuple(
        s if s is None or (i >= ends and not all_of_it) else factor * s
        for i, s in enumerate(profile.device_s)
    )
    # Of another device or format nobody has measured these.
    gone = {"device_j", "compute_w", "idle_w", "device_by_length"}
    changed, cuts, exits = ["device_s"], profile.cuts, profile.exits
    if all_of_it:
        changed += ["encode_s"] if cuts else []
        cuts = tuple(replace(each, encode_s=factor * each.encode_s) for each in cuts)
        exits = tuple(replace(each, device_s=factor * each.device_s) for each in exits)
    return replace(
        profile,
        device_s=seconds,
        device_j=(),
        device_by_length=None,
        compute_w=None if "compute_w" in profile.measured else profile.compute_w,
        idle_w=None if "idle_w" in profile.measured else profile.idle_w,
        cuts=cuts,
        exits=exits,
        measured=tuple(n for n in profile.measured if n not in {*changed, *gone}),
        modelled=(*(n for n in profile.modelled if n not in changed), *changed),
    )


def with_watts(
    profile: Profile, compute_w: float | None, idle_w: float | None
) -> Profile:
    """The profile with the device's watts as somebody states them: a model."""
    watts = {"compute_w": compute_w, "idle_w": idle_w}
    named = tuple(name for name, watt in watts.items() if watt is not None)
    return replace(profile, **watts, modelled=(*profile.modelled, *named))


def with_joules(profile: Profile, stage_j: dict[str, float], idle_w: float) -> Profile:
    """The profile with what a meter saw: joules of all stages, and watts at rest.

    compute_w, for coders and exits, is that of all stages together. UsageError where a
    stage has no seconds or no joules, and for joules that are all 0.
    """
    known = [name for name in profile.stages if name in stage_j]
    if len(known) < len(profile.stages) or not profile.local:
        raise UsageError("joules are of all stages, which the device computes")
    joules = tuple(stage_j[name] for name in profile.stages)
    if not sum(joules) > 0:
        raise UsageError("the meter stood still while stages ran: it counts nothing")
    seconds = sum(s for s in profile.device_s if s is not None)
    names = ("device_j", "compute_w", "idle_w")
    return replace(
        profile,
        device_j=joules,
        compute_w=sum(joules) / seconds,
        idle_w=idle_w,
        measured=(*profile.measured, *names),
    )


def energy_source(profile: Profile) -> str | None:
    """Where the device's joules come from: "measured", "model", or None, not known."""
    if profile.compute_w is None:
        return None
    return "measured" if "compute_w" in profile.measured else "model"


def write(path: str | Path, profile: Profile) -> None:
    """One JSON file, indented to be read and edited."""
    records.write(path, "profile", FORMAT, profile)


def read(path: str | Path) -> Profile:
    """The file of `write`; one line for what is unknown, missing or no number."""
    return records.read(path, "profile", FORMAT, _profile)


def _profile(content: dict) -> Profile:
    def part(kind: type, what: str):
        return lambda value: records.record(kind, value, what, {})

    parts = {
        "edge_batch_s": part(Batch, "a batch"),
        "device_by_length": part(ByLength, "a line by length"),
        "edge_by_length": part(ByLength, "a line by length"),
        "cuts": part(Cut, "a cut"),
        "exits": part(ExitCost, "an exit"),
        "device": part(Machine, "a machine"),
        "edge": part(Machine, "a machine"),
    }
    return records.record(Profile, content, "a profile", parts)
