"""Networks as tuples of named stages, and the edits that make methods of them."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.nets.backbones.registry import BACKBONES as BACKBONES
    from sc_jax.nets.backbones.registry import classifier_net as classifier_net
    from sc_jax.nets.net import FINAL as FINAL
    from sc_jax.nets.net import INPUT as INPUT
    from sc_jax.nets.net import Exit as Exit
    from sc_jax.nets.net import Net as Net
    from sc_jax.nets.net import SplitPoint as SplitPoint
    from sc_jax.nets.net import Stage as Stage
    from sc_jax.nets.net import cut_at as cut_at
    from sc_jax.nets.net import head as head
    from sc_jax.nets.net import inject as inject
    from sc_jax.nets.net import insert as insert
    from sc_jax.nets.net import match as match
    from sc_jax.nets.net import resolve as resolve
    from sc_jax.nets.net import tail as tail
    from sc_jax.nets.run import Outputs as Outputs
    from sc_jax.nets.run import Variables as Variables
    from sc_jax.nets.run import init as init

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "backbones.registry": [
            "BACKBONES",
            "classifier_net",
        ],
        "net": [
            "FINAL",
            "INPUT",
            "Exit",
            "Net",
            "SplitPoint",
            "Stage",
            "cut_at",
            "head",
            "inject",
            "insert",
            "match",
            "resolve",
            "tail",
        ],
        "run": [
            "Outputs",
            "Variables",
            "init",
        ],
    },
)
