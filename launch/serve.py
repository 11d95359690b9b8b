"""Serves trained runs or tail files: frames in, predictions out, over gRPC.

  python -m launch.serve --workdir=runs/first --port=50051
  python -m launch.serve --workdir=first.tail
  python -m launch.serve --workdir=small=runs/a,large=runs/b --host=0.0.0.0 \\
      --tls_cert=edge.pem --tls_key=edge.key --token_file=token --metrics_port=9464

Devices name a model by its id: NAME of NAME=PATH, or the folder's own name. Tail files
(launch.export --tail) need no training code here. Requests that come together share a
batch. SIGTERM drains: exit code 0, or 1 where a batch did not end (docs/deployment.md).
"""

from absl import flags

from launch import cli
from sc_jax import plugins
from sc_jax.deploy.server import environment
from sc_jax.train import devices

WORKDIR = flags.DEFINE_list("workdir", [], "runs or tail files: [NAME=]PATH,...")
HOST = flags.DEFINE_string("host", "127.0.0.1", "0.0.0.0 answers other machines too")
PORT = flags.DEFINE_integer("port", 50051, "of gRPC; 0 takes a free one", 0, 65535)
METRICS = flags.DEFINE_integer("metrics_port", None, "of Prometheus' HTTP", 0, 65535)
WAIT_MS = flags.DEFINE_float("wait_ms", 3.0, "at most, for others to join a batch", 0)
MAX_BATCH = flags.DEFINE_integer("max_batch", 64, "1 turns batching off", 1)
QUEUE = flags.DEFINE_integer("queue", 256, "requests held; more are refused", 1)
MAX_BYTES = flags.DEFINE_integer("max_bytes", 4 << 20, "of one message", 1 << 10)
TOKEN = flags.DEFINE_string("token_file", None, "file of the token that clients send")
CERT = flags.DEFINE_string("tls_cert", None, "PEM chain; with --tls_key turns TLS on")
KEY = flags.DEFINE_string("tls_key", None, "PEM private key")
RECEIVE_S = flags.DEFINE_float("receive_s", 20.0, "for a request to come whole", 0.1)
BATCH_S = flags.DEFINE_float("batch_s", 30.0, "of a batch, then NOT_SERVING", 0.1)
RECIPE = flags.DEFINE_list("recipe", [], "FILE.py,... of the run, to be trusted")
GRACE_S = flags.DEFINE_float("grace_s", 10.0, "for requests at hand on SIGTERM", 0)


def main(_):
    plugins.trust(RECIPE.value)
    environment.prepare()
    try:
        from sc_jax.deploy.server import batching, edge, lifetime, models
    except ImportError as error:
        raise cli.UsageError(f"{error}; pip install 'sc_jax[serve]'") from None
    if len(tls := [cli.read(f) for f in (CERT.value, KEY.value) if f]) == 1:
        raise cli.UsageError("--tls_cert and --tls_key go together")
    token = cli.secret(TOKEN.value) if TOKEN.value else None
    sizes = tuple(size for size in batching.SIZES if size <= MAX_BATCH.value)
    where = HOST.value, PORT.value, METRICS.value
    limits = WAIT_MS.value / 1e3, QUEUE.value, MAX_BYTES.value
    times = RECEIVE_S.value, BATCH_S.value
    settings = edge.Settings(*where, sizes, *limits, token, tuple(tls), *times)
    devices.start(multihost=False)
    served = models.load_all(WORKDIR.value)
    lifetime.until_signal(edge.serve(served, settings), served, sizes, GRACE_S.value)


if __name__ == "__main__":
    cli.start(main)
