"""The record of an erasure: what the person who erased signs, and how a verifier holds the entry against it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from audit.entry import Draft, erasure_entry
from audit.evidence import envelope_of
from audit.oversight import overseer
from comity import jcs
from comity.errors import InvalidInput, LogFault, NotAuthentic
from identity.directory import Directory
from identity.signing import Signer

ERASURE_TYPE = "application/vnd.comity.erasure.v1+json"
FORMAT = "comity-erasure-1"
SIGNED = ("scope", "epoch", "key_id", "indexes", "requested_by", "rule")


def statement(origin: str, body: Mapping[str, Any]) -> bytes:
    """What is signed: the log's name and every field that the entry shows."""
    return jcs.encode({"format": FORMAT, "log": origin, **{name: body[name] for name in SIGNED}})


def signed_erasure(
    origin: str, signer: Signer, *, epoch: str, key_id: str, indexes: tuple[int, ...], requested_by: str, rule: str
) -> Draft:
    """The entry that says so, signed with the certificate of who erases.

    Raises:
        InvalidInput: BAD_ENTRY.
    """
    body: dict[str, Any] = {
        "scope": "entry" if indexes else "epoch",
        "epoch": epoch,
        "key_id": key_id,
        "indexes": list(indexes),
        "requested_by": requested_by,
        "rule": rule,
    }
    try:
        payload = statement(origin, body)
    except (TypeError, ValueError):
        raise InvalidInput("a reason is of 1 to 200 characters of ASCII", reason="BAD_ENTRY") from None
    envelope = signer.sign(ERASURE_TYPE, payload)
    return erasure_entry(
        epoch=epoch, key_id=key_id, indexes=indexes, requested_by=requested_by, rule=rule, envelope=envelope
    )


def check_erasure(origin: str, index: int, entry: Mapping[str, Any], directory: Directory | None) -> None:
    """Return if the entry shows what was signed and, with a directory, an entitled person signed it that day.

    Raises:
        LogFault: FIELD_DIFFERS or BAD_SIGNATURES.
    """
    envelope = envelope_of(entry)
    if envelope.payload_type != ERASURE_TYPE or envelope.payload != statement(origin, entry):
        raise LogFault(f"erasure: entry {index} says other than what was signed", index=index, reason="FIELD_DIFFERS")
    if directory is None:
        return
    written = dt.datetime.fromisoformat(entry["at"]) - dt.timedelta(milliseconds=entry.get("clock_behind_ms", 0))
    # Revoked later is no fault of that day: when it was is told by the log, whose times never go back.
    lenient = dataclasses.replace(directory, denied=frozenset())
    try:
        signer = overseer(envelope, lenient, written, of_log=origin)
    except (NotAuthentic, InvalidInput) as e:
        message = f"erasure: the signature of entry {index} does not hold: {e}"
        raise LogFault(message, index=index, reason="BAD_SIGNATURES") from None
    if str(signer.spiffe) != entry["requested_by"]:
        message = f"erasure: entry {index} is signed by another person than it names"
        raise LogFault(message, index=index, reason="BAD_SIGNATURES")
