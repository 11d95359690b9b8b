"""The published encoder in plain PyTorch with CompressAI's coder, one image a line.

Optional peer, written from the published layer table (Matsubara et al. 2022); needs
torch and compressai. For each line on stdin, an image's number, it encodes that image
and answers with one line of JSON: seconds of the head and of the coder, and the bytes.
Weights and normalised images come from an npz: both sides compute the same latents.

    python benchmarks/peers/torch_encode.py case.npz
"""

# pyright: reportMissingImports=false

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")
import compressai  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from compressai.entropy_models import EntropyBottleneck  # noqa: E402
from torch import nn  # noqa: E402


class GDN1(nn.Module):
    """x / (beta + gamma |x|), gamma a full map."""

    def __init__(self, beta: torch.Tensor, gamma: torch.Tensor):
        super().__init__()
        self.register_buffer("beta", beta)
        self.register_buffer("gamma", gamma[:, :, None, None].contiguous())

    def forward(self, x):
        return x / F.conv2d(x.abs(), self.gamma, self.beta)


def conv(kernel: np.ndarray, stride: int, padding: int) -> nn.Conv2d:
    """kernel [h, w, in, out] -> a convolution without bias."""
    height, _, before, after = kernel.shape
    convolution = nn.Conv2d(before, after, height, stride, padding, bias=False)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    convolution.weight.data = weight
    return convolution


def main():
    torch.set_num_threads(1)
    case = dict(np.load(sys.argv[1]))
    t = {name: torch.from_numpy(array) for name, array in case.items()}
    encoder = nn.Sequential(
        conv(case["kernel0"], 2, 2),
        GDN1(t["beta0"], t["gamma0"]),
        conv(case["kernel1"], 2, 2),
        GDN1(t["beta1"], t["gamma1"]),
        conv(case["kernel2"], 1, 0),
    ).eval()
    bottleneck = EntropyBottleneck(case["kernel2"].shape[-1]).eval()
    bottleneck.update(force=True)
    images = t["images"].permute(0, 3, 1, 2).contiguous()
    versions = {"torch": torch.__version__, "compressai": compressai.__version__}
    with torch.inference_mode():
        symbols = torch.round(encoder(images[:1]))[0].permute(1, 2, 0)
        facts = {"versions": versions, "symbols": symbols.int().numpy().tolist()}
        print(json.dumps(facts), flush=True)
        for line in sys.stdin:
            image = images[int(line) % len(images)][None]
            begun = time.perf_counter()
            latent = encoder(image)
            ran = time.perf_counter()
            (data,) = bottleneck.compress(latent)
            done = time.perf_counter()
            taken = {"head": ran - begun, "code": done - ran}
            print(json.dumps({"seconds": taken, "bytes": len(data)}), flush=True)


if __name__ == "__main__":
    main()
