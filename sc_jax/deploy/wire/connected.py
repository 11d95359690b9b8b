"""Whether a channel had a connection over which a call may have been sent."""

from __future__ import annotations

import atexit
import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any

LOOK_S = 0.2  # gRPC's thread looks after so long at the latest


class Connected:
    """Follows the connectivity of a gRPC channel until it has connected.

    gRPC follows it in a thread that wakes five times a second, for each channel. So
    from then on the channel counts as connected, and is followed again from the call
    after one that `failed`; until gRPC then reports the loss, calls count as having had
    a connection. A server that says NOT_SERVING counts as not connected where the
    channel checks health: no call is sent to it.
    """

    def __init__(self, channel: Any, ready: Any):
        """ready: gRPC's ChannelConnectivity.READY; grpc itself is not imported here."""
        self._channel, self._ready = channel, ready
        self._now, self._times = False, 0
        self._followed, self._doubtful = True, False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        _FOLLOWED.add(channel)
        self._subscribe()

    def failed(self) -> None:
        """A call was not answered: the connection may be gone."""
        # Not followed at once: a channel that is closed next would wait for it.
        self._doubtful = True

    def _note(self, state: Any) -> None:
        self._now = state is self._ready
        self._times += self._now
        if self._now:
            self._channel.unsubscribe(self._note)
            with self._lock:
                self._followed = False

    def since_now(self) -> Callable[[], bool]:
        """Whether there may have been a connection at a time between the two calls."""
        if self._doubtful:
            self._follow()
        times = self._times  # first: a connection may come between the two
        if self._now:
            return _yes
        return lambda: self._times > times

    def _follow(self) -> None:
        with self._lock:  # of several threads one subscribes
            again = self._doubtful and not self._followed
            if again:
                self._followed, self._doubtful = True, False
        if again:
            self._subscribe()

    def _subscribe(self) -> None:
        before = set(threading.enumerate())
        self._channel.subscribe(self._note)
        new = [t for t in threading.enumerate() if t not in before]
        self._threads = [t for t in (*self._threads, *new) if t.is_alive()]

    def close(self) -> None:
        """Ends the following, then the channel; takes at most LOOK_S, as a rule.

        gRPC's thread prints a traceback where the channel is closed under it.
        """
        self._channel.unsubscribe(self._note)
        for thread in self._threads:
            if thread is not threading.current_thread():
                # Another one may have begun in the same moment, and not end.
                thread.join(5 * LOOK_S)
        self._channel.close()


def _yes() -> bool:
    return True


_FOLLOWED: weakref.WeakSet = weakref.WeakSet()  # channels


@atexit.register
def _keep() -> None:
    """Channels that were followed outlive the interpreter.

    gRPC's thread may be stopped for good while it holds the lock that the channel's
    __del__ asks for: one exit in thirty would never end.
    """
    for channel in _FOLLOWED:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(channel))
