"""Networks as tuples of named stages, and the edits that make methods of them."""

from sc_jax.lazy import facade

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
