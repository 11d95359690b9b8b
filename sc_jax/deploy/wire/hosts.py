"""Addresses as people write them: names, IPv4, and IPv6 in brackets or without."""

from __future__ import annotations

import ipaddress

from sc_jax.errors import UsageError


def bracketed(host: str) -> str:
    """A host as it stands before ":port": an IPv6 address in brackets, others as is.

    UsageError for brackets around anything else.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" not in host and bare == host:
        return host
    try:
        ipaddress.IPv6Address(bare.partition("%")[0])
    except ValueError:
        raise UsageError(f"host {host!r} is no IPv6 address, as ::1 is") from None
    return f"[{bare}]"


def split(address: str) -> tuple[str, int]:
    """(host without brackets, port) of "host:port" or "[::1]:port"; UsageError."""
    host, _, port = address.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    if not host or not 0 < number < 65536:
        raise UsageError(f"server {address!r} is not host:port")
    if ":" in host and not host.startswith("["):
        raise UsageError(f"server {address!r}: an IPv6 address stands as [::1]:50051")
    return bracketed(host).strip("[]"), number
