"""Where to split, which exit, which codec: the best plan for measured machines.

  python -m launch.plan --profile=phone.json --server=server.json --link=lte \\
      --deadline_ms=100
  python -m launch.plan --profile=a.json,b.json --server=a_s.json,b_s.json \\
      --link=up=2e6,rtt=0.03 --planner=jointdnn:objective=energy_j --picture=plan.png
  python -m launch.plan --profile=phone.json --server=server.json --link=lte \\
      --deadline_ms=100 --max_risk=0.01

What a profile holds, and the planners: docs/planning.md. Links and planners are listed
by python -m launch.train --list=links and --list=planners.
"""

from absl import flags

from launch import cli
from sc_jax.plan.plan import Bounds
from sc_jax.runs import planning

PROFILE = flags.DEFINE_list("profile", [], "device's files, one a network: PHONE.json")
SERVER = flags.DEFINE_list("server", [], "server's files, one a network; or none")
LINK = flags.DEFINE_string("link", None, "lte, wifi:rtt=0.01 or up=2e6,rtt=0.03")
PLANNER = flags.DEFINE_string("planner", None, "NAME:knob=value,..., or neurosurgeon")
BATCH = flags.DEFINE_integer("batch", 1, "inputs the server computes together", 1)
DEADLINE_MS = flags.DEFINE_float("deadline_ms", None, "latency at most", 0)
ENERGY_J = flags.DEFINE_float("energy_j", None, "joules of the device at most", 0)
SENT_BYTES = flags.DEFINE_float("sent_bytes", None, "bytes sent at most", 0)
MEMORY_BYTES = flags.DEFINE_float("memory_bytes", None, "memory of the device at most")
QUALITY = flags.DEFINE_float("quality", None, "quality at least, as in the profile")
PRIVATE = flags.DEFINE_list("private", [], "stages that stay on the device")
MAX_RISK = flags.DEFINE_float("max_risk", None, "quality lost at most, by joint")
DELTA = flags.DEFINE_float("delta", None, "chance to lose more than max_risk (0.1)")
RECORDS = flags.DEFINE_list("records", [], "joint, spinn: NPZ, or as the profiles say")
OUT = flags.DEFINE_string("out", None, "the plan as JSON")
PICTURE = flags.DEFINE_string("picture", None, "PNG: latency of each cut by rate")


def main(_):
    cli.absent(OUT.value, PICTURE.value)
    bounds = Bounds(
        None if DEADLINE_MS.value is None else DEADLINE_MS.value / 1e3, ENERGY_J.value,
        SENT_BYTES.value, MEMORY_BYTES.value, QUALITY.value, tuple(PRIVATE.value),
    )  # fmt: skip
    planning.run(
        PROFILE.value, SERVER.value, link=LINK.value, planner=PLANNER.value,
        bounds=bounds, max_risk=MAX_RISK.value, delta=DELTA.value,
        records=RECORDS.value, batch=BATCH.value, out=OUT.value, picture=PICTURE.value,
    )  # fmt: skip


if __name__ == "__main__":
    cli.start(main)
