"""Whether a channel had a connection over which a call may have been sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Connected:
    """Follows the connectivity of a gRPC channel, on the channel's own thread.

    A server that says NOT_SERVING counts as not connected where the channel checks
    health: no call is sent to it.
    """

    def __init__(self, channel: Any, ready: Any):
        """ready: gRPC's ChannelConnectivity.READY; grpc itself is not imported here."""
        self._ready, self._now, self._times = ready, False, 0
        channel.subscribe(self._note)

    def _note(self, state: Any) -> None:
        self._now = state is self._ready
        self._times += self._now

    def since_now(self) -> Callable[[], bool]:
        """Whether there was a connection at any time between the two calls."""
        before, times = self._now, self._times
        return lambda: before or self._times > times
