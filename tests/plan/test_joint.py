"""The joint planner: brute force, bounds kept, and a risk that holds after choosing."""

from dataclasses import replace

import numpy as np
import pytest

from sc_jax.errors import UsageError
from sc_jax.plan import plan, recorded
from sc_jax.plan.link import Link
from sc_jax.plan.partition.joint import _grid, _tried, joint, needed
from sc_jax.plan.plan import Bounds
from sc_jax.plan.profile import Cut, ExitCost, Profile
from sc_jax.plan.recorded import Records

NET = Profile(
    "net", ("a", "b", "c", "d"), (0.01, 0.02, 0.03, 0.04), (0.001,) * 4,
    cuts=(
        Cut("input", "file", 9000, 0.002, 0.001), Cut("b", "level=0", 400, 0.001),
        Cut("b", "level=1", 1200, 0.001), Cut("c", "level=0", 300, 0.001),
    ),
    exits=(ExitCost("a", 0.001), ExitCost("c", 0.001)),
    quality=0.8, compute_w=2.0, idle_w=0.5,
)  # fmt: skip
LINK = Link(1e6, rtt_s=0.02, transmit_w=1.0, idle_w=0.2, receive_w=1.0)


def drawn(rng, n, losses=(0.02, 0.10, 0.004, 0.12), exits=(0.25, 0.1)):
    """Records of an exit that knows when it is right, and of cuts that lose a share."""
    ease = rng.random(n)
    whole = (rng.random(n) < 0.8).astype(float)
    wrong = lambda share: np.where(rng.random(n) < share, 0.0, whole)  # noqa: E731
    right = np.stack([wrong(2 * share * (1 - ease)) for share in exits])
    return records_of(
        NET, np.stack([ease, ease**0.5]), right, [wrong(s) for s in losses], whole
    )


def records_of(net, *arrays):
    """Of all exits and cuts of the network, in its order."""
    exits = tuple(ending.after for ending in net.exits)
    return Records("net", "validation", exits, tuple(c.name for c in net.cuts), *arrays)


def risk_of(plan, losses, exits):
    """The risk of a plan on the population of `drawn`, exactly: lost right answers."""
    names = [cut.name for cut in NET.cuts]
    behind = losses[names.index(plan.cut.name)] if plan.cuts else 0.0
    grid = (np.arange(20000) + 0.5) / 20000
    lost = np.full(grid.size, behind)
    if plan.threshold is not None:
        scores, left = (grid, grid**0.5), np.zeros(grid.size, bool)
        depth = plan.places.count("device")
        for k, ending in enumerate(NET.exits):
            alone = plan.exit is not None and plan.exit != ending.after
            if alone or NET.stages.index(ending.after) >= depth:
                continue
            here = ~left & (scores[k] >= plan.threshold)
            lost = np.where(here, 2 * exits[k] * (1 - grid), lost)
            left |= here
    return 0.8 * lost.mean()


def test_without_exits_it_is_the_best_cut_whose_loss_is_surely_small():
    rng = np.random.default_rng(0)
    plain, records = replace(NET, exits=()), drawn(rng, 4000)
    plan = joint(plain, LINK, records=records, max_risk=0.03)
    # level=1 loses 0.3 points and takes 0.063 s, a file 1.6 points and 0.099 s, the
    # device alone 0.1 s; what is faster loses 8 points.
    assert plan.name == "cut b/level=1"
    assert plan.latency_s == pytest.approx(0.03 + 0.001 + 0.02 + 0.0096 + 0.002)
    assert plan.quality == pytest.approx(records.behind[2].mean())


def test_its_means_are_those_of_every_input_in_turn():
    records = drawn(np.random.default_rng(1), 1000)
    plan = joint(NET, LINK, records=records, max_risk=0.05)
    assert plan.threshold is not None
    depth = plan.places.count("device")
    active = [
        k
        for k, e in enumerate(NET.exits)
        if NET.stages.index(e.after) < depth and plan.exit in (None, e.after)
    ]
    total, right = 0.0, 0.0
    for i in range(1000):
        spent = 0.0
        for k in active:
            spent += NET.exits[k].device_s
            if records.score[k, i] >= plan.threshold:
                spent += sum(NET.device_s[: NET.stages.index(NET.exits[k].after) + 1])
                right += records.right[k, i]
                break
        else:
            spent += sum(NET.device_s[:depth])
            if plan.cuts:
                at = [c.name for c in NET.cuts].index(plan.cut.name)
                spent += plan.cut.encode_s + 8 * plan.cut.sent_bytes / 1e6 + 0.02
                spent += plan.cut.decode_s + sum(NET.edge_s[depth:])
                right += records.behind[at, i]
            else:
                right += records.whole[i]
        total += spent
    assert plan.latency_s == pytest.approx(total / 1000)
    assert plan.quality == pytest.approx(right / 1000)


