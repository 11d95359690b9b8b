"""Writes golden_prior.json: likelihoods and tables of CompressAI's entropy bottleneck.

Run where torch and compressai import: python tests/peer/make_golden_prior.py
"""

import json
import sys
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("golden_prior.json")
CHANNELS = 3


def bottleneck(seed: int = 0):
    """(module with random parameters, our parameters of the same values)."""
    import torch
    from compressai.entropy_models import EntropyBottleneck

    rng = np.random.default_rng(seed)
    module = EntropyBottleneck(CHANNELS)
    module.eval()
    names, params = dict(module.named_parameters()), {}
    for k in range(5):
        kinds = [("matrices", "h", 0.3), ("biases", "b", 0.3), ("factors", "a", 0.5)]
        for theirs, ours, spread in kinds:
            name = f"{theirs}.{k}"  # compressai 1.2.7 and later
            if name not in names:
                continue
            value = names[name].data
            moved = value + torch.tensor(rng.normal(0, spread, value.shape)).float()
            names[name].data = moved
            array = moved.numpy()
            params[f"{ours}{k}"] = array if ours == "h" else array[..., 0]
    quantiles = np.array([[-9.3, 0.2, 8.1], [-3.0, -0.4, 4.6], [-14.2, 1.1, 17.0]])
    module.quantiles.data = torch.tensor(quantiles[:, None]).float()
    params["quantiles"] = quantiles.astype(np.float32)
    return module, params


def oracle(module, values: np.ndarray) -> np.ndarray:
    """CompressAI's own likelihoods of f32[N, C] without noise or rounding."""
    import torch

    with torch.no_grad():
        v = torch.tensor(values.T[:, None])  # [C, 1, N]
        raw = module._likelihood(v)
        raw = raw[0] if isinstance(raw, tuple) else raw
        return module.likelihood_lower_bound(raw)[:, 0].numpy().T


def tables(module) -> dict[str, np.ndarray]:
    module.update(force=True)
    return {
        "cdf": module._quantized_cdf.numpy(),
        "length": module._cdf_length.numpy(),
        "offset": module._offset.numpy(),
    }


def values() -> np.ndarray:
    grid = np.concatenate([np.linspace(-6, 6, 25), [-40.0, -11.5, 11.5, 40.0]])
    return np.repeat(grid[:, None], CHANNELS, 1).astype(np.float32)


def main():
    import compressai
    import torch

    module, params = bottleneck()
    golden = {
        "source": f"CompressAI {compressai.__version__}, torch {torch.__version__}",
        "params": {k: np.asarray(v).tolist() for k, v in params.items()},
        "values": values().tolist(),
        "likelihoods": oracle(module, values()).tolist(),
        "tables": {k: v.tolist() for k, v in tables(module).items()},
    }
    FILE.write_text(json.dumps(golden))
    print(FILE, golden["source"], file=sys.stderr)


if __name__ == "__main__":
    main()
