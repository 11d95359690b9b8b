"""A profile in words: what launch.profile prints."""

from __future__ import annotations

from sc_jax.evaluate.reports import report
from sc_jax.plan import profile
from sc_jax.plan.profile import Profile


def lines(found: Profile) -> list[str]:
    """The profile as two tables: stages, then cuts."""
    sides = {"device": found.device_s, "server": found.edge_s}
    timed = {name: values for name, values in sides.items() if values}
    cells = [["stage", "MACs", "parameters", "bytes out", *(f"{n} ms" for n in timed)]]
    for i, name in enumerate(found.stages):
        counts = found.macs[i], found.parameters[i], found.output_bytes[i]
        each = (values[i] for values in timed.values())
        ms = ("none" if s is None else f"{1e3 * s:.3f}" for s in each)
        cells.append([name, *(f"{n:,.0f}" for n in counts), *ms])
    tables = [report.aligned(cells)]
    if (source := profile.energy_source(found)) is not None:
        watts = f"{found.compute_w:g} W at work"
        if found.idle_w is not None:
            watts += f", {found.idle_w:g} W at rest"
        tables += ["", f"energy of the device, {source}: {watts}"]
    for name, line in {
        "device": found.device_by_length,
        "server": found.edge_by_length,
    }.items():
        if line is not None:
            ns, ms = 1e9 * line.seconds_per_item, 1e3 * line.base_s
            words = f"{name} by length, measured at {len(line.lengths)}: {ns:.4g} ns a "
            words += f"position + {ms:.4g} ms, residual {1e3 * line.residual_s:.2g} ms"
            tables += ["", words]
    if found.cuts:
        cells = [["cut", "bytes", "encode ms", "decode ms", "quality"]]
        for cut in found.cuts:
            ms = (f"{1e3 * s:.3f}" for s in (cut.encode_s, cut.decode_s))
            cells.append(
                [cut.name, f"{cut.sent_bytes:,.1f}", *ms, f"{cut.quality:.4f}"]
            )
        tables += ["", report.aligned(cells)]
    return tables
