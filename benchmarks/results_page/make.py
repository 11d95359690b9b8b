"""Writes docs/results.md from its parts, and parts from the reports of finished runs.

  python -m benchmarks.results_page.make                       # joins what there is
  python -m benchmarks.results_page.make --coder=runs/coder.json \\
      --embedded=runs/seed=0,runs/seed=1 --methods=runs/cifar
  python -m benchmarks.results_page.make --pictures            # draws from the tables

--embedded: folders of launch.train runs of the default recipe, one a seed. --methods: a
folder of benchmarks.methods.training. Every number is read from those files; none is
typed in. A part is replaced by one of the same title, all others stay.
"""

from pathlib import Path

from absl import flags

from benchmarks.results_page import (
    baselines,
    contexts,
    deploy,
    early_exits,
    end_to_end,
    hostile,
    inversion,
    labelled,
    layers,
    page,
    peer,
    photographs,
    planning,
    speed,
    trade,
    training,
    unmodified,
)
from launch import cli

EMBEDDED = flags.DEFINE_list("embedded", [], "folders of launch.train, one a seed")
METHODS = flags.DEFINE_string("methods", None, "folder of benchmarks.methods.training")
RATES = flags.DEFINE_list("rates", [], "run of several rates, sweep of single ones")
CODER = flags.DEFINE_string("coder", None, "JSON of speed.coder_speed")
THROUGHPUT = flags.DEFINE_list("throughput", [], "JSONs of speed.train_throughput")
SHALLOW = flags.DEFINE_string("training_step", None, "JSON of speed.training_step")
BUNDLES = flags.DEFINE_list("bundles", [], "folders of launch.export")
DESIGNS = flags.DEFINE_string("designs", None, "JSON of speed.head_designs")
TRADE = flags.DEFINE_list("trade", [], "JSONs of head_vs_baselines, several pairs")
BASELINES = flags.DEFINE_list("baselines", [], "JSONs of methods.head_vs_baselines")
SERVING = flags.DEFINE_string("serving", None, "JSON of serving.load")
PROTOCOL = flags.DEFINE_string("protocol", None, "JSON of protocol_comparison")
HOSTILE = flags.DEFINE_list("hostile", [], "JSONs of serving.hostile, one table")
RESTARTS = flags.DEFINE_string("restarts", None, "JSON of serving.restarts")
LOST = flags.DEFINE_string("lost_server", None, "JSON of serving.lost_server")
EXITS = flags.DEFINE_list("exits", [], "JSONs of methods.early_exits")
EXECUTORS = flags.DEFINE_list("executors", [], "JSONs of speed.exit_speed")
PICTURES = flags.DEFINE_boolean("pictures", False, "draw again from the page's tables")
PHOTOGRAPHS = flags.DEFINE_list("photographs", [], "folders of launch.train at 224")
LABELLED = flags.DEFINE_list("labelled", [], "the teacher's folder, then its students'")
BITS = flags.DEFINE_string("bits", None, "JSON of methods.where_bits_go")
CONTEXTS = flags.DEFINE_list("contexts", [], "JSONs of methods.contexts")
END_TO_END = flags.DEFINE_string("end_to_end", None, "JSON of serving.end_to_end")
PLANNING = flags.DEFINE_string("planning", None, "JSON of speed.planning")
PEER = flags.DEFINE_list("peer", [], "JSON of methods.peer_student, of peer_teacher")
UNMODIFIED = flags.DEFINE_list("unmodified", [], "JSONs of methods.unmodified")
LAYERS = flags.DEFINE_string("layers", None, "JSON of speed.layer_regression")
INVERSION = flags.DEFINE_list("inversion", [], "JSONs of methods.inversion")
OUT = flags.DEFINE_string("out", "docs", "folder of results.md and its pictures")


def measured(out: Path) -> list[str]:
    """The lines of every part whose files are named."""
    lines: list[str] = []
    if EMBEDDED.value:
        lines += training.embedded(list(map(Path, EMBEDDED.value)), out)
    if METHODS.value:
        lines += training.methods(Path(METHODS.value), out)
    if RATES.value:
        lines += training.rates(list(map(Path, RATES.value)))
    if CODER.value:
        lines += speed.coder(CODER.value)
    if THROUGHPUT.value:
        lines += speed.throughput(THROUGHPUT.value)
    if SHALLOW.value:
        lines += speed.shallow(SHALLOW.value)
    if DESIGNS.value:
        lines += speed.designs(DESIGNS.value)
    if BUNDLES.value:
        lines += deploy.bundles(BUNDLES.value)
    if SERVING.value:
        lines += deploy.serving(SERVING.value)
    if PROTOCOL.value:
        lines += deploy.protocol(PROTOCOL.value)
    if HOSTILE.value:
        lines += hostile.bad_clients(HOSTILE.value)
    if RESTARTS.value:
        lines += hostile.restarts(RESTARTS.value)
    if LOST.value:
        lines += hostile.lost_server(LOST.value)
    if PHOTOGRAPHS.value:
        lines += photographs.against_files([*map(Path, PHOTOGRAPHS.value)], out)
    if LABELLED.value:
        taught, *students = map(Path, LABELLED.value)
        lines += labelled.methods(students, taught, out)
    if BITS.value:
        lines += photographs.bits(Path(BITS.value), out)
    for path in CONTEXTS.value:
        lines += contexts.contexts(Path(path))
    for path in UNMODIFIED.value:
        lines += unmodified.section(path, out)
    if END_TO_END.value:
        lines += end_to_end.end_to_end(END_TO_END.value, out)
    if PLANNING.value:
        lines += planning.planning(PLANNING.value, out)
    if PEER.value:
        lines += peer.student(*map(Path, PEER.value))
    if LAYERS.value:
        lines += layers.regression(Path(LAYERS.value))
    for path in INVERSION.value:
        lines += inversion.inversion(Path(path), out)
    for path in TRADE.value:
        lines += trade.trade(path)
    for path in BASELINES.value:
        lines += baselines.head_vs_baselines(path, out)
    for path in EXITS.value:
        lines += early_exits.sections(path)
    for path in EXECUTORS.value:
        lines += speed.executors(path)
    return lines


def main(_):
    out = Path(OUT.value)
    page.put(measured(out))
    if PICTURES.value or EXITS.value:
        early_exits.draw(out)
    if PICTURES.value or TRADE.value:
        trade.draw(trade.recorded(), out / trade.PICTURE)
    (out / "results.md").write_text(page.joined())


if __name__ == "__main__":
    cli.start(main)
