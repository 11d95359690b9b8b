"""Whether a call may have been sent, however its connection and it come together."""

import subprocess
import sys

from sc_jax.deploy.wire.connected import Connected

READY = "ready"
LEFT_OPEN = """
import os
from grpc import _channel
from sc_jax.deploy.wire import sending
_channel.Channel.__del__ = lambda self, end=os._exit: end(7)
send = sending.connect("localhost:1")
"""


class Channel:
    def subscribe(self, note):
        self.note = note

    def unsubscribe(self, note):
        self.note = None


CLOSED_AT_ONCE = """
import time
from sc_jax.deploy.wire.client import Client
for pause in (0, 0, 0.001, 0.01, 0.05, 0.1, 0.19, 0.3):
    client = Client("localhost:1")
    time.sleep(pause)
    client.close()
print("closed")
"""


class Meanwhile(Connected):
    """It connects just after it was looked whether there is a connection."""

    found = False

    @property
    def _now(self):
        found = self.found
        if not found:
            self._note(READY)
        return found

    @_now.setter
    def _now(self, value):
        self.found = value


def test_a_call_before_and_behind_a_connection():
    channel = Channel()
    seen = Connected(channel, READY)
    early, earlier = seen.since_now(), seen.since_now()
    assert not early()
    channel.note("connecting")
    assert not early()
    channel.note(READY)
    assert early() and earlier() and seen.since_now()()
    assert channel.note is None  # no more than is needed
    seen.failed()
    assert seen.since_now()()  # until gRPC says more
    channel.note("lost")
    assert not seen.since_now()()


def test_a_connection_that_comes_while_a_call_begins_counts():
    assert Meanwhile(Channel(), READY).since_now()()


def test_python_ends_while_grpc_follows_a_channel():
    """__del__ asks for a lock that gRPC's thread, stopped by then, may hold."""
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], timeout=60)
    assert done.returncode == 0


def test_no_thread_of_grpc_fails_on_a_channel_that_is_closed():
    done = subprocess.run(
        [sys.executable, "-c", CLOSED_AT_ONCE],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("closed\n", "")
