"""From a finished run to a bundle: export, refit, solve, prove, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sc_jax import writing
from sc_jax.codec import codecs
from sc_jax.data import pipeline
from sc_jax.data.dataset import Dataset
from sc_jax.deploy import bundle
from sc_jax.deploy.bundle import Bundle
from sc_jax.deploy.export import exit_policy
from sc_jax.deploy.export.chain import chain, runner
from sc_jax.deploy.export.convert import FLOAT_OPS, ExportError
from sc_jax.deploy.export.exit_policy import Carried
from sc_jax.deploy.export.proof import BATCH, Exported, Left, Proof, prove
from sc_jax.deploy.export.segments import Segment
from sc_jax.deploy.server import tails
from sc_jax.errors import Missing
from sc_jax.evaluate.reports.report import COLLAPSED
from sc_jax.nets.net import INPUT, hops
from sc_jax.runs import run_folder
from sc_jax.train import devices
from sc_jax.train.log import LOGGER
from sc_jax.train.recipe import Recipe


def package(
    workdir: Path,
    out: Path,
    *,
    whole: bool = False,
    dtype: str = "float32",
    float_ops: tuple[str, ...] = FLOAT_OPS,
    float_stages: tuple[str, ...] = (),
    policy: str = "",
    thresholds: tuple[float, ...] | None = None,
    calibration: int = 256,
    max_drop_points: float = 1.0,
    max_more_bytes: float = 0.05,
) -> tuple[Bundle, Proof]:
    """Writes a bundle of the finished run under `workdir`; ExportError beyond a bound.

    Calibration and refitted tables see training images only, the proof test images.
    Each exit of the head ends a segment. policy: a spec, solved on what the segments
    answer to the validation split; thresholds: one an exit, of its largest probability;
    neither: local exits answer only where the server does not. float_ops: what an int8
    head leaves in float. whole: the net of a split run in one piece, without its split:
    local computing.
    """
    bundle.refuse_existing(out)
    trained = run_folder.recipe_of(workdir)
    recipe = _unsplit(trained) if whole else trained
    _check_splits(recipe)
    leaving = exit_policy.carried(recipe, workdir, policy, thresholds)
    made, segments = _converted(
        workdir, trained, recipe, calibration,
        dtype=dtype, float_ops=float_ops, float_stages=float_stages,
    )  # fmt: skip
    leaving, solved = _solved(policy, recipe, made, leaving)
    test = run_folder.dataset_of(recipe, "test")
    proof = prove(made, test, leaving.policy, leaving.cost)
    if made.codec and not proof.payload_bytes_jax:  # no share of it has a meaning
        raise ExportError(f"{recipe.name} has nothing to send: {COLLAPSED}")
    _check_bounds(proof, dtype, max_drop_points, max_more_bytes)
    facts = {
        "recipe": recipe.name,
        "setting": recipe.setting,
        "network": recipe.network,
        **solved,
        "cut": recipe.net.splits[0].after if made.codec else recipe.net.names[-1],
        "dtype": dtype,
        "float_ops": list(float_ops) if dtype == "int8" else [],
        "float_stages": list(float_stages),
        "input": list(test.shape),
        **_facts_of(segments, proof),
    }
    digest = tails.weights_digest(trained, workdir, made.variables)
    models = {name: each.model for name, each in segments.items()}
    written = store(
        workdir, out, models, made.refitted, split=0, labels=test.classes,
        model=tails.model_id(recipe.name, digest, made.refitted),
        task=recipe.task.name, facts=facts, **leaving._asdict(),
    )  # fmt: skip
    return written, proof


def _solved(
    policy: str, recipe: Recipe, made: Exported, leaving: Carried
) -> tuple[Carried, dict[str, Any]]:
    """`leaving` under the policy of a spec ("": as it is), and what the bundle says."""
    if not policy:
        return leaving, {}
    held = run_folder.dataset_of(recipe, "validation")
    found = exit_policy.solved(policy, made, held, leaving)
    said = {"spec": policy, "solved": asdict(found.expected)}
    return leaving._replace(policy=found.policy), {"policy": said}


def _check_bounds(
    proof: Proof, dtype: str, max_drop_points: float, max_more_bytes: float
) -> None:
    """ExportError where the exported head loses more than is allowed."""
    if proof.drop_points > max_drop_points or proof.more_bytes > max_more_bytes:
        raise ExportError(
            f"the {dtype} head loses {proof.drop_points:.2f} points (allowed "
            f"{max_drop_points}) at {100 * proof.more_bytes:+.1f} % bytes (allowed "
            f"{100 * max_more_bytes:+.1f} %); keep operations in float or widen a bound"
        )


def _unsplit(recipe: Recipe) -> Recipe:
    return replace(recipe, net=replace(recipe.net, splits=()))


def _check_splits(recipe: Recipe) -> None:
    """ExportError where there is no head between the image and one or two splits."""
    splits = hops(recipe.net)
    if splits and splits[0].after == INPUT:
        raise ExportError(
            f"{recipe.name} sends the image itself, so that a device has nothing to "
            "run: encode with sc_jax.load(folder).encode, serve with launch.serve"
        )


def _converted(
    workdir: Path, trained: Recipe, recipe: Recipe, calibration: int, **options: Any
) -> tuple[Exported, dict[str, Segment]]:
    """The head's segments, and tables refitted to what they give; training images."""
    variables, saved = run_folder.restore(trained, workdir)
    splits = recipe.net.splits
    codec = saved[splits[0].name] if splits else None
    seen, training = _examples(recipe, options["dtype"])
    some = np.random.default_rng(0).permutation(len(seen))[:calibration]
    chosen = seen.take(np.sort(some))
    images = next(pipeline.evaluation_batches(chosen, len(chosen)))[0]
    segments = chain(recipe.net, variables, codec, images, **options)
    run_all = runner(segments)
    # What a head gives is not quite what the prior expects. Mixed: folders come sorted
    # by class, and a codec may read only some.
    mixed = seen.take(np.random.default_rng(1).permutation(len(seen)))
    refitted = codec.refit(_outputs(run_all, mixed)) if codec and training else codec
    others = {split.name: saved[split.name] for split in splits[1:]}
    return Exported(recipe, variables, codec, refitted, run_all, others), segments