@pytest.mark.parametrize("seed", range(4))
def test_every_candidate_is_what_its_inputs_met_in_turn(seed):
    rng = np.random.default_rng(seed)
    records = drawn(rng, 40)
    tried = _tried(NET, LINK, 1.0, records, _grid(NET, records.score, 3))
    options = tried.options
    for p, (cut, threshold) in enumerate(zip(options.cut, options.threshold)):
        alone, depth = options.exit[p], options.depth[p]
        active = [k for k in (0, 1) if alone in (-1, k) and not np.isnan(threshold)]
        assert all(NET.stages.index(NET.exits[k].after) < depth for k in active)
        losses, seconds = [], []
        for i in range(40):
            met, spent = records.whole[i], 0.0
            for k in active:
                spent += NET.exits[k].device_s
                if records.score[k, i] >= threshold:
                    met -= records.right[k, i]
                    ends = NET.stages.index(NET.exits[k].after) + 1
                    spent += sum(NET.device_s[:ends])
                    break
            else:
                spent += sum(NET.device_s[:depth])
                met -= records.whole[i] if cut < 0 else records.behind[cut, i]
                if cut >= 0:
                    sent = NET.cuts[cut]
                    spent += sent.encode_s + 8 * sent.sent_bytes / 1e6 + 0.02
                    spent += sent.decode_s + sum(NET.edge_s[depth:])
            losses.append(met)
            seconds.append(spent)
        np.testing.assert_array_equal(tried.losses(np.array([p]))[0], losses)
        assert tried.sums(1)[p] == pytest.approx(np.sum(losses))
        assert tried.sums(2)[p] == pytest.approx(np.sum(np.square(losses)))
        assert options.latency_s[p] == pytest.approx(np.mean(seconds))
        assert options.quality[p] == pytest.approx(
            records.whole.mean() - np.mean(losses)
        )
    # Local, 1 + 3 x 3; the input, 1; two after b with one exit, 1 + 3; c with all.
    assert len(options.cut) == 10 + 1 + 2 * 4 + 10


@pytest.mark.parametrize("seed", range(30))
def test_no_bound_is_broken(seed):
    rng = np.random.default_rng(seed)
    records = drawn(rng, 600)
    bounds = Bounds(
        deadline_s=rng.choice([None, 0.07, 0.11]),
        energy_j=rng.choice([None, 0.08, 0.2]),
        sent_bytes=rng.choice([None, 300, 1000]),
    )
    try:
        plan = joint(NET, LINK, bounds, records=records, max_risk=0.1)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    if bounds.energy_j is not None:
        assert plan.energy_j <= bounds.energy_j
    if bounds.sent_bytes is not None:
        assert plan.sent_bytes <= bounds.sent_bytes
    if bounds.deadline_s is not None:
        # An input that no exit answers is in time too.
        depth = plan.places.count("device")
        slow = sum(NET.device_s[:depth])
        for cut in plan.cuts:
            slow += cut.encode_s + 8 * cut.sent_bytes / 1e6 + 0.02 + cut.decode_s
            slow += sum(NET.edge_s[depth:])
        assert slow <= bounds.deadline_s


def test_the_risk_holds_though_the_plan_was_chosen_on_the_records():
    """2,000 draws: at most delta of the plans have a true risk above the bound."""
    losses, exits = (0.02, 0.10, 0.06, 0.12), (0.25, 0.12)
    draws, delta, bound = 2000, 0.2, 0.05
    broken = cut = 0
    for seed in range(draws):
        records = drawn(np.random.default_rng(seed), 200, losses, exits)
        try:
            plan = joint(
                NET, LINK, records=records, max_risk=bound, delta=delta, points=4
            )
        except UsageError:
            continue
        broken += risk_of(plan, losses, exits) > bound
        cut += plan.threshold is not None or bool(plan.cuts)
    assert broken <= draws * delta + 3 * (draws * delta * (1 - delta)) ** 0.5
    # It is a claim about plans that do something.
    assert cut > 0.5 * draws


