"""Checkpoints and verifier keys: what is signed, and every note that is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import MAX_NOTE_BYTES, Checkpoint, VerifierKey, verify_checkpoint
from comity.errors import InvalidInput, LogFault
from tests.golden.audit.samples import KEY, ORIGIN

VKEY = VerifierKey.of(ORIGIN, KEY.public_key())
NOTE = Checkpoint(origin=ORIGIN, size=5, root=b"r" * 32).sign(KEY)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
LINE = NOTE.splitlines(keepends=True)[-1]


def test_a_checkpoint_comes_back_from_its_signed_note() -> None:
    assert verify_checkpoint(NOTE, VKEY) == Checkpoint(origin=ORIGIN, size=5, root=b"r" * 32)


def test_other_keys_signatures_are_let_be() -> None:
    further = Checkpoint(origin="witness.example/w", size=1, root=b"w" * 32).sign(OTHER).splitlines(keepends=True)[-1]
    assert verify_checkpoint(NOTE + further, VKEY).size == 5


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(note: bytes) -> bytes:
        assert old in note
        return note.replace(old, new, 1)

    return change


REFUSED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "another size": ("BAD_SIGNATURE", _replaced(b"\n5\n", b"\n6\n")),
    "another root": ("BAD_SIGNATURE", _replaced(b"cnJy", b"cnJz")),
    "another log's name": ("WRONG_ORIGIN", _replaced(b"broker.example/log\n5", b"broker.example/lag\n5")),
    "the key's line under another name": ("NOT_SIGNED", _replaced("— broker".encode(), "— braker".encode())),
    "the key's line twice": ("NOT_SIGNED", lambda n: n + LINE),
    "no signature": ("BAD_CHECKPOINT", lambda n: n.replace(LINE, b"")),
    "a size with a leading zero": ("BAD_CHECKPOINT", _replaced(b"\n5\n", b"\n05\n")),
    "a negative size": ("BAD_CHECKPOINT", _replaced(b"\n5\n", b"\n-5\n")),
    "a size beyond 2^53": ("BAD_CHECKPOINT", _replaced(b"\n5\n", b"\n9007199254740992\n")),
    "an extension line": ("BAD_CHECKPOINT", _replaced(b"=\n\n", b"=\nmore\n\n")),
    "a short root": ("BAD_CHECKPOINT", _replaced(base64.b64encode(b"r" * 32), base64.b64encode(b"r" * 31))),
    "base64 that is not canonical": ("BAD_CHECKPOINT", _replaced(b"cnI=\n", b"cnJ=\n")),
    "a hyphen for the dash": ("BAD_CHECKPOINT", _replaced("—".encode(), b"-")),
    "no newline at the end": ("BAD_CHECKPOINT", lambda n: n[:-1]),
    "cut in half": ("BAD_CHECKPOINT", lambda n: n[: len(n) // 2]),
    "nothing": ("BAD_CHECKPOINT", lambda n: b""),
    "not UTF-8": ("BAD_CHECKPOINT", lambda n: b"\xff" + n),
    "larger than any note": ("BAD_CHECKPOINT", lambda n: n + LINE * (MAX_NOTE_BYTES // len(LINE))),
    "more than 100 signatures": ("BAD_CHECKPOINT", lambda n: n + LINE * 100),
    "carriage returns": ("BAD_CHECKPOINT", lambda n: n.replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize(("reason", "change"), REFUSED.values(), ids=REFUSED)
def test_a_note_is_refused_with(reason: str, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(LogFault) as refused:
        verify_checkpoint(change(NOTE), VKEY)
    assert refused.value.reason == reason


def test_a_note_signed_by_another_key_under_the_same_name_is_refused() -> None:
    forged = Checkpoint(origin=ORIGIN, size=5, root=b"r" * 32).sign(OTHER)
    with pytest.raises(LogFault) as refused:
        verify_checkpoint(forged, VKEY)
    assert refused.value.reason == "NOT_SIGNED"


def test_a_verifier_key_comes_back_from_its_text() -> None:
    assert VerifierKey.parse(f"{VKEY}\n") == VKEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        str(VKEY).replace("broker", "braker"),
        str(VKEY)[:-4],
        f"{VKEY}\n\n",
        f" {VKEY}",
        str(VKEY).replace("+AQ", "+BA"),
        str(VKEY).upper(),
    ],
    ids=["empty", "a name", "another name", "cut", "two newlines", "a blank before", "another type", "capitals"],
)
def test_a_verifier_key_is_refused_that_is(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        VerifierKey.parse(text)
    assert refused.value.reason == "BAD_VKEY"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "é", "x" * 201])
def test_a_name_that_a_signature_line_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        VerifierKey.of(name, KEY.public_key())
    assert refused.value.reason == "BAD_ORIGIN"