def _examples(recipe: Recipe, dtype: str) -> tuple[Dataset, bool]:
    """(what a head is compared on, whether those are training images).

    Where training images are gone, test images, and the run's own tables stay; only an
    int8 head, which is calibrated, cannot do without.
    """
    try:
        return run_folder.dataset_of(recipe, "train"), True
    except Missing as error:
        if dtype == "int8":
            raise
        LOGGER.warning("%s: the tables are the run's, not refitted to the head", error)
        return run_folder.dataset_of(recipe, "test"), False


def _outputs(run_all, seen: Dataset):
    for images, _, count in pipeline.evaluation_batches(seen, BATCH):
        outputs = run_all(np.asarray(images))
        yield {name: value[:count] for name, value in outputs.items()}


def _facts_of(segments: Mapping[str, Segment], proof: Proof) -> dict[str, Any]:
    """What a manifest says of segments, of the proof, and of what made them."""
    each = {
        name: {
            "inputs": list(segment.signature.inputs),
            "outputs": list(segment.signature.outputs),
            "parity": asdict(segment.parity),
        }
        for name, segment in segments.items()
    }
    libraries = "jax", "litert-converter", "ai-edge-litert"
    versions = {name: version(name) for name in libraries}
    return {"segments": each, "proof": asdict(proof), "versions": versions}


def store(
    workdir: Path,
    out: Path,
    segments: Mapping[str, bytes],
    codec: codecs.Codec | None,
    **manifest: Any,
) -> Bundle:
    """`bundle.write`, and then the tables where the server of the run finds them."""
    written = bundle.write(out, segments, codec, **manifest)
    if codec is not None:
        own = written.manifest
        decision = {name: own[name] for name in ("policy", "exits", "cost")}
        bundle.register(workdir, own["model"], codec, decision)
    return written


def sentences(made: Bundle, proof: Proof) -> list[str]:
    """The bundle's parts, how near its segments are to JAX, and what it reaches."""
    facts = made.manifest["facts"]
    parts = made.manifest["parts"].items()
    lines = [f"{name:14} {part['bytes']:>9,} bytes" for name, part in parts]
    lines.append(f"model {made.manifest['model']}")
    for name, segment in facts["segments"].items():
        parity = segment["parity"]
        lines.append(
            f"{name}: {parity['different']} of {parity['symbols']:,} numbers differ "
            f"from JAX, {parity['ties']} of them ties, over {parity['examples']} images"
        )
    for name, (own, exact) in proof.exits.items():
        lines.append(
            f"{name}: {proof.metric} {100 * own:.2f} % (JAX {100 * exact:.2f}) over all"
        )
    if proof.leaving is not None:
        lines.append(_leaving(proof, proof.leaving))
    exact = f"(JAX {100 * proof.quality_jax:.2f})"
    end = f"{proof.split}: {proof.metric} {100 * proof.quality:.2f} % {exact}"
    if made.codec is None:
        return [*lines, f"{end}; the whole net is on the device: nothing is sent"]
    before = f"before refitting {proof.payload_bytes_before_refit:.2f}"
    jax_bytes = f"JAX {proof.payload_bytes_jax:.2f}; {before}"
    return [*lines, f"{end}, {proof.payload_bytes:.2f} bytes ({jax_bytes})"]


def _leaving(proof: Proof, left: Left) -> str:
    """What the policy gives, as one line."""
    shares = ", ".join(f"{n} {100 * share:.1f} %" for n, share in left.shares.items())
    onward = left.forwarded_bytes
    hop = "" if onward is None else f" to the edge, {onward:.2f} to the cloud"
    return (
        f"leaving by the policy: {proof.metric} {100 * left.quality:.2f} %, "
        f"{100 * left.cost_share:.1f} % of the MACs, {left.payload_bytes:.2f} bytes"
        f"{hop}; {shares}"
    )


def export(
    workdir: Path, out: str | None, tail_file: str | None, options: dict
) -> list[str]:
    """The bundle of a run as folder `out`, its tails as one file; lines that say so."""
    devices.start(multihost=False)
    # Before minutes of exporting and proving.
    writing.check(out, tail_file)
    lines = []
    if out:
        lines += sentences(*package(workdir, Path(out), **options))
    if tail_file:
        packed = tails.pack(workdir, Path(tail_file))
        size = Path(tail_file).stat().st_size
        lines.append(
            f"{tail_file}: {size:,} bytes, for {', '.join(packed['platforms'])}"
        )
        lines.append(f"models {', '.join(packed['models'])}")
    return lines