def test_a_deadline_holds_for_inputs_that_no_record_has():
    """Where all recorded inputs leave, one that does not must still be in time."""
    records = drawn(np.random.default_rng(2), 400)
    sure = replace(
        records, score=np.ones((2, 400)), right=np.tile(records.whole, (2, 1))
    )
    plan = joint(NET, LINK, records=sure, max_risk=0.02)
    assert (plan.sent_bytes, plan.exit) == (0.0, "a")
    # The whole device takes 0.1 s: with 0.09 the rest has to be sent.
    plan = joint(NET, LINK, Bounds(deadline_s=0.09), records=sure, max_risk=0.02)
    assert plan.sent_bytes == 0.0 and plan.cuts


def test_what_fits_on_all_records_alone_is_not_taken_without_a_test():
    """One half's answers are all wrong, so that half of the right ones are lost."""
    cut = NET.cuts[1:2]
    edge = replace(NET, device_s=(0.01, 0.02, 0.03, None), exits=(), cuts=cut)
    for half in (slice(100), slice(100, 200)):
        behind = np.ones((1, 200))
        behind[0, np.random.default_rng(0).permutation(200)[half]] = 0.0
        none = np.zeros((0, 200))
        records = records_of(edge, none, none, behind, np.ones(200))
        with pytest.raises(UsageError, match=r"quality >= 0\.4|surely at most 0\.1"):
            joint(edge, LINK, Bounds(quality=0.4), records=records, max_risk=0.1)


def test_the_whole_network_on_the_device_needs_no_proof():
    few = drawn(np.random.default_rng(0), 20)
    plan = joint(NET, LINK, records=few, max_risk=1e-6)
    assert plan.name == "local" and plan.quality == pytest.approx(few.whole.mean())
    # Once: it is no runner-up of itself.
    assert plan.runner_up is None


def test_exits_out_of_order_and_scores_that_are_none_are_refused():
    records = drawn(np.random.default_rng(0), 100)
    with pytest.raises(UsageError, match=r"joint: exits stand in .* not c, a"):
        joint(replace(NET, exits=NET.exits[::-1]), LINK, records=records)
    with pytest.raises(UsageError, match="a score of records is NaN"):
        replace(records, score=np.where(records.score > 0.9, np.nan, records.score))
    for knob, value in (
        *(("max_risk", 0.0), ("max_risk", 2.0), ("delta", 1.5), ("delta", 0.0)),
        *(("points", 0), ("load", 0.5)),
    ):
        with pytest.raises(UsageError, match=f"planner joint: {knob} is"):
            joint(NET, LINK, records=records, **{knob: value})


def test_mistakes_are_one_line():
    records = drawn(np.random.default_rng(0), 100)
    bad = drawn(np.random.default_rng(0), 200, losses=(0.9,) * 4, exits=(0.5, 0.5))
    with pytest.raises(UsageError, match=r"latency_s <= 0\.001"):
        joint(NET, LINK, Bounds(deadline_s=0.001), records=records)
    with pytest.raises(UsageError, match=r"surely at most 0\.2 worse"):
        joint(
            replace(NET, cuts=NET.cuts[1:2]), LINK, Bounds(deadline_s=0.06),
            records=bad, max_risk=0.2,
        )  # fmt: skip
    few = replace(records, behind=records.behind[:2], cuts=records.cuts[:2])
    with pytest.raises(UsageError, match="no cut b/level=1, which its profile has"):
        joint(NET, LINK, records=few)
    with pytest.raises(UsageError, match="2 inputs or more"):
        replace(records, whole=np.float64(1.0))
    for split in ("train", "train+validation"):
        with pytest.raises(UsageError, match="no training has seen, validation or"):
            replace(records, split=split)
    with pytest.raises(UsageError, match=r"quality in 0\.\.1"):
        replace(records, whole=records.whole + 1)


