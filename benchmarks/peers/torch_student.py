"""The Entropic Student from the field's public code, trained and coded in PyTorch.

Optional peer: sc2bench's FPBasedResNetBottleneck with CompressAI's EntropyBottleneck
and range coder (Matsubara et al. 2022, https://arxiv.org/abs/2108.11898), on a CIFAR
ResNet whose weights, like images and settings, come from an npz. The class is for
ResNet-50 at 224 pixels; here the strides are the run's, 2 and 1 for a 32-pixel image.
Its published configuration is written out below: hints at the decoder and later groups
+ beta bits with the coder's auxiliary loss; then encoder and prior are frozen, tables
made, and decoder and later groups distilled. Unlike there a frozen group keeps its
batch statistics in stage 1. Batches are the run's own, in its order; crops and noise
are drawn anew. Progress goes to stderr; stdout has a line of JSON with facts, then one
for each beta.

    python benchmarks/peers/torch_student.py case.npz
"""

# pyright: reportMissingImports=false

import copy
import itertools
import json
import math
import sys
import time
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from sc2bench.models.layer import FPBasedResNetBottleneck  # noqa: E402
from torch import nn  # noqa: E402

CLOSE, SHOWN = 1e-3, 40  # difference of logits; lines of progress a stage


class ConvNorm(nn.Sequential):
    """A convolution and its batch norm, from the arrays below `name`."""

    def __init__(self, case: dict, name: str, stride: int = 1):
        kernel = case[f"params/{name}/Conv_0/kernel"].transpose(3, 2, 0, 1)
        after, before, side, _ = kernel.shape
        conv = nn.Conv2d(before, after, side, stride, side // 2, bias=False)
        norm = nn.BatchNorm2d(after)
        stage, _, rest = f"{name}/BatchNorm_0".partition("/")
        own, kept = f"params/{stage}/{rest}", f"state/{stage}/batch_stats/{rest}"
        for target, array in (
            (conv.weight, kernel),
            (norm.weight, case[f"{own}/scale"]),
            (norm.bias, case[f"{own}/bias"]),
            (norm.running_mean, case[f"{kept}/mean"]),
            (norm.running_var, case[f"{kept}/var"]),
        ):
            assert target is not None
            target.data.copy_(torch.from_numpy(array.copy()))
        super().__init__(conv, norm)


class Block(nn.Module):
    """Two 3x3 convolutions around an identity, or a strided 1x1 projection."""

    def __init__(self, case: dict, name: str, stride: int):
        super().__init__()
        self.first = ConvNorm(case, f"{name}/ConvNorm_0", stride)
        self.second = ConvNorm(case, f"{name}/ConvNorm_1")
        self.shortcut = nn.Sequential()
        if f"params/{name}/ConvNorm_2/Conv_0/kernel" in case:
            self.shortcut = ConvNorm(case, f"{name}/ConvNorm_2", stride)

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.shortcut(x))


