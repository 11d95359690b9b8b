"""When one path to an answer beats another over a link: seconds, and bytes to save."""

from __future__ import annotations

from sc_jax.plan.link import Link, latency_s


def answer_s(
    link: Link, device_s: float, sent_bytes: float, edge_s: float = 0.0
) -> float:
    """Seconds from the input to the answer: device, link, round trip and edge.

    sent_bytes: framed, of one input; 0 computes on the device alone, sends nothing and
    waits for nobody, so that neither the round trip nor `edge_s` counts.
    """
    if not sent_bytes:
        return device_s
    return device_s + latency_s(link, sent_bytes) + edge_s


def break_even_bytes(link: Link, slow_s: float, fast_s: float) -> float:
    """Bytes that the slower of two devices' programs must save to answer as early.

    slow_s, fast_s: seconds of one input on the device, as of a head and of an image
    encoder. The more seconds `slow_s - fast_s` carry (rate x seconds / 8) bytes over
    the link, retransmissions left out; 0 where it is no slower. The edge's seconds and
    the round trip count as equal for both.
    """
    more_s = max(0.0, slow_s - fast_s)
    return more_s * link.up_bits_per_s * (1 - link.loss) / 8
