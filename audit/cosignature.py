"""Cosignatures: what a witness signs to say that it has seen a log's head, when, and that the log had only grown.

Source: C2SP tlog-cosignature v1.0.0 (cosignature/v1, Ed25519, signature type 4) and signed-note v1.0.0.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.note import Checkpoint, VerifierKey, key_id, signatures_of, unbase64
from comity.errors import InvalidInput, LogFault
from identity.directory import Directory

COSIGNATURE = 4
_KEY_ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES = 4, 8, 64
_VKEY = re.compile(r"([!-*,-~]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,200})\Z")
_LATEST_S = 253_402_300_799  # the last second that a date can say


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessKey:
    """The name of a witness and its raw Ed25519 public key, 32 bytes."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> WitnessKey:
        """The key in `name+id+base64`, a newline at its end allowed.

        Raises:
            InvalidInput: malformed, of another type, or with an id that is not the key's own (BAD_VKEY).
        """
        match = _VKEY.match(text.removesuffix("\n"))
        try:
            data = unbase64(match[3]) if match else b""
        except ValueError:
            data = b""
        right = len(data) == 33 and data[0] == COSIGNATURE
        if match is None or not right or key_id(match[1], data[1:], COSIGNATURE).hex() != match[2]:
            raise InvalidInput("not a verifier key of a witness (name+id+key)", reason="BAD_VKEY")
        return cls(name=match[1], key=data[1:])

    @classmethod
    def of(cls, name: str, key: Ed25519PublicKey) -> WitnessKey:
        """The key of a witness of that name.

        Raises:
            InvalidInput: a name that a signature line cannot carry (BAD_ORIGIN).
        """
        VerifierKey.of(name, key)
        return cls(name=name, key=key.public_bytes_raw())

    @property
    def id(self) -> bytes:
        """The 4 bytes that lead each of its signatures."""
        return key_id(self.name, self.key, COSIGNATURE)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([COSIGNATURE]) + self.key).decode()}"


def cosign(note: bytes, name: str, key: Ed25519PrivateKey, at: dt.datetime) -> bytes:
    """`note`'s checkpoint with its log's signature lines and, last, this witness's own of the time `at`.

    Any other line is left out: who else signed is for others to show. Nothing of the note is verified here.

    Raises:
        LogFault: BAD_CHECKPOINT.
    """
    checkpoint, seconds = Checkpoint.parse(note), int(at.timestamp())
    mine = WitnessKey.of(name, key.public_key())
    signature = key.sign(_signed(checkpoint, seconds))
    lines = [line(n, d) for n, d in signatures_of(note) if n == checkpoint.origin]
    lines.append(line(name, mine.id + seconds.to_bytes(_TIME_BYTES) + signature))
    return checkpoint.text() + b"\n" + b"".join(lines)


def line(name: str, data: bytes) -> bytes:
    """One signature line of a note."""
    return f"— {name} {base64.b64encode(data).decode()}\n".encode()


def cosignature(note: bytes, key: WitnessKey) -> tuple[dt.datetime, bytes] | None:
    """When this witness saw the note's head, by its own clock and in UTC, and its line; None if it did not sign.

    Raises:
        LogFault: malformed (BAD_CHECKPOINT), or a line under its key that is not its signature (BAD_COSIGNATURE).
    """
    own = [d for n, d in signatures_of(note) if n == key.name and d[:_KEY_ID_BYTES] == key.id]
    if not own:
        return None
    data = own[0]
    bad = LogFault(f"the cosignature of {key.name} does not fit the checkpoint", reason="BAD_COSIGNATURE")
    if len(own) != 1 or len(data) != _KEY_ID_BYTES + _TIME_BYTES + _SIGNATURE_BYTES:
        raise bad
    seconds = int.from_bytes(data[_KEY_ID_BYTES : _KEY_ID_BYTES + _TIME_BYTES])
    try:
        signed = _signed(Checkpoint.parse(note), seconds)
        Ed25519PublicKey.from_public_bytes(key.key).verify(data[_KEY_ID_BYTES + _TIME_BYTES :], signed)
    except (InvalidSignature, ValueError):
        raise bad from None
    if seconds > _LATEST_S:
        raise bad
    return dt.datetime.fromtimestamp(seconds, dt.UTC), line(key.name, data)


def cosignatures(note: bytes, keys: Iterable[WitnessKey]) -> dict[str, dt.datetime]:
    """Name of each of these witnesses that signed the note -> when.

    Raises:
        LogFault: as `cosignature`: one bad signature of a known witness spoils the note.
    """
    found = {key.name: cosignature(note, key) for key in keys}
    return {name: signed[0] for name, signed in found.items() if signed is not None}


def witness_name(trust_domain: str, id_: str) -> str:
    """The name under which the witness of that node or broker signs."""
    return f"{trust_domain}/witness/{id_}"


def witnesses_of_brokers(directory: Directory) -> Mapping[str, WitnessKey]:
    """Node id -> key, of each node that witnesses brokers' logs and whose key the directory pins."""
    federation = directory.federation
    return {
        node: WitnessKey.of(witness_name(federation.nodes[node].agency, node), directory.witnesses[node])
        for node in federation.witnesses
        if node in directory.witnesses
    }


def witnesses_of_nodes(directory: Directory) -> Mapping[str, WitnessKey]:
    """`broker/ID` -> key, of each broker that witnesses nodes' logs and whose key the directory pins."""
    top = directory.federation.id
    return {
        who: WitnessKey.of(witness_name(top, who.removeprefix("broker/")), key)
        for who, key in directory.witnesses.items()
        if who.startswith("broker/")
    }


def other_witnesses(directory: Directory) -> Mapping[str, str]:
    """Node id -> the one node that witnesses its log besides the brokers: of another agency, where there is one.

    Everybody works out the same from one directory; a node that joins changes nobody else's.
    """
    nodes, found = directory.federation.nodes, {}
    for node in sorted({log.id for log in directory.logs.values() if log.program == "node"}):
        others = [w for w in sorted(witnesses_of_brokers(directory)) if w != node]
        foreign = [w for w in others if nodes[w].agency != nodes[node].agency] or others
        if foreign:
            found[node] = foreign[int.from_bytes(sha256(node.encode()).digest()[:8]) % len(foreign)]
    return found


def witnesses_of_node(directory: Directory, node: str) -> Mapping[str, WitnessKey]:
    """Who -> key, of each witness of that node's log: the brokers, and the one other node."""
    other = other_witnesses(directory).get(node)
    also = {other: witnesses_of_brokers(directory)[other]} if other else {}
    return {**witnesses_of_nodes(directory), **also}


def witness_vkeys(directory: Directory, origin: str) -> list[str]:
    """The verifier keys of that log's witnesses, as text; none if the directory does not name the log."""
    log = directory.logs.get(origin)
    if log is None:
        return []
    known = witnesses_of_brokers(directory) if log.program == "broker" else witnesses_of_node(directory, log.id)
    return [str(key) for key in known.values()]


def _signed(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n".encode() + checkpoint.text()
