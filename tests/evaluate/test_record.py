"""Recorded traces: who answers what, at which cost, and with how many bytes."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
import recorded_nets as tiny

from sc_jax.compressors.splits import codecs_of, settle
from sc_jax.errors import UsageError
from sc_jax.evaluate import rate
from sc_jax.nets.backbones.skipnet import Skippable, executed_share
from sc_jax.nets.exit_classifiers.classifiers import PooledLinear
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Exit, Net, Stage, cut_at
from sc_jax.nets.run import init, run
from sc_jax.traces import record, trace
from sc_jax.traces.record import exit_costs, sent_bytes

EXAMPLES, BATCH = 13, 8
# MACs of the cnn at 8x8x1, width 4: convolutions 5x5, 3x3, 3x3, two linear layers.
STEM, LAYER1, LAYER2 = 64 * 25 * 4, 16 * 9 * 4 * 8, 4 * 9 * 8 * 16
LAYER3, FC = 16 * 16, 16 * tiny.CLASSES
EARLY, LATE = 8 * tiny.CLASSES, 16 * tiny.CLASSES  # classifiers on layer1 and layer2


def shapes_of(net: Net):
    return jax.eval_shape(lambda: tiny.variables_of(net))


@pytest.fixture(scope="module")
def made():
    """(net, variables, codecs, data set, what was recorded) of a split net."""
    net, data = tiny.split(), tiny.images(EXAMPLES)
    variables = settle(net, tiny.variables_of(net))
    codecs = codecs_of(net, variables, np.zeros((1, *data.shape), np.uint8))
    recorded = record.record(
        net, variables, data, net_name="tiny", codecs=codecs, batch_size=BATCH
    )
    return net, variables, codecs, data, recorded


def test_every_exit_is_recorded_in_the_order_of_the_net(made):
    net, variables, _, data, recorded = made
    assert recorded.trace.exits == ("exit@layer1", "exit@layer2", "final")
    out, _ = jax.jit(lambda v, x: run(net, v, x))(variables, data.images[:BATCH])
    for row, name in zip(recorded.trace.answers, net.exit_names):
        assert np.array_equal(row[:BATCH], out.predictions[name]), name
    assert np.array_equal(recorded.trace.labels, data.labels)
    assert (recorded.trace.net, recorded.trace.split) == ("tiny", "validation")


def test_the_last_exit_is_as_right_as_the_answers_from_bytes(made):
    net, variables, codecs, data, recorded = made
    measured = rate.measure(net, variables, codecs, data, batch_size=BATCH)
    assert measured.disagreements == 0
    right = recorded.trace.answers[-1].argmax(-1) == data.labels
    assert np.array_equal(right, measured.metrics["accuracy"])
    assert np.array_equal(recorded.payload_bytes, measured.payload_bytes)


def test_an_example_that_leaves_on_the_device_sends_nothing(made):
    assert made[-1].on_device == 1
    recorded = made[-1]._replace(payload_bytes=np.arange(1, EXAMPLES + 1))
    taken = np.arange(EXAMPLES) % 3
    sent = sent_bytes(recorded, taken)
    assert not sent[taken == 0].any()
    assert np.array_equal(sent[taken > 0], recorded.payload_bytes[taken > 0])
    assert sent_bytes(recorded._replace(payload_bytes=None), taken) is None


def test_costs_are_those_counted_by_hand(made):
    cost, heads = made[-1].trace.cost, made[-1].classifier_cost
    first, second = STEM + LAYER1 + EARLY, STEM + LAYER1 + LAYER2 + EARLY + LATE
    assert cost.tolist() == [first, second, second + LAYER3 + FC]
    assert heads.tolist() == [EARLY, EARLY + LATE, EARLY + LATE]


def test_shapes_are_enough_to_count_costs():
    net = tiny.whole(tiny.exit_after("layer1"))
    image = jax.ShapeDtypeStruct((1, tiny.SIDE, tiny.SIDE, 1), np.uint8)
    last = STEM + LAYER1 + LAYER2 + EARLY + LAYER3 + FC
    assert exit_costs(net, shapes_of(net), image).tolist() == [
        STEM + LAYER1 + EARLY,
        last,
    ]


def test_a_head_on_the_last_stage_is_the_last_answer():
    stages = tiny.whole().stages[:4]  # up to layer2
    exits = (tiny.exit_after("layer2"), tiny.exit_after("stem"))
    net = Net(stages, exits)
    costs = record.exit_costs_of(net, shapes_of(net), tiny.images(1).images)
    stem = STEM + 4 * tiny.CLASSES
    assert costs.total.tolist() == [stem, stem + LAYER1 + LAYER2 + LATE]
    assert costs.classifiers.tolist() == [4 * tiny.CLASSES] * 2


def test_a_head_counts_where_a_later_one_reads_it_too():
    """What the exits are asked for never makes a later answer cheaper."""
    places = ("stem", "layer1", "layer2", "layer3")
    every = tiny.whole(*(tiny.exit_after(place) for place in places))
    found = exit_costs(every, shapes_of(every), tiny.images(1).images)
    assert (np.diff(found) > 0).all() and len(found) == 5


def test_learnt_confidence_is_recorded_and_the_last_is_sure():
    net, data = tiny.whole(tiny.exit_after("layer1", tiny.Sure)), tiny.images(5)
    variables = tiny.variables_of(net)
    recorded = record.record(net, variables, data, net_name="sure", batch_size=5)
    sure = recorded.trace.confidence
    assert sure.shape == (2, 5) and (sure[1] == 1).all()
    assert ((sure[0] > 0) & (sure[0] < 1)).all() and recorded.payload_bytes is None
    assert recorded.trace.cost[0] == STEM + LAYER1 + EARLY + 8  # and one output more


def test_saved_and_loaded_it_is_the_same_and_a_trace_too(made, tmp_path):
    recorded, path = made[-1], tmp_path / "trace.npz"
    record.save(recorded, path)
    again = record.load(path, "tiny")
    assert np.array_equal(again.payload_bytes, recorded.payload_bytes)
    assert np.array_equal(again.classifier_cost, recorded.classifier_cost)
    assert again.on_device == recorded.on_device
    for field in dataclasses.fields(trace.Trace):
        for found in (again.trace, trace.load(path)):
            ours = getattr(recorded.trace, field.name)
            assert np.array_equal(getattr(found, field.name), ours), field.name
    assert [p.name for p in tmp_path.iterdir()] == ["trace.npz"]


def test_gates_tell_how_much_of_a_net_runs(tmp_path):
    gated = [Stage(name, Skippable(1)) for name in ("a", "b")]
    exits = (Exit("a", PooledLinear(3)), Exit("b", PooledLinear(3)))
    net = Net((Stage("normalise", Normalise()), *gated), exits)
    variables, data = tiny.variables_of(net), tiny.images(30)
    found = record.record(net, variables, data, net_name="gated", batch_size=8)
    features = jax.jit(lambda v, x: run(net, v, x)[0].features)(variables, data.images)
    np.testing.assert_array_equal(found.executed, executed_share(features["b"]))
    record.save(found, tmp_path / "t.npz")
    again = record.load(tmp_path / "t.npz")
    np.testing.assert_array_equal(again.executed, found.executed)
    assert again.payload_bytes is None


class OfSignals(nn.Module):
    """Reads float32 [B, 4], and nothing else."""

    @nn.compact
    def __call__(self, x, *, train):
        assert x.dtype == np.float32
        return nn.Dense(3)(x)


def test_costs_are_of_the_inputs_that_the_data_holds():
    draw = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    data = dataclasses.replace(tiny.images(5), images=draw)
    net = Net((Stage("fc", OfSignals()),))
    variables = init(net, jax.random.key(0), data.example())
    found = record.record(net, variables, data, net_name="signals", batch_size=5)
    assert found.trace.cost.tolist() == [12]


def test_mistakes_are_usage_errors(made, tmp_path):
    net, variables, _, data, recorded = made
    record.save(recorded, tmp_path / "a.npz")
    trace.save(recorded.trace, tmp_path / "b.npz")
    with pytest.raises(UsageError, match="of net 'tiny', not of 'other'"):
        record.load(tmp_path / "a.npz", "other")
    with pytest.raises(UsageError, match="no cost of exit classifiers"):
        record.load(tmp_path / "b.npz")
    for cuts, words in (("layer2", "fc"), "3 splits"), (("input",), "in the order"):
        more = net
        for cut in cuts:
            more = cut_at(more, cut, net.splits[0].compressor)
        with pytest.raises(UsageError, match=words):
            record.record(more, variables, data, net_name="tiny")
    with pytest.raises(UsageError, match="no examples to record"):
        record.record(net, variables, data.take(np.arange(0)), net_name="tiny")
