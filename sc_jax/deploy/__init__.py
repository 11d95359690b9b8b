"""A trained net in two places: exported, run on a device, served at an edge."""

from sc_jax.lazy import facade

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "bundle": ["Bundle"],
        "device.device": ["Answer", "Device", "connect"],
        "wire.frame": ["Frame", "FrameError"],
        "wire.reply": ["Reply"],
    },
)
