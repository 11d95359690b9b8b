"""Serves trained runs or tail files: frames in, predictions out, over gRPC.

  python -m launch.serve --workdir=runs/first --port=50051
  python -m launch.serve --workdir=small=runs/a,large=big.tail --host=0.0.0.0 \\
      --tls_cert=edge.pem --tls_key=edge.key --token_file=token --metrics_port=9464

Devices name a model by its id: NAME, or the folder's own name. Tail files (of
launch.export) need no training code. With --forward this is the edge: its exits answer,
or a launch.serve of the same run, the cloud. SIGTERM drains (docs/deployment.md).
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
FORWARD = flags.DEFINE_string("forward", "", "host:port,... of the next tier's servers")
NEXT_TOKEN = flags.DEFINE_string("forward_token_file", None, "file of their token")
NEXT_ROOTS = flags.DEFINE_string("forward_tls_roots", None, "PEM, turns TLS on there")
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
    tls = cli.pair("tls_cert", CERT.value, "tls_key", KEY.value)
    token, next_token = (f and cli.secret(f) for f in (TOKEN.value, NEXT_TOKEN.value))
    roots = cli.read(NEXT_ROOTS.value) if NEXT_ROOTS.value else b""
    sizes = tuple(size for size in batching.SIZES if size <= MAX_BATCH.value)
    where = HOST.value, PORT.value, METRICS.value, sizes
    limits = WAIT_MS.value / 1e3, QUEUE.value, MAX_BYTES.value, token, tls
    more = RECEIVE_S.value, BATCH_S.value, FORWARD.value, next_token, roots
    settings = edge.Settings(*where, *limits, *more)
    devices.start(multihost=False)
    served = models.load_all(WORKDIR.value)
    lifetime.until_signal(edge.serve(served, settings), served, sizes, GRACE_S.value)


if __name__ == "__main__":
    cli.start(main)
