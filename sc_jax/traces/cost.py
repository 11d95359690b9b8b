"""What a device must compute and hold: multiply-accumulates and parameters."""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

from sc_jax.errors import UsageError

# Work that happens where the jaxpr does not show it, or not as often as it says.
_OPAQUE = {"pallas_call", "pure_callback", "io_callback", "ffi_call", "shard_map"}
_OPAQUE |= {"ragged_dot", "ragged_dot_general", "xla_pmap"}

# Part of the key of jit's trace cache: a jitted function traced before, with the fast
# path, is traced again for counting, and what counting traced is never run.
_counting = jax.make_user_context(default_value=False)


def macs(fn: Callable, *args: Any) -> int:
    """Multiply-accumulates of one call of `fn`; trace with batch 1 for one example.

    Counts convolutions and dot products (dense layers, einsum, attention, the 1x1
    of a GDN); additions, normalisations and activations are not counted, as usual.
    Padding taps count. A transposed convolution counts each input entry times each
    tap, not the zeros between entries. What no output reads is pruned, as jit does.

    args: pytrees of arrays or `jax.ShapeDtypeStruct`; nothing is computed.
    """
    return macs_of(lambda *a: {"": fn(*a)}, *args)("")


def macs_of(fn: Callable[..., Mapping[str, Any]], *args: Any) -> Callable[..., int]:
    """Counts parts of what `fn` returns, a dict: count(*names) -> MACs of those alone.

    As `macs`; traced once, however many parts are counted.
    """
    # Late: evaluate must import without the nets, and nets may import cost.
    from sc_jax.nets.layers import convolution

    # The CPU fast path would hide the convolutions.
    with _counting(True), convolution.plain():
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)

    def count(*names: str) -> int:
        leaves = [(n, len(jax.tree.leaves(shapes[n]))) for n in sorted(shapes)]
        read = [n in names for n, length in leaves for _ in range(length)]
        return _count(partial_eval.dce_jaxpr(closed.jaxpr, read)[0])

    return count


def parameters(tree: Any) -> int:
    """Entries of all arrays (or shapes) of a pytree together."""
    return sum(prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


def _count(jaxpr: Jaxpr) -> int:
    return sum(_equation(eqn) for eqn in jaxpr.eqns)


def _equation(eqn: JaxprEqn) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        return _dot(eqn)
    if name == "conv_general_dilated":
        return _convolution(eqn)
    if name in _OPAQUE:
        raise UsageError(
            f"cannot count the MACs inside {name!r}; "
            "write the function with jax.lax convolutions and dot products"
        )
    inner = [_count(j) for j in _jaxprs(eqn)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return eqn.params["length"] * sum(inner)
    if name == "while" and sum(inner):
        raise UsageError(
            "cannot count the MACs of a while loop: its trip count is unknown; "
            "use lax.scan or a fori_loop with constant bounds"
        )
    return sum(inner)


def _dot(eqn: JaxprEqn) -> int:
    """Entries of the output, times the length of what is summed for each."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = _shape(eqn.invars[0])
    return prod(_shape(eqn.outvars[0])) * prod(left[d] for d in contracted)


def _convolution(eqn: JaxprEqn) -> int:
    """Entries of the output, times taps, times input channels of a group."""
    # rhs_spec: (output channels, input channels of one group, *space)
    outputs, *rest = eqn.params["dimension_numbers"].rhs_spec
    data, kernel = map(_shape, eqn.invars)
    count = prod(_shape(eqn.outvars[0])) * prod(kernel[d] for d in rest)
    if prod(eqn.params["lhs_dilation"]) == 1:
        return count
    taps = prod(kernel[d] for d in rest[1:])
    groups = eqn.params["feature_group_count"] * eqn.params["batch_group_count"]
    return min(count, prod(data) * taps * kernel[outputs] // groups)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _jaxprs(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    """The functions an equation calls: of jit, remat, custom_jvp, scan, cond, ..."""
    for value in eqn.params.values():
        for leaf in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(leaf, ClosedJaxpr):
                yield leaf.jaxpr
            elif isinstance(leaf, Jaxpr):
                yield leaf
