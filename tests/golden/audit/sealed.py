"""A golden sealed part: made here as the reference describes it, and opened by the program's own reader."""

from __future__ import annotations

import base64
import dataclasses
import json
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit import entry
from audit.entry import Draft, Stamp, seal
from audit.sealed_store import SealedPart
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.inquiry import Disclosure, Inquiry
from comity.query import PlateQuery

MONTH = "2030-05"
AUDITOR = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
EPOCH_KEY, ENTRY_KEY = bytes([7] * 32), bytes([9] * 32)
# The encapsulation is random: these bytes were made once, and must open for good.
SEALED_EPOCH_KEY = (
    "waSfh2P0IysI4850Vw1QSfI3KjoCazN8Q9pk500hfB7sedRzJztMduRWhBa3mRkATobb4N5k1F9N1fp4/rn/81Rjb1ph23/03+FR7Ssfgbg="
)
KEY_ID = sha256(
    MONTH.encode() + sha256(AUDITOR.public_key().public_bytes_raw()).hexdigest()[:16].encode()
    + base64.b64decode(SEALED_EPOCH_KEY)
).hexdigest()[:32]  # fmt: skip


def values(salt: bytes) -> tuple[Disclosure, ...]:
    """What the sealed part holds."""
    said = {"query": PlateQuery.parse("7ABC123", "CA").encode(), "case_number": b"PA-26-0101"}
    said["authority_reference"] = b"an order"
    return tuple(Disclosure(label=label, salt=salt, value=value) for label, value in said.items())


def files(inquiry: Inquiry, envelope: Envelope, stamp: Stamp, origin: str, salt: bytes) -> dict[str, bytes]:
    """The golden entry and its sealed part, for an inquiry like `inquiry` that commits to `values`."""
    disclosures = values(salt)
    commitments: dict[str, Any] = {f"{d.label}_commitment": d.commitment for d in disclosures}
    made = dataclasses.replace(inquiry, **commitments)
    evidence = Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=envelope.signatures)
    draft = _draft(made, evidence)
    bound = "\0".join(("comity-sealed-1", origin, "inquiry", sha256(made.encode()).hexdigest(), KEY_ID)).encode()
    plain = json.dumps([{"name": d.label, "salt": _64(d.salt), "value": _64(d.value)} for d in disclosures])
    padded = plain.replace(" ", "").encode().ljust(512)
    nonce = bytes(12)
    part = SealedPart(
        key_id=KEY_ID,
        wrapped=nonce + AESGCM(EPOCH_KEY).encrypt(nonce, ENTRY_KEY, bound),
        part=AESGCM(ENTRY_KEY).encrypt(bytes(12), padded, bound),
    )
    sample = {
        "auditor_private_key": AUDITOR.private_bytes_raw().hex(),
        "epoch": {"key_id": KEY_ID, "month": MONTH, "recipient": _recipient(), "sealed": SEALED_EPOCH_KEY},
        "key_id": KEY_ID,
        "origin": origin,
        "part": _64(part.part),
        "wrapped": _64(part.wrapped),
    }
    text = json.dumps(sample, indent=1, sort_keys=True) + "\n"
    return {"inquiry-sealed.json": seal(draft, stamp, part), "sealed-part.json": text.encode()}


def _draft(inquiry: Inquiry, envelope: Envelope) -> Draft:
    return entry.inquiry_entry(
        inquiry=inquiry,
        envelope=envelope,
        role="investigator",
        approvers=["spiffe://us-ca-alder-pd/person/s-okafor"],
        directory_version=7,
        preview=False,
        received_from="spiffe://us-ca-alder-pd/person/t-reyes",
    )


def _recipient() -> str:
    return sha256(AUDITOR.public_key().public_bytes_raw()).hexdigest()[:16]


def _64(data: bytes) -> str:
    return base64.b64encode(data).decode()
