"""Ports of loopback for the servers of a test, each held for this process alone from the moment it is chosen.

A port that the kernel picks and that is bound only later may meanwhile be the source port of anybody's connection: a
program's that is started on it then fails, and one that dials the port of a server that is down can even connect to
itself. So these lie outside the range from which the kernel picks, and are claimed in a way that every run of the
tests on this machine sees, and that ends with the process.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path

FIRST, LAST = 10_000, 65_535
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_claims: dict[int, socket.socket] = {}


class NoPort(Exception):
    """Every port is taken."""


def held_ports(count: int) -> list[int]:
    """So many ports on which nobody listens and that no other run of the tests takes while this process lives.

    Raises:
        NoPort: there are not so many.
    """
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        if _claimed(port):
            found.append(port)
    if len(found) < count:
        raise NoPort(f"{count} ports of loopback are not to be had")
    return found


def _candidates() -> list[int]:
    try:
        low, high = map(int, RANGE.read_text("ascii").split())
    except (OSError, ValueError):
        low, high = 32_768, 60_999
    picked = range(low, high + 1)
    apart = [p for p in range(FIRST, LAST + 1) if p not in picked]
    rest = [p for p in range(FIRST, LAST + 1) if p in picked]
    # By chance, not in order, so that runs which start together seldom meet; and not by a test's own seed.
    chance = random.Random(os.urandom(16))
    return chance.sample(apart, len(apart)) + chance.sample(rest, len(rest))


def _claimed(port: int) -> bool:
    """True if the port is this process's now, and nobody listens on it."""
    if port in _claims:
        return False
    # A name in the kernel's own space of names, one for each network: it goes with its process, however that ends.
    claim = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            claim.bind(f"\0comity-test-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _claims[port] = claim
    return True