def test_fewer_records_than_certify_a_lossless_plan_are_refused_by_their_number():
    cut = NET.cuts[1:2]
    edge = replace(NET, device_s=(0.01, 0.02, 0.03, None), exits=(), cuts=cut)
    for max_risk, delta in ((0.01, 0.1), (0.05, 0.01), (0.1, 0.3)):
        least = needed(max_risk, delta)

        def lossless(n, max_risk=max_risk, delta=delta):
            none, ones = np.zeros((0, n)), np.ones((1, n))
            records = records_of(edge, none, none, ones, np.ones(n))
            return joint(edge, LINK, records=records, max_risk=max_risk, delta=delta)

        assert lossless(least).certified.lost == 0.0
        words = rf"certify nothing at max_risk {max_risk:g} and .* at least {least:,} "
        with pytest.raises(UsageError, match=words):
            lossless(int(least / 1.1) - 2)


def test_the_bound_that_refuses_something_better_is_named():
    records = drawn(np.random.default_rng(0), 4000)
    free = joint(NET, LINK, records=records, max_risk=0.5)
    assert free.binding is None and free.certified.lost <= 0.5
    # b/level=0 is the fastest cut, and loses 8 points.
    risky = joint(replace(NET, exits=()), LINK, records=records, max_risk=0.03)
    assert risky.binding == "max_risk"
    assert risky.slack == pytest.approx(0.03 - risky.certified.lost)
    assert risky.certified.lost == pytest.approx(
        records.whole.mean() - records.behind[2].mean()
    )
    # What loses too much is late too: without the deadline nothing would be better.
    same = joint(NET, LINK, Bounds(deadline_s=0.07), records=records, max_risk=0.02)
    assert same.binding == "max_risk"
    free = joint(NET, LINK, records=records, max_risk=0.02)
    assert (same.name, same.latency_s) == (free.name, free.latency_s)
    # On the device alone the mean is best, and the slowest input late.
    slow, bounds = Link(1e5, rtt_s=0.02), Bounds(deadline_s=0.0855)
    free = joint(NET, slow, records=records, max_risk=0.1)
    timely = joint(NET, slow, bounds, records=records, max_risk=0.1)
    assert free.latency_s < timely.latency_s and timely.cuts
    assert timely.binding == "deadline_s"
    assert timely.slack == pytest.approx(0.0855 - 0.085)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    records = drawn(np.random.default_rng(0), 2000)
    found = joint(NET, LINK, records=records, max_risk=0.05)
    plan.write(tmp_path / "plan.json", found)
    assert plan.read(tmp_path / "plan.json") == found
    assert found.certified.examples == 2000 and found.certified.delta == 0.1


def test_records_are_read_by_name_in_any_order(tmp_path):
    records = drawn(np.random.default_rng(3), 500)
    found = joint(NET, LINK, records=records, max_risk=0.1)
    turned = replace(
        records, exits=records.exits[::-1], cuts=records.cuts[::-1],
        score=records.score[::-1], right=records.right[::-1],
        behind=records.behind[::-1],
    )  # fmt: skip
    recorded.write(tmp_path / "r.npz", turned)
    again = recorded.read(tmp_path / "r.npz").of(NET)
    assert again.cuts == records.cuts and again.split == "validation"
    np.testing.assert_array_equal(again.behind, records.behind)
    np.testing.assert_allclose(again.score, records.score, rtol=1e-7)
    assert joint(NET, LINK, records=turned, max_risk=0.1) == found
    with pytest.raises(UsageError, match="of network net, the profile of other"):
        again.of(replace(NET, network="other"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"whole": None}, "has no array 'whole'"),
        (
            {"split": "train"},
            "no training has seen, .*, not of 'train'",
        ),
        ({"format": 9}, "format 9 of records|format array"),
        ({"more": 1}, "'more' is no array of records"),
        ({"cuts": np.array(["b/x"])}, r"behind of records is \[1, 50\], not"),
        ({"right": np.full((2, 50), "x")}, "right of records is numbers"),
    ],
)
def test_a_file_that_is_no_records_is_one_line(tmp_path, change, said):
    recorded.write(tmp_path / "r.npz", drawn(np.random.default_rng(3), 50))
    with np.load(tmp_path / "r.npz") as file:
        arrays = dict(file) | change
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(tmp_path / "r.npz", **kept)
    with pytest.raises(UsageError, match=said) as error:
        recorded.read(tmp_path / "r.npz")
    assert "\n" not in str(error.value) and "r.npz" in str(error.value)
    with pytest.raises(UsageError, match="is missing; make it again"):
        recorded.read(tmp_path / "none.npz")
