"""Fits the seconds of layers on a machine, so that launch.profile predicts networks.

  python -m launch.fit_layers --out=here.json --networks=resnet18:64,mobilenetv2:96
  python -m launch.fit_layers --out=phone.json --logs=a.tflite=a.txt,b.tflite=b.txt
  python -m launch.profile --workdir=runs/first --regression=phone.json --out=p.json

--networks: registered backbones at an image's side, untrained, timed here layer by
layer by LiteRT's profiler. --logs: files that ran on a device, each with what LiteRT's
benchmark_model printed there with --enable_op_profiling=true (docs/on_device.md).
Prints how far each family of networks is off when the others predict it, after
Neurosurgeon (Kang et al. 2017); nothing is judged on layers that it was fitted to.
"""

from absl import flags

from launch import cli
from sc_jax.plan import regression

NETWORKS = flags.DEFINE_list("networks", [], "NAME:SIDE, of two families or more")
LOGS = flags.DEFINE_list("logs", [], "FILE.tflite=LOG, of one device")
OUT = flags.DEFINE_string("out", None, "JSON file; must not exist")
THREADS = flags.DEFINE_integer("threads", 1, "of the interpreter here", 1)
ROUNDS = flags.DEFINE_integer("rounds", 15, "inferences here, the least counts", 1)


def main(_):
    if OUT.value is None or bool(NETWORKS.value) == bool(LOGS.value):
        raise cli.UsageError("give --out, a file, and --networks or --logs")
    cli.absent(OUT.value)
    from sc_jax.deploy.export import layer_seconds  # after --help, which is quick so

    layers, machine = layer_seconds.measured(
        NETWORKS.value, LOGS.value, THREADS.value, ROUNDS.value
    )
    regression.write(OUT.value, regression.fit(layers, machine))
    print("\n".join(regression.lines(layers)))


if __name__ == "__main__":
    cli.start(main)
