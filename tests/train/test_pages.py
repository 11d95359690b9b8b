"""That memory freed is memory kept: in a process of its own, since it lasts."""

import subprocess
import sys

import pytest

# Page faults of a second block as large as a first one that was freed.
CODE = """
import resource
from sc_jax.train import pages
kept = {keep} and pages.keep()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytearray(64 << 20)
del block
before = faults()
block = bytearray(64 << 20)
print(kept, faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_a_block_that_was_freed_is_mapped_no_second_time():
    found = {}
    for keep in (True, False):
        code = [sys.executable, "-c", CODE.format(keep=keep)]
        done = subprocess.run(code, capture_output=True, text=True, check=True)
        kept, faults = done.stdout.split()
        found[keep] = kept == "True", int(faults)
    if not found[True][0]:
        pytest.skip("not glibc")
    # Huge pages may serve the block that is mapped anew: 32 faults instead of 16,384.
    assert found[True][1] < 10 < found[False][1]
