"""Deployments at one image size, with random weights: times and no accuracy."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.methods.deployments import Deployment, chain
from benchmarks.methods.trained_deployments import framed, on_device
from launch import cli
from sc_jax.codec import codecs
from sc_jax.compressors import FactorizedPrior
from sc_jax.compressors.splits import codecs_of
from sc_jax.deploy.device.runtime import Runner
from sc_jax.deploy.export import segments
from sc_jax.deploy.wire import frame
from sc_jax.nets.backbones.registry import classifier_net
from sc_jax.nets.bottlenecks.pairs import PAIRS
from sc_jax.nets.layers.blocks import Normalise
from sc_jax.nets.net import Net, SplitPoint, Stage
from sc_jax.nets.run import Variables, init

HEADS = {
    "fp": "published head",
    "patch": "patch head",
    "patch_relu": "patch head, ReLU",
}
WHOLE = {"mobilenetv2": "MobileNetV2 1.0", "resnet50": "ResNet-50"}
FILES = {
    **{f"JPEG q={q}": ("JPEG", {"quality": q}) for q in (50, 75, 95)},
    **{f"WebP q=75 m={m}": ("WEBP", {"quality": 75, "method": m}) for m in (0, 4, 6)},
}
CHANNELS = 24
PEER = Path(__file__).parents[1] / "peers" / "torch_encode.py"


def photographs(side: int, count: int = 8) -> np.ndarray:
    """uint8 [count, side, side, 3]: crops of the photograph that matplotlib ships."""
    from matplotlib import cbook

    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    photograph, crops = Image.open(path).convert("RGB"), []
    wide, high = photograph.size
    for i in range(count):
        # Crops from half of the photograph to all of it: files of many sizes.
        part = min(wide, high) * (count + i) // (2 * count)
        left, top = i * (wide - part) // count, i * (high - part) // count
        box = (left, top, left + part, top + part)
        crops.append(np.asarray(photograph.crop(box).resize((side, side))))
    return np.stack(crops)


def encoder(pair: str, images: np.ndarray) -> tuple[Net, Variables]:
    module, _ = PAIRS[pair](CHANNELS, 256, (2, 2), False)
    stages = (Stage("normalise", Normalise()), Stage("encoder", module))
    net = Net(stages, splits=(SplitPoint("encoder", FactorizedPrior()),))
    return net, init(net, jax.random.key(0), images[:1])


def heads(group: str, dtypes: list[str], images: np.ndarray) -> list[Deployment]:
    """LiteRT and the coder: image -> framed bytes."""
    deployments = []
    for pair, name in HEADS.items():
        net, variables = encoder(pair, images)
        codec: Any = codecs_of(net, variables, images[:1])["split@encoder"]
        for dtype in dtypes:
            print(f"exporting {name}, {dtype}", flush=True)
            segment = segments.head_segment(
                net, variables, "encoder", codec, images, dtype=dtype
            )
            steps = {
                "head": on_device(Runner(segment.model)),
                "code": lambda parts, codec=codec: framed(codec, codec.pack(**parts)),
            }
            deployments.append(Deployment(group, name, dtype, chain(images, steps)))
    return deployments


def wholes(group: str, dtypes: list[str], images: np.ndarray) -> list[Deployment]:
    """Backbones of 1,000 classes that never send anything."""
    deployments = []
    for name, title in WHOLE.items():
        print(f"exporting {title}", flush=True)
        net = classifier_net(name, 1000)
        variables = init(net, jax.random.key(0), images[:1])
        for dtype in dtypes:
            found = segments.segment(
                net, variables, images[:2], stop=net.names[-1], dtype=dtype
            )
            once = chain(images, {"whole": on_device(Runner(found.model))})
            deployments.append(
                Deployment(group, f"{title}, local", dtype, once, None, 0.0)
            )
    return deployments


def files(group: str, images: np.ndarray) -> list[Deployment]:
    """Image files as Pillow writes them by default, with their bytes."""
    deployments = []
    for name, (kind, options) in FILES.items():

        def write(image, kind=kind, options=options) -> bytes:
            out = io.BytesIO()
            Image.fromarray(image).save(out, kind, **options)
            return out.getvalue()

        on_wire = codecs.ImageCodec.id
        frames = [frame.pack(on_wire, 0, i.shape, write(i)) for i in images]
        sent = float(np.mean([len(data) for data in frames]))
        deployments.append(
            Deployment(group, name, "", chain(images, {"code": write}), None, sent)
        )
    return deployments


class Peer:
    """The published encoder in another interpreter: an image a line, over pipes."""

    def __init__(self, python: str, folder: Path, images: np.ndarray):
        net, variables = encoder("fp", images)
        case = folder / "case.npz"
        arrays: dict[str, Any] = peer_case(variables, images)
        np.savez(case, **arrays)
        alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen(
                [python, str(PEER), str(case)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **alone},
            )
        except OSError as error:
            raise cli.UsageError(f"--peer_python={python}: {error.strerror}") from None
        answer = self._line()
        self.versions: dict[str, str] = answer["versions"]
        codec = codecs_of(net, variables, images[:1])["split@encoder"]
        ours = segments.head_segment(net, variables, "encoder", codec, images[:1])
        mine = Runner(ours.model)(images[:1])["symbols"][0]
        self.different = float((np.array(answer["symbols"]) != mine).mean())
        self.sent_bytes: list[int] = []

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise cli.UsageError("the peer ended: does it have torch and compressai?")
        return json.loads(line)

    def once(self, number: int) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        answer = self._line()
        self.sent_bytes.append(answer["bytes"])
        return answer["seconds"]

    def facts(self) -> dict[str, Any]:
        """Versions, mean bytes, and the share of symbols that differ from ours."""
        sent = float(np.mean(self.sent_bytes))
        versions = self.versions
        return {"versions": versions, "bytes": sent, "different": self.different}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def peer_case(variables: Variables, images: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of the published encoder, and images normalised as our head does it.

    The peer is not charged for normalising; our head is.
    """
    own: Any = jax.device_get(variables.params["encoder"])
    case = {f"kernel{i}": np.asarray(own[f"Conv_{i}"]["kernel"]) for i in range(3)}
    for i in range(2):
        for name in ("beta", "gamma"):
            # GDN stores roots: it uses their squares less the pedestal.
            raw = np.asarray(own[f"GDN1_{i}"][name], np.float32)
            case[f"{name}{i}"] = raw**2 - np.float32(2.0**-36)
    case["images"] = (images / 255 - 0.5).astype(np.float32) / np.float32(0.25)
    return case