def resnet(case: dict) -> nn.ModuleDict:
    """stem, layer1, layer2, layer3 and answer, of the CIFAR form."""
    groups: dict[str, nn.Module] = {}
    groups["stem"] = nn.Sequential(ConvNorm(case, "stem"), nn.ReLU())
    for group in ("layer1", "layer2", "layer3"):
        blocks = []
        while f"params/{group}.{len(blocks)}/ConvNorm_0/Conv_0/kernel" in case:
            stride = 2 if group != "layer1" and not blocks else 1
            blocks.append(Block(case, f"{group}.{len(blocks)}", stride))
        groups[group] = nn.Sequential(*blocks)
    kernel, bias = (case[f"params/fc/Dense_0/{part}"] for part in ("kernel", "bias"))
    linear = nn.Linear(*kernel.shape)
    linear.weight.data = torch.from_numpy(kernel.T.copy())
    linear.bias.data = torch.from_numpy(bias.copy())
    groups["answer"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return nn.ModuleDict(groups).eval().requires_grad_(False)


class Student:
    """Bottleneck and its teacher's later groups; `settings` say how they are trained.

    settings: over ("sum" or "mean" over a hint's features), logits and alpha (weights),
    stages (optimisers), cut, later (groups), channels, target, strides, ...
    """

    def __init__(self, teacher: nn.ModuleDict, settings: dict):
        self.teacher, self.settings = teacher, settings
        self.bottleneck = FPBasedResNetBottleneck(
            num_bottleneck_channels=settings["channels"],
            num_target_channels=settings["target"],
        )
        for place, stride in zip((0, 2), settings["strides"]):
            self.bottleneck.encoder[place].stride = (stride, stride)
        later = (*settings["later"], "answer")
        self.tail = nn.ModuleDict({n: copy.deepcopy(teacher[n]) for n in later})

    def hints(self, x: torch.Tensor, beta: float):
        """(loss summed over the batch, bits an image) of stage 1."""
        settings, square = self.settings, self._square
        with torch.no_grad():
            wanted, target = {}, x
            for name, group in self.teacher.items():
                target = wanted[name] = group(target)
        z, likelihoods = self.bottleneck.entropy_bottleneck(self.bottleneck.encoder(x))
        bits = -likelihoods.log2().sum()
        y = self.bottleneck.decoder(z)
        loss = beta * bits + square(y, wanted[settings["cut"]])
        for name in settings["later"]:
            y = self.tail[name](y)
            loss = loss + square(y, wanted[name])
        if settings["logits"]:
            answers = self.tail["answer"](y), wanted["answer"]
            loss = loss + settings["logits"] * divergence(*answers, "sum")
        return loss, bits.item() / len(x)

    def _square(self, a, b):
        """Summed over the batch; over an example's features as the settings say."""
        loss = F.mse_loss(a, b, reduction="sum")
        return loss if self.settings["over"] == "sum" else loss / a[0].numel()

    def distilled(self, x: torch.Tensor, labels: torch.Tensor):
        """(mean loss, accuracy) of stage 2: on latents as the decoder will get them."""
        prior, alpha = self.bottleneck.entropy_bottleneck, self.settings["alpha"]
        with torch.no_grad():
            latent = self.bottleneck.encoder(x)
            latent = prior.quantize(
                latent, "dequantize", prior._get_medians().view(1, -1, 1, 1)
            )
            target = x
            for group in self.teacher.values():
                target = group(target)
        answer = self.answers(latent)
        loss = (1 - alpha) * divergence(answer, target, "batchmean")
        if alpha:
            loss = loss + alpha * F.cross_entropy(answer, labels)
        return loss, (answer.argmax(1) == labels).float().mean().item()

    def answers(self, latent: torch.Tensor) -> torch.Tensor:
        y = self.bottleneck.decoder(latent)
        for group in self.tail.values():
            y = group(y)
        return y


def divergence(answer, target, reduction: str):
    """KL(teacher || student), temperature 1."""
    logs = answer.log_softmax(1), target.log_softmax(1)
    return F.kl_div(*logs, reduction=reduction, log_target=True)


def normalised(images: np.ndarray, settings: dict) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W], channels last in memory."""
    mean, std = (np.asarray(settings[name], np.float32) for name in ("mean", "std"))
    x = images.astype(np.float32) * (1 / (255 * std)) - mean / std
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def augmented(images: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Crops from a black border of an eighth, and flips; as sc_jax.data.augment."""
    if kind == "none":
        return images
    count, height, width, _ = images.shape
    pad = max(1, min(height, width) // 8) if kind == "crop_flip" else 0
    top, left = rng.integers(2 * pad + 1, size=(2, count, 1))
    images = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = top + np.arange(height), left + np.arange(width)
    columns = np.where(rng.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    return images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None]]


def batches(case: dict, settings: dict, first: int = 0):
    """Endless (x, labels) from epoch `first`: the run's permutation of every epoch."""
    size, seed = settings["batch_size"], settings["seed"]
    rng = np.random.default_rng([seed, first, 1] if first else seed)
    images, labels = case["images"], torch.from_numpy(case["labels"].astype(np.int64))
    for epoch in itertools.count(first):
        order = np.random.default_rng([seed, epoch])
        order = order.permutation(len(images))
        for start in range(0, len(images) - size + 1, size):
            rows = order[start : start + size]
            some = augmented(images[rows], settings["augment"], rng)
            yield normalised(some, settings), labels[rows]


