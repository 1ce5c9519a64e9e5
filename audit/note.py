"""Signed notes and the checkpoints in them: what a log signs to say how large it is and what it holds.

Source: C2SP signed-note v1.0.0, tlog-checkpoint v1.0.0. Ed25519 (signature type 1) only. Stricter than both where
they leave a choice: no extension lines, base64 in its one canonical form, a key's line once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.tree import HASH_BYTES
from comity.errors import InvalidInput, LogFault

ED25519 = 1
MAX_NOTE_BYTES = 64 * 1024
_COSIGNATURE_BYTES = 4 + 8 + 64  # key id, time, signature; a log's own has no time
MAX_SIGNATURES = 100  # Go's note package refuses more
MAX_SIZE = 2**53 - 1
_NAME = re.compile(r"[!-*,-~]{1,200}\Z")  # printable ASCII without space and plus
_SIZE = re.compile(r"(0|[1-9][0-9]{0,15})\Z")
_VKEY = re.compile(r"([!-*,-~]{1,200})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,200})\Z")


def unbase64(text: str) -> bytes:
    """The bytes of standard base64 with padding, in its only canonical form.

    Raises:
        ValueError: anything else, so that no two texts mean the same bytes.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def key_id(name: str, key: bytes, kind: int = ED25519) -> bytes:
    """SHA-256(name || newline || signature type || key), the first 4 bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """The name of a log and its raw Ed25519 public key, 32 bytes."""

    name: str
    key: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key in `name+id+base64`, a newline at its end allowed.

        Raises:
            InvalidInput: malformed, of another type, or with an id that is not the key's own (BAD_VKEY).
        """
        match = _VKEY.match(text.removesuffix("\n"))
        try:
            data = unbase64(match[3]) if match else b""
        except ValueError:
            data = b""
        if match is None or len(data) != 33 or data[0] != ED25519 or key_id(match[1], data[1:]).hex() != match[2]:
            raise InvalidInput("not a verifier key of a log (name+id+key)", reason="BAD_VKEY")
        return cls(name=match[1], key=data[1:])

    @classmethod
    def of(cls, name: str, key: Ed25519PublicKey) -> VerifierKey:
        """The verifier key of a log of that name.

        Raises:
            InvalidInput: a name that a signature line cannot carry (BAD_ORIGIN).
        """
        if not _NAME.match(name):
            raise InvalidInput("a log's name is 1 to 200 printable ASCII, no space, no plus", reason="BAD_ORIGIN")
        return cls(name=name, key=key.public_bytes_raw())

    @property
    def id(self) -> bytes:
        """The 4 bytes that lead each of its signatures."""
        return key_id(self.name, self.key)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([ED25519]) + self.key).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself: its name, how many entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """The bytes that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    def sign(self, key: Ed25519PrivateKey, id_: bytes = b"") -> bytes:
        """The signed note, one signature under the log's own name. `id_` is the key's id, worked out if not given."""
        text = self.text()
        data = (id_ or VerifierKey.of(self.origin, key.public_key()).id) + key.sign(text)
        return text + f"\n— {self.origin} {base64.b64encode(data).decode()}\n".encode()

    @classmethod
    def parse(cls, note: bytes) -> Checkpoint:
        """The checkpoint in a signed note. **Nothing is verified**: `verify_checkpoint` does that.

        Raises:
            LogFault: not a well-formed checkpoint (BAD_CHECKPOINT).
        """
        return _split(note)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A cosigned head that entries cite: this log's own or another's. `note` is the evidence, with its signatures.

    `seen_at`: when the last of its witnesses signed, in seconds since 1970; 0 if none did.
    """

    origin: str
    size: int
    root: bytes
    note: bytes
    seen_at: int = 0

    @classmethod
    def parse(cls, note: bytes) -> Cited:
        """The head in a signed note, of which nothing is verified here.

        Raises:
            LogFault: BAD_CHECKPOINT.
        """
        head, signatures = _split(note)
        times = [int.from_bytes(data[4:12]) for _, data in signatures if len(data) == _COSIGNATURE_BYTES]
        return cls(origin=head.origin, size=head.size, root=head.root, note=note, seen_at=max(times, default=0))

    def as_json(self, *, proven: bool) -> dict[str, Any]:
        """As an entry cites it; `proven`: with the note."""
        said = {"origin": self.origin, "size": self.size, "root": self.root.hex()}
        return said | ({"note": self.note.decode()} if proven else {})


def verify_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint in `note`, signed by `key` and naming it as its origin. Other keys' signatures are let be.

    Raises:
        LogFault: malformed (BAD_CHECKPOINT), of another log (WRONG_ORIGIN), not signed by this key (NOT_SIGNED), or
            with a signature of its that does not fit (BAD_SIGNATURE).
    """
    checkpoint, signatures = _split(note)
    if checkpoint.origin != key.name:
        raise LogFault("the checkpoint is of another log than the key", reason="WRONG_ORIGIN")
    own = [data for name, data in signatures if name == key.name and data[:4] == key.id]
    if len(own) != 1:
        raise LogFault("the checkpoint is not signed once by the log's key", reason="NOT_SIGNED")
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(own[0][4:], checkpoint.text())
    except (InvalidSignature, ValueError):
        raise LogFault("the checkpoint's signature does not fit it", reason="BAD_SIGNATURE") from None
    return checkpoint


def signatures_of(note: bytes) -> list[tuple[str, bytes]]:
    """Each signature line's name, and its key id and signature, in order. **Nothing is verified.**

    Raises:
        LogFault: BAD_CHECKPOINT.
    """
    return _split(note)[1]


def _split(note: bytes) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """The checkpoint, and the (name, key id and signature) of each line."""
    bad = LogFault("not a well-formed checkpoint", reason="BAD_CHECKPOINT")
    if not 0 < len(note) <= MAX_NOTE_BYTES:
        raise bad
    try:
        text = note.decode()
        body, separator, tail = text.partition("\n\n")
        origin, size, root_text = body.split("\n")
        root = unbase64(root_text)
        lines = tail.removesuffix("\n").split("\n")
        signatures = [_signature_line(line) for line in lines]
    except ValueError:
        raise bad from None
    if (
        not separator
        or not tail.endswith("\n")
        or not _NAME.match(origin)
        or not _SIZE.match(size)
        or int(size) > MAX_SIZE
        or len(root) != HASH_BYTES
        or len(lines) > MAX_SIGNATURES
    ):
        raise bad
    return Checkpoint(origin=origin, size=int(size), root=root), signatures


def _signature_line(line: str) -> tuple[str, bytes]:
    dash, name, encoded = line.split(" ")
    data = unbase64(encoded)
    if dash != "—" or not _NAME.match(name) or len(data) < 5:
        raise ValueError("not a signature line")
    return name, data
