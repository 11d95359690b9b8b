"""Times entropy coders side by side on one latent, round-robin in one process.

    python -m benchmarks.speed.coder_speed --runs=60 --out=coder_speed.json

The latent is 24 x 55 x 55 Laplace integers, channels of unlike scale. Coders that are
not installed are left out; the Python reference runs once, being 50 times slower.
"""

import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

from sc_jax.codec import rans, reference
from sc_jax.codec.tables import Tables, bits, from_pmf

_RUNS = flags.DEFINE_integer("runs", 60, "timed rounds of every compiled coder")
_SEED = flags.DEFINE_integer("seed", 0, "seed of the latent")
_OUT = flags.DEFINE_string("out", None, "path of the JSON report")
_PLOT = flags.DEFINE_string("plot", None, "path of a bar chart")

CHANNELS, RUN, REACH = 24, 55 * 55, 60
RATES = {"high": 0.40, "low": 0.131}  # mean Laplace scale: 1.3 and 0.25 bit/symbol
Coder = tuple[Callable[[], object], Callable[[object], np.ndarray], Callable]


def latent(scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(symbols int32[24, 3025], pmf float64[24, 121] over -60 .. 60)."""
    scales = scale * np.exp(np.linspace(-0.7, 0.7, CHANNELS))[:, None]
    k = np.abs(np.arange(-REACH, REACH + 1))
    pmf = np.sinh(0.5 / scales) * np.exp(-k / scales)
    # The integral of a Laplace density over each integer's unit; zero's has two sides.
    pmf[:, REACH] = 1 - np.exp(-0.5 / scales[:, 0])
    noise = np.random.default_rng(seed).laplace(size=(CHANNELS, RUN))
    symbols = np.clip(np.rint(noise * scales), -REACH, REACH)
    return symbols.astype(np.int32), pmf / pmf.sum(1, keepdims=True)


def constriction_coder(symbols: np.ndarray, pmf: np.ndarray) -> Coder | None:
    """ANS, one call per channel, models built beforehand."""
    try:
        stream = importlib.import_module("constriction").stream
    except ImportError:
        return None
    ans, shifted = stream.stack.AnsCoder, symbols + REACH
    models = [stream.model.Categorical(p, perfect=False) for p in pmf]

    def encode():
        coder = ans()
        # ANS is a stack: what is pushed last comes out first.
        for row, model in zip(shifted[::-1], models[::-1]):
            coder.encode_reverse(row, model)
        return coder.get_compressed()

    def decode(data):
        coder = ans(data)
        return np.stack([coder.decode(model, RUN) for model in models]) - REACH

    return encode, decode, lambda data: 4 * len(data)


def compressai_coder(symbols: np.ndarray, tables: Tables) -> Coder | None:
    """The public compress and decompress of EntropyBottleneck, with our tables."""
    try:
        torch = importlib.import_module("torch")
        bottleneck = importlib.import_module("compressai.entropy_models")
    except ImportError:
        return None
    torch.set_num_threads(1)
    model = bottleneck.EntropyBottleneck(CHANNELS).eval()
    # Our tables in its private fields: all coders then code the same model.
    model._quantized_cdf = torch.from_numpy(tables.cdf.astype(np.int32))
    model._cdf_length = torch.from_numpy(tables.length + 1)
    model._offset = torch.from_numpy(tables.offset.copy())
    z = torch.from_numpy(symbols.reshape(1, CHANNELS, 55, 55).astype(np.float32))

    def decode(data):
        return model.decompress(data, (55, 55)).numpy().reshape(CHANNELS, RUN)

    return lambda: model.compress(z), decode, lambda data: len(data[0])


def coders(symbols: np.ndarray, pmf: np.ndarray, tables: Tables) -> dict[str, Coder]:
    flat = symbols.reshape(-1)

    def ours(module) -> Coder:
        def decode(data):
            return module.decode(data, flat.size, tables, None).reshape(CHANNELS, RUN)

        return lambda: module.encode(flat, tables, None), decode, len

    found = {
        "sc_jax C": ours(rans) if rans.backend() == "c" else None,
        "sc_jax Python": ours(reference),
        "constriction ANS": constriction_coder(symbols, pmf),
        "CompressAI": compressai_coder(symbols, tables),
    }
    return {name: coder for name, coder in found.items() if coder}


def measure(rate: str, runs: int, seed: int) -> list[dict]:
    """One row per coder: bytes, and million symbols/s encoded and decoded."""
    symbols, pmf = latent(RATES[rate], seed)
    tables = from_pmf(pmf, -REACH)
    ideal = bits(tables, symbols.reshape(-1))
    found = coders(symbols, pmf, tables)
    seconds = {name: ([], []) for name in found}
    sizes = {}
    for name, (encode, decode, size) in found.items():  # also the warm-up
        data = encode()
        sizes[name] = size(data)
        if not np.array_equal(decode(data), symbols):
            raise RuntimeError(f"{name}: the round trip differs")
    for turn in range(runs):
        for name, (encode, decode, _) in found.items():
            if name == "sc_jax Python" and turn:
                continue  # a hundred times slower: one round says enough
            start = time.perf_counter()
            data = encode()
            middle = time.perf_counter()
            decode(data)
            seconds[name][0].append(middle - start)
            seconds[name][1].append(time.perf_counter() - middle)
        if turn % 20 == 19:
            print(f"{rate}: round {turn + 1} of {runs}", flush=True)
    rows = []
    for name, times in seconds.items():
        row = {"rate": rate, "bits_per_symbol": ideal / symbols.size, "coder": name}
        row |= {"size_bytes": sizes[name], "ideal_bytes": ideal / 8}
        for direction, taken in zip(("encode", "decode"), times):
            row[f"{direction}_median"] = symbols.size / statistics.median(taken) / 1e6
            row[f"{direction}_best"] = symbols.size / min(taken) / 1e6
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        f"{'bit/sym':>7} {'coder':<17} {'bytes':>7} {'over ideal':>10}"
        "   encode M/s (best)  ratio   decode M/s (best)  ratio"
    ]
    for row in rows:
        first = next(r for r in rows if r["rate"] == row["rate"])
        over = row["size_bytes"] / row["ideal_bytes"] - 1
        line = f"{row['bits_per_symbol']:7.2f} {row['coder']:<17}"
        line += f" {row['size_bytes']:7d} {over:+10.3%}"
        for direction in ("encode", "decode"):
            median, best = row[f"{direction}_median"], row[f"{direction}_best"]
            ratio = first[f"{direction}_median"] / median
            line += f"   {median:8.2f} ({best:7.2f}) {ratio:5.1f}x"
        lines.append(line)
    return "\n".join(lines) + "\nratio: the first row's median over this row's"


def plot(rows: list[dict], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, direction in zip(axes, ("encode", "decode")):
        names = [f"{r['coder']}, {r['bits_per_symbol']:.2f} bit" for r in rows]
        ax.barh(names[::-1], [r[f"{direction}_median"] for r in rows][::-1])
        ax.set(title=direction, xlabel="million symbols/s (median)")
    figure.savefig(path)


def version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(argv):
    del argv
    rows = [r for rate in RATES for r in measure(rate, _RUNS.value, _SEED.value)]
    print(table(rows))
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {
            n: version(n) for n in ("numpy", "constriction", "compressai", "torch")
        },
        "threads": 1,
        "seed": _SEED.value,
        "runs": _RUNS.value,
        "unit": "million symbols/s",
        "rows": rows,
    }
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(report, indent=1) + "\n")
    if _PLOT.value:
        plot(rows, _PLOT.value)


if __name__ == "__main__":
    app.run(main)
