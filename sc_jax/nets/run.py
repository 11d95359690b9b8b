"""Running nets: the only caller of flax init and apply."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sc_jax.errors import UsageError, unknown
from sc_jax.nets.gradients import GRADIENTS
from sc_jax.nets.net import FINAL, INPUT, Exit, Net, SplitPoint, Stage, resolve

State = dict[str, Any]


class Variables(NamedTuple):
    """Parameters and state (batch statistics) by part name."""

    params: dict[str, Any]
    state: State


class Outputs(NamedTuple):
    """What a run gives; jit prunes what nobody reads."""

    features: dict[str, Any]  # stage name -> its output, before the split's compressor
    predictions: dict[str, jax.Array]  # exit name -> f32[B, K]; the last is "final"
    bits: dict[str, jax.Array]  # split name -> f32[B], estimated
    # Names of exits and splits -> what else they give (see Exit and SplitPoint).
    extras: dict[str, dict[str, Any]]
    carry: Any = None  # what the last exit so far leaves for the next one to read


def init(net: Net, key: jax.Array, example: Any) -> Variables:
    """Fresh variables for `net`; `example` has the input's shape with leading B."""
    data = jax.random.key_data(key)  # a tracer under any outer trace
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((data, example))):
        return Variables(*jax.jit(partial(_fresh, net, key))(example))
    # A key cannot be hashed, its words can: equal seeds meet in the cache.
    words = tuple(np.asarray(data).tolist())
    build = _initialiser if _is_hashable(net) else _initialiser.__wrapped__
    return Variables(*build(net, words, str(jax.random.key_impl(key)))(example))


