"""The Entropic Student's first stage in plain PyTorch, as a speed comparison.

Optional peer, written from the paper (Matsubara et al. 2022) and the published layer
table; needs only torch. One step: frozen ResNet-50 teacher to layer4, student encoder,
noise, factorised prior, decoder and frozen layer2..layer4, four summed squared errors,
bits, Adam. Prints JSON.

    python benchmarks/peers/torch_stage1.py --side 224 --batch 16 --channels_last
"""

# pyright: reportMissingImports=false

import argparse
import json
import math
import statistics
import time
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

PEDESTAL = 2.0**-36


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3 (strided), 1x1 to 4 x width, around a shortcut."""

    def __init__(self, cin: int, width: int, stride: int):
        super().__init__()
        cout = 4 * width
        self.body = nn.Sequential(
            *(
                nn.Conv2d(cin, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(True),
            ),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            *(nn.BatchNorm2d(width), nn.ReLU(True)),
            *(nn.Conv2d(width, cout, 1, bias=False), nn.BatchNorm2d(cout)),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or cin != cout:
            project = nn.Conv2d(cin, cout, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(cout))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def resnet50() -> nn.ModuleDict:
    """stem, layer1..layer4 of the ImageNet form."""
    stem = nn.Sequential(
        *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)),
        nn.MaxPool2d(3, 2, 1),
    )
    groups, cin = {"stem": stem}, 64
    for group, (count, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512)), 1):
        blocks = []
        for i in range(count):
            blocks.append(Bottleneck(cin, width, 2 if i == 0 and group > 1 else 1))
            cin = 4 * width
        groups[f"layer{group}"] = nn.Sequential(*blocks)
    return nn.ModuleDict(groups)


class Bound(torch.autograd.Function):
    """max(x, bound) whose gradient passes where a step would raise x."""

    @staticmethod
    def forward(ctx, x, bound):
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        return grads[0] * ((x >= ctx.bound) | (grads[0] < 0)), None


class GDN1(nn.Module):
    """x / (beta + gamma |x|), or the product when inverse."""

    def __init__(self, channels: int, inverse: bool = False):
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter((torch.ones(channels) + PEDESTAL).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(channels) + PEDESTAL).sqrt())

    def forward(self, x):
        beta = Bound.apply(self.beta, (1e-6 + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
        gamma = Bound.apply(self.gamma, PEDESTAL**0.5) ** 2 - PEDESTAL
        pool = F.conv2d(x.abs(), gamma[:, :, None, None], beta)
        return x * pool if self.inverse else x / pool


class Prior(nn.Module):
    """Factorised prior, 61 - 3 trained parameters a channel; bits of a noisy latent."""

    def __init__(self, channels: int):
        super().__init__()
        widths = (1, 3, 3, 3, 3, 1)
        self.h, self.b, self.a = (nn.ParameterList() for _ in range(3))
        for wide, high in pairwise(widths):
            fill = math.log(math.expm1(1 / 10 ** (1 / 5) / high))
            self.h.append(nn.Parameter(torch.full((channels, high, wide), fill)))
            self.b.append(nn.Parameter(torch.rand(channels, high, 1) - 0.5))
            self.a.append(nn.Parameter(torch.zeros(channels, high, 1)))

    def cumulative(self, v):
        for k in range(5):
            v = F.softplus(self.h[k]) @ v + self.b[k]
            if k < 4:
                v = v + torch.tanh(self.a[k]) * torch.tanh(v)
        return v

    def forward(self, z):
        z = z + torch.empty_like(z).uniform_(-0.5, 0.5)
        v = z.transpose(0, 1).reshape(z.shape[1], 1, -1)
        low, high = self.cumulative(v - 0.5), self.cumulative(v + 0.5)
        mass = Bound.apply(torch.sigmoid(high) - torch.sigmoid(low), 1e-9)
        return z, -torch.log2(mass).sum()


class Student(nn.Module):
    """Published encoder (3-96-48-24) and decoder (24-512-256-256) around the prior."""

    def __init__(self, b: int = 24, t: int = 256):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, 4 * b, 5, 2, 2, bias=False), GDN1(4 * b)),
            *(nn.Conv2d(4 * b, 2 * b, 5, 2, 2, bias=False), GDN1(2 * b)),
            nn.Conv2d(2 * b, b, 2, bias=False),
        )
        self.prior = Prior(b)
        self.decoder = nn.Sequential(
            *(nn.Conv2d(b, 2 * t, 2, 1, 1, bias=False), GDN1(2 * t, True)),
            *(nn.Conv2d(2 * t, t, 2, bias=False), GDN1(t, True)),
            nn.Conv2d(t, t, 2, 1, 1, bias=False),
        )

    def forward(self, x):
        z, bits = self.prior(self.encoder(x))
        return self.decoder(z), bits


def step(base, student, optimiser, x, beta):
    """One update; returns the summed loss."""
    with torch.no_grad():
        y, targets = base["stem"](x), []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            y = base[name](y)
            targets.append(y)
    y, bits = student(x)
    loss = beta * bits + F.mse_loss(y, targets[0], reduction="sum")
    for name, target in zip(("layer2", "layer3", "layer4"), targets[1:]):
        y = base[name](y)
        loss = loss + F.mse_loss(y, target, reduction="sum")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels_last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    base, student = resnet50().eval().requires_grad_(False), Student()
    x = torch.randn(args.batch, 3, args.side, args.side)
    if args.channels_last:
        for item in (base, student):
            item.to(memory_format=torch.channels_last)  # pyright: ignore
        x = x.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(student.parameters(), 1e-3)
    step(base, student, optimiser, x, 0.08)
    cpu, wall = [], []
    for _ in range(args.steps):
        start = time.process_time(), time.perf_counter()
        step(base, student, optimiser, x, 0.08)
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    out = {"torch": torch.__version__, "seed": 0, **vars(args)}
    out["cpu_s_per_step"], out["wall_s_per_step"] = map(statistics.median, (cpu, wall))
    out["examples_per_cpu_s"] = args.batch / out["cpu_s_per_step"]
    out["examples_per_s"] = args.batch / out["wall_s_per_step"]
    print(
        json.dumps(
            {k: round(v, 3) if isinstance(v, float) else v for k, v in out.items()}
        )
    )


if __name__ == "__main__":
    main()
