"""Ports that tests start servers on."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.ports import RANGE, _claimed, held_ports

ROOT = Path(__file__).parents[2]


def test_a_port_is_given_once_and_can_be_listened_on() -> None:
    ports = held_ports(50) + held_ports(50)
    assert len(set(ports)) == 100
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            assert not _claimed(port)


def test_a_port_lies_outside_those_that_connections_get() -> None:
    low, high = map(int, RANGE.read_text("ascii").split())
    assert high - low > 50_000 or not any(low <= port <= high for port in held_ports(20))


def test_a_port_that_one_process_holds_another_does_not_get() -> None:
    (port,) = held_ports(1)
    script = f"from tests.ports import _claimed; print(_claimed({port}))"
    asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert asked.stdout == "False\n"


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        assert not _claimed(somebody.getsockname()[1])
