"""A trained net in two places: exported, run on a device, served at an edge."""

from typing import TYPE_CHECKING

from sc_jax.lazy import facade

if TYPE_CHECKING:
    from sc_jax.deploy.bundle import Bundle as Bundle
    from sc_jax.deploy.device.device import Answer as Answer
    from sc_jax.deploy.device.device import Device as Device
    from sc_jax.deploy.device.device import connect as connect
    from sc_jax.deploy.wire.frame import Frame as Frame
    from sc_jax.deploy.wire.frame import FrameError as FrameError
    from sc_jax.deploy.wire.reply import Reply as Reply

__getattr__, __dir__, __all__ = facade(
    __name__,
    {
        "bundle": ["Bundle"],
        "device.device": ["Answer", "Device", "connect"],
        "wire.frame": ["Frame", "FrameError"],
        "wire.reply": ["Reply"],
    },
)