def optimised(parameters, loss_of, stream, rates: np.ndarray, kind: dict, title: str):
    """Takes len(rates) steps; loss_of: batch -> (loss, a figure to show).

    Returns images a second, of wall time and of the CPU time of all threads.
    """
    if kind["name"] == "adam":
        optimiser = torch.optim.Adam(parameters)
    elif kind["name"] == "sgd":
        more = {"nesterov": kind["nesterov"], "weight_decay": kind["weight_decay"]}
        optimiser = torch.optim.SGD(parameters, 1e-3, 0.9, **more)
    else:
        raise SystemExit(f"the peer has adam and sgd, not {kind['name']}")
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    begun = {name: clock() for name, clock in clocks.items()}
    seen, every = 0, max(1, len(rates) // SHOWN)
    for step, rate in enumerate(rates.tolist(), 1):
        optimiser.param_groups[0]["lr"] = rate
        batch = next(stream)
        optimiser.zero_grad(set_to_none=True)
        loss, figure = loss_of(*batch)
        loss.backward()
        optimiser.step()
        seen += len(batch[0])
        if step % every == 0 or step == len(rates):
            value, speed = loss.item(), seen / (time.perf_counter() - begun["wall"])
            left = (len(rates) - step) * len(batch[0]) / speed
            print(
                f"{title}: step {step}/{len(rates)}, loss {value:.5g}, {figure:.4g}, "
                f"{speed:.0f} images/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            if not math.isfinite(value):
                raise SystemExit(f"{title}: the loss is {value}")
    return {name: seen / (clock() - begun[name]) for name, clock in clocks.items()}


def trained(student: Student, case: dict, settings: dict, beta: float) -> dict:
    """Both stages; images a second of each. Figures shown: bits an image, accuracy."""
    stream, bottleneck = batches(case, settings), student.bottleneck
    title = f"{settings['name']} beta={beta:g}"

    def first(x, _):
        loss, bits = student.hints(x, beta)
        return loss + bottleneck.aux_loss(), bits

    kinds, speeds = settings["stages"], {}
    bottleneck.train()
    said = (kinds[0], f"{title} stage1")
    speeds["stage1"] = optimised(
        list(bottleneck.parameters()), first, stream, case["rates1"], *said
    )
    bottleneck.eval().requires_grad_(False)
    bottleneck.update(force=True)
    for part in (bottleneck.decoder, student.tail):
        part.train().requires_grad_(True)
    parameters = [*bottleneck.decoder.parameters(), *student.tail.parameters()]
    said = (kinds[1], f"{title} stage2")
    speeds["stage2"] = optimised(
        parameters, student.distilled, stream, case["rates2"], *said
    )
    for part in (bottleneck, student.tail):
        part.eval()
    return speeds


@torch.inference_mode()
def measured(student: Student, case: dict, settings: dict) -> dict:
    """Bytes and top-1 of the test images, each encoded and decoded by itself."""
    bottleneck, sizes, right, bits = student.bottleneck, [], 0, 0.0
    prior, labels = bottleneck.entropy_bottleneck, case["test_labels"]
    for start in range(0, len(labels), 100):
        x = normalised(case["test_images"][start : start + 100], settings)
        latents = []
        for image in x:
            sent = bottleneck.encode(image[None])
            strings = sent["strings"][0]
            sizes.append(len(strings[0]))
            latents.append(prior.decompress(strings, sent["shape"]))
        found = student.answers(torch.cat(latents)).argmax(1).numpy()
        right += int((found == labels[start : start + 100]).sum())
        likelihoods = prior(bottleneck.encoder(x), training=False)[1]
        bits -= likelihoods.log2().sum().item()
    return {
        "top1": right / len(labels),
        "bytes": float(np.mean(sizes)),
        "bytes_p95": float(np.percentile(sizes, 95)),
        "estimated_bits": bits / len(labels),
        "examples": len(labels),
    }


@torch.inference_mode()
def facts(teacher: nn.ModuleDict, case: dict, settings: dict) -> dict:
    """Versions, and the teacher's top-1; ends where its logits are not the run's."""

    def answers(images):
        x = normalised(images, settings)
        for group in teacher.values():
            x = group(x)
        return x.numpy()

    count = len(case["logits"])
    off = float(np.abs(answers(case["test_images"][:count]) - case["logits"]).max())
    if not off < CLOSE:
        raise SystemExit(f"the teacher's logits differ by {off}: other weights")
    images, labels = case["test_images"], case["test_labels"]
    parts = [answers(images[i : i + 200]).argmax(1) for i in range(0, len(images), 200)]
    right = float((np.concatenate(parts) == labels).mean())
    versions = {name: version(name) for name in ("torch", "compressai", "sc2bench")}
    return {
        "versions": versions,
        "threads": torch.get_num_threads(),
        "teacher_top1": right,
        "logits_off": off,
    }


def main():
    case = dict(np.load(sys.argv[1]))
    settings = json.loads(str(case["settings"]))
    torch.set_num_threads(settings["threads"])
    # Channels last: a step takes 0.7 of the time (one core, torch 2.14.1).
    teacher = resnet(case).to(memory_format=torch.channels_last)  # pyright: ignore
    print(json.dumps(facts(teacher, case, settings)), flush=True)
    for beta in settings["betas"]:
        torch.manual_seed(settings["seed"])
        student = Student(teacher, settings)
        student.bottleneck.to(memory_format=torch.channels_last)
        speeds = trained(student, case, settings, beta)
        row = {"beta": beta, **measured(student, case, settings)}
        print(json.dumps({**row, "images_per_s": speeds}), flush=True)


if __name__ == "__main__":
    main()