def variable_shapes(net: Net, example: Any) -> Variables:
    """What `init` gives, as shapes and types: nothing is drawn.

    example: arrays, or their shapes and types, with leading B.
    """
    leaves, tree = jax.tree.flatten(example)
    kinds = tuple((tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves)
    traced = _shapes if _is_hashable(net) else _shapes.__wrapped__
    return traced(net, tree, kinds)


# Every opening of a run asks: a trace of a large net takes seconds.
@lru_cache(maxsize=64)
def _shapes(net: Net, tree: Any, kinds: tuple[tuple, ...]) -> Variables:
    example = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
    return Variables(*jax.eval_shape(partial(_fresh, net, jax.random.key(0)), example))


def _is_hashable(net: Net) -> bool:
    try:
        hash(net)
    except TypeError:  # a module of one's own with a list in it
        return False
    return True


@lru_cache(maxsize=16)
def _initialiser(net: Net, words: tuple[int, ...], impl: str) -> Callable:
    """`_fresh` compiled; kept, so that the same net does not trace it again."""
    key = jax.random.wrap_key_data(jnp.array(words, jnp.uint32), impl=impl)
    # It runs once: LLVM's higher levels unroll the random bits of every parameter,
    # take twice the time to compile, and give the same bits.
    quick = {"xla_backend_optimization_level": 1}
    options = quick if jax.default_backend() == "cpu" else None
    return jax.jit(partial(_fresh, net, key), compiler_options=options)


def _fresh(net: Net, key: jax.Array, example: Any) -> tuple[dict[str, Any], State]:
    """(params, state) of every part, by the shapes that come to it."""
    params: dict[str, Any] = {}
    state: State = {}

    def start(name, module, *inputs):
        # By name, so that a part begins alike whatever stands around it.
        folded = jax.random.fold_in(key, _hash(name))
        rngs = {"params": folded, "noise": folded, "dropout": folded}
        # In evaluation mode: batch statistics start as they are, whatever the example.
        fresh = dict(module.init(rngs, *inputs, train=False))
        # Parts without parameters have an empty entry, so that every name is found.
        params[name] = fresh.pop("params", {})
        state[name] = fresh

    x, previous = example, None
    for name in (INPUT, *net.names):
        if name != INPUT:
            stage = net.stages[net.names.index(name)]
            own = stage.owner or name
            if own not in params:  # of an owner: at the first that shares it
                start(own, stage.module, x)
            x = _apply(stage.module, params[own], state[own], x)
        exit_, split = net.exit_at(name), net.split_at(name)
        if exit_ is not None:
            start(exit_.name, exit_.module, x, previous)
            own = params[exit_.name], state[exit_.name]
            # The next exit may size its weights by what this one hands on.
            previous = _answer(_apply(exit_.module, *own, x, previous))[2]
        if split is not None:
            start(split.name, split.compressor, x)
            own = params[split.name], state[split.name]
            x, _ = _apply(split.compressor, *own, x)
    return params, state


def scope_of(part: str) -> str:
    """What operations of a part are named by, in profiles and exported segments.

    MLIR takes what follows an @ for a function's name and leaves it out.
    """
    return part.replace("@", ".")


def run(
    net: Net,
    variables: Variables,
    x: Any,
    *,
    start: str = INPUT,
    stop: str | None = None,
    train: frozenset[str] = frozenset(),
    key: jax.Array | None = None,
    dtype: Any = None,
    exact: bool = True,
    previous: Any = None,
    gradients: str = "sum",
) -> tuple[Outputs, State]:
    """Runs the stages after `start` up to and including `stop` (default: all).

    `x` is the output of `start` as the next stage sees it (decoded, if a split stands
    there). `train` names the parts in training mode (noise, dropout, batch
    statistics); every other part is deterministic and keeps its state: a teacher and
    a frozen stage never drift. With a `key` only a frozen compressor of several rates
    draws, one an example. `dtype` (bfloat16) is the compute type of stages;
    exits, compressors and predictions stay float32. `key` is needed when `train` is
    not empty. `exact=False` lets a compiler fuse across stages: a cut may then change
    last bits, but the program holds no operation that only keeps them (for export).
    `previous` is what the last exit before `start` hands on, for exits that read it.
    `gradients`, one of GRADIENTS, is how those of the exits meet in the trunk.
    """
    _check(net, train, key, gradients)
    names = _passed(net, start, stop)
    state = dict(variables.state)
    call = partial(_call, variables, state, train, key, dtype)
    # A training run is never cut in two, so nothing has to agree with its last bits.
    wall = _wall(variables) if exact and not train else None
    apart = partial(_apart, wall=wall) if exact else lambda x: x
    merge = GRADIENTS[gradients]
    return _stages(net, names, x, previous, call, apart, merge), state


def _stages(
    net: Net,
    names: tuple[str, ...],
    x: Any,
    previous: Any,
    call: Callable,
    apart: Callable,
    merge: Callable,
) -> Outputs:
    """The stages of `names` in turn, with what stands on them: `run` without set-up.

    call(part, *inputs), apart(x) and merge(x, exits ahead): `_call`, `_apart` and the
    member of GRADIENTS with what a run chooses.
    """
    out = Outputs({}, {}, {}, {})
    # The start is not run, nor what stands on it (x is behind both): but the input is.
    entered = names[0] != INPUT
    behind = names[1:] if entered else names
    ahead = len({names[-1], *(n for n in behind if net.exit_at(n))})
    for position, name in enumerate(names):
        if position:
            x = apart(call(net.stages[net.names.index(name)], x))
        out.features[name] = x
        if entered and not position:
            continue
        exit_, split = net.exit_at(name), net.split_at(name)
        if exit_ is not None:
            # Before the split: an exit reads what the device has, not what travels.
            seen, x = merge(x, ahead)
            logits, extras, previous = _answer(call(exit_, _float(seen), previous))
            out.predictions[exit_.name], out.extras[exit_.name] = logits, extras
            ahead -= 1
        if split is not None:
            # Pixels stay uint8: a codec of the input must see what a camera gives.
            z = x if name == INPUT else _float(x)
            x, out.bits[split.name], *more = call(split, z)
            if more:
                (out.extras[split.name],) = more
            x = apart(x)
    if names[-1] == (INPUT, *net.names)[-1]:  # also the empty tail of a local-only cut
        _finish(net, out, x)
    return out._replace(carry=previous)


def _check(net: Net, train: frozenset[str], key: Any, gradients: str) -> None:
    """UsageError for parts, gradients or a missing key that no run can do with."""
    unknown_parts = train - set(net.parts)
    if unknown_parts:
        raise unknown("part", min(unknown_parts), net.parts)
    if train and key is None:
        raise UsageError("run needs a key when parts are in training mode")
    if gradients not in GRADIENTS:
        raise unknown("gradients", gradients, GRADIENTS)


def _passed(net: Net, start: str, stop: str | None) -> tuple[str, ...]:
    """Names from `start`, which is not run, to the last stage that is."""
    names = (INPUT, *net.names)
    names = names[names.index(resolve(net, start)) :]
    if stop:
        last = resolve(net, stop)
        if last not in names:
            raise UsageError(f"stop {stop!r} lies before start {start!r}")
        names = names[: names.index(last) + 1]
    return names


def _call(
    variables: Variables,
    state: State,
    train: frozenset[str],
    key: jax.Array | None,
    dtype: Any,
    part: Stage | Exit | SplitPoint,
    *inputs: Any,
) -> Any:
    """What a part gives of its inputs; its new state is written into `state`."""
    name = own = part.name
    module = part.compressor if isinstance(part, SplitPoint) else part.module
    if isinstance(part, Stage):
        own = part.owner or name
    params = variables.params[own]
    if dtype is not None and isinstance(part, Stage):
        # Exits and priors stay float32: softmaxes and likelihoods need its range.
        params, inputs = _cast(params, dtype), _cast(inputs, dtype)
    # Of the stage, not of its owner: stages that share parameters share no noise.
    draws = own in train or (key is not None and isinstance(part, SplitPoint))
    rng = jax.random.fold_in(key, _hash(name)) if draws else None  # type: ignore
    with jax.named_scope(scope_of(name)):
        value, state[own] = _apply(
            module,
            params,
            state[own],
            *inputs,
            rng=rng,
            train=own in train,
            with_state=True,
        )
    return value


def _finish(net: Net, out: Outputs, x: Any) -> None:
    """Enters the "final" prediction: of an exit after the last stage, or x itself."""
    at = net.exit_at((INPUT, *net.names)[-1])
    final = out.predictions.get(at.name) if at else None
    # None too where an exit stands on `start`: a run from there has not called it.
    out.predictions[FINAL] = _float(x) if final is None else final
    out.extras[FINAL] = out.extras.get(at.name, {}) if at else {}


def _answer(answer: Any) -> tuple[jax.Array, dict[str, Any], Any]:
    """(logits, extras, what the next exit reads) of an exit's output."""
    logits, extras = answer if isinstance(answer, tuple) else (answer, {})
    # "carry" travels between exits only; losses and traces never see it.
    kept = {key: value for key, value in extras.items() if key != "carry"}
    return logits, kept, extras.get("carry", logits)


def _apply(module, params, state, *inputs, rng=None, train=False, with_state=False):
    # Two streams of one key: dropout must not repeat the noise of a quantiser.
    rngs = {} if rng is None else {"noise": rng, "dropout": jax.random.fold_in(rng, 1)}
    # Not mutable unless trained: what is frozen cannot drift by mistake.
    mutable = list(state) if train else False
    result = module.apply(
        {"params": params, **state},
        *inputs,
        train=train,
        rngs=rngs,
        mutable=mutable,
    )
    value, new = result if mutable is not False else (result, state)
    return (value, dict(new)) if with_state else value


def _wall(variables: Variables) -> jax.Array | None:
    """On CPU a true bool that no compiler knows to be true; elsewhere None."""
    leaves = jax.tree.leaves(variables.params)
    if jax.default_backend() != "cpu" or not leaves:
        return None
    return leaves[0].ravel()[0] * 0.0 != 1.0  # NaN and infinity too


def _apart(x, wall: jax.Array | None):
    """x, computed as if it were read: a cut must not change a bit of what follows.

    XLA's CPU backend drops optimisation barriers before it fuses, and what is fused
    sums in another order (last bits, and so symbols, differ). A branch it must keep.
    """
    # Enough on accelerators, which keep barriers.
    x = jax.lax.optimization_barrier(x)
    if wall is None:
        return x
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    return jax.lax.cond(wall, lambda tree: tree, zeros, x)


def _hash(name: str) -> int:
    """A stable 31-bit number of a name (Python's own hash is salted)."""
    number = 2166136261
    for byte in name.encode():
        # FNV-1a: part of every seed's weights, so it may never change.
        number = ((number ^ byte) * 16777619) & 0xFFFFFFFF
    # fold_in takes what fits an int32.
    return number & 0x7FFFFFFF


def _cast(tree, dtype):
    return jax.tree.map(
        # Integers and bools pass: tokens, labels and masks have no precision to choose.
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        tree,
    )


def _float(x):
    return _cast(x, jnp.float32)
