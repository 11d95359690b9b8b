"""Writes codec.npz, the frozen streams. Run by hand, only when the format changes.

python tests/golden/make_codec.py
"""

from pathlib import Path

import numpy as np

from sc_jax.codec import codecs, rans
from sc_jax.codec.tables import Tables, from_pmf
from sc_jax.deploy.wire import frame

PATH = Path(__file__).with_name("codec.npz")


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def _tables() -> Tables:
    k = np.abs(np.arange(-20, 21))
    pmf = [np.tanh(0.5 / s) * np.exp(-k / s) for s in (0.1, 0.3, 1.0, 3.0)]
    return from_pmf(pmf, [-20, -20, -19, -21], 1e-4)


def main() -> None:
    rng = np.random.default_rng(2024)
    tables = _tables()
    rows = rng.integers(0, 4, 600).astype(np.uint16)
    scale = np.array([0.1, 0.3, 1.0, 3.0])
    runs = np.rint(rng.laplace(size=(4, 150)) * scale[:, None]).astype("i4").reshape(-1)
    mixed = np.rint(rng.laplace(size=600) * scale[rows]).astype(np.int32)
    mixed[::97] = rng.integers(-(2**31), 2**31, 7)
    z = (rng.laplace(size=(10, 15, 4)) * scale).astype(np.float32)
    out = {
        **{f"tables/{k}": v for k, v in tables.to_arrays().items()},
        "runs/symbols": runs,
        "runs/stream": _bytes(rans.encode(runs, tables)),
        "mixed/symbols": mixed,
        "mixed/rows": rows,
        "mixed/stream": _bytes(rans.encode(mixed, tables, rows)),
        "z": z,
    }
    medians = np.array([0.1, -0.2, 0.0, 1.7], np.float32)
    for name, codec in {
        "raw16": codecs.RawCodec(z.shape, "float16"),
        "affine5": codecs.AffineCodec(z.shape, 5),
        "factorized": codecs.FactorizedCodec(z.shape, tables, medians),
    }.items():
        payload = codec.encode(z)
        wire = frame.pack(codec.id, 3, z.shape, payload)
        out |= {f"{name}/{k}": v for k, v in codec.to_arrays().items()}
        out |= {f"{name}/frame": _bytes(wire), f"{name}/z_hat": codec.decode(payload)}
    np.savez_compressed(PATH, allow_pickle=False, **out)
    print(PATH, PATH.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
