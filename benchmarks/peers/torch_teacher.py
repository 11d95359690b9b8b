"""A CIFAR ResNet trained in PyTorch, whose file `pretrained=` reads.

Optional peer, as torch_student.py beside it, and of its parts: on CPUs these narrow
convolutions train faster there than through XLA. Weights to start from,
images and settings come from an npz (benchmarks.methods.peer_teacher). One-cycle
learning rate (Smith & Topin 2018, https://arxiv.org/abs/1708.07120): linear up to
`learning_rate` at `warmup` of the steps, linear down to zero; SGD with Nesterov
momentum, weight decay on all parameters. After every epoch the state is kept beside the
file, from where the same command goes on. Progress goes to stderr, facts to stdout.

    python benchmarks/peers/torch_teacher.py case.npz resnet20.pth
"""

# pyright: reportMissingImports=false

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_student as peer
from torch import nn


def rate(step: int, steps: int, settings: dict) -> float:
    """Learning rate of step 0, 1, ..., steps - 1."""
    rise = settings["warmup"] * steps
    share = step / rise if step < rise else (steps - step) / (steps - rise)
    return settings["learning_rate"] * share


def top1(net: nn.ModuleDict, images, labels, settings: dict) -> float:
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), 200):
            some = peer.normalised(images[start : start + 200], settings)
            found = forward(net, some).argmax(1).numpy()
            right += int((found == labels[start : start + 200]).sum())
    return right / len(images)


def forward(net: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    for group in net.values():
        x = group(x)
    return x


def public_names(net: nn.ModuleDict) -> dict[str, torch.Tensor]:
    """The net's tensors by the names of the field's public CIFAR checkpoints."""
    found = {}
    for name, tensor in net.state_dict().items():
        for ours, public in (
            *(("stem.0.0", "conv1"), ("stem.0.1", "bn1"), ("answer.2", "fc")),
            *((f"first.{k}", f"{kind}1") for k, kind in enumerate(("conv", "bn"))),
            *((f"second.{k}", f"{kind}2") for k, kind in enumerate(("conv", "bn"))),
            ("shortcut", "downsample"),
        ):
            name = name.replace(ours, public)
        found[name] = tensor.clone(memory_format=torch.contiguous_format)
    return found


def trained(net: nn.ModuleDict, case: dict, settings: dict, file: Path) -> float:
    """Trains `net` in place; seconds, with those of calls that it goes on from."""
    kept = file.with_suffix(".partial")
    optimiser = torch.optim.SGD(
        net.parameters(), 0.1, 0.9, nesterov=True, weight_decay=settings["weight_decay"]
    )
    each = len(case["images"]) // settings["batch_size"]
    steps, done, before = each * settings["epochs"], 0, 0.0
    if kept.exists():
        state = torch.load(kept)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        done, before = state["epochs"], state["seconds"]
    stream = peer.batches(case, settings, done)
    begun = time.perf_counter()
    for epoch in range(done, settings["epochs"]):
        net.train()
        total, right = 0.0, 0
        for step in range(epoch * each, (epoch + 1) * each):
            optimiser.param_groups[0]["lr"] = rate(step, steps, settings)
            x, labels = next(stream)
            optimiser.zero_grad(set_to_none=True)
            answers = forward(net, x)
            loss = F.cross_entropy(
                answers, labels, label_smoothing=settings["smoothing"]
            )
            loss.backward()
            optimiser.step()
            total += loss.item()
            right += int((answers.argmax(1) == labels).sum())
        net.eval()
        held = top1(net, case["held_images"], case["held_labels"], settings)
        taken = time.perf_counter() - begun
        left = taken / (epoch + 1 - done) * (settings["epochs"] - epoch - 1)
        share = right / (each * settings["batch_size"])
        print(
            f"epoch {epoch + 1}/{settings['epochs']}: loss {total / each:.4f}, "
            f"training {share:.2%}, validation {held:.2%}, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
        if not np.isfinite(total):
            raise SystemExit(f"the loss is {total}: give a smaller learning_rate")
        state = {"net": net.state_dict(), "optimiser": optimiser.state_dict()}
        state |= {"epochs": epoch + 1, "seconds": before + taken}
        torch.save(state, kept.with_suffix(".writing"))
        os.replace(kept.with_suffix(".writing"), kept)
    return before + time.perf_counter() - begun


def main():
    case, file = dict(np.load(sys.argv[1])), Path(sys.argv[2])
    settings = json.loads(str(case["settings"]))
    torch.set_num_threads(settings["threads"])
    torch.set_flush_denormal(True)
    net = peer.resnet(case).to(memory_format=torch.channels_last)  # pyright: ignore
    found = {"start": peer.facts(net, case, settings)}
    net.requires_grad_(True)
    found["seconds"] = trained(net, case, settings, file)
    found["images"] = len(case["images"]) * settings["epochs"]
    for part in ("held", "test"):
        some = case[f"{part}_images"], case[f"{part}_labels"]
        found[f"{part}_top1"] = top1(net, *some, settings)
    torch.save(public_names(net), file)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
