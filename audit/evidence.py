"""An inquiry entry against the evidence in it: the signed payload, its signatures and the certificates of that day."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

from audit.entry import clear_fields
from comity.envelope import Envelope, Signature
from comity.errors import ComityError, InvalidInput, LogFault, NotAuthentic
from comity.inquiry import Inquiry
from identity.directory import Directory
from identity.inquiry import APPROVER_ROLE
from identity.names import PERSON
from identity.signing import verify_envelope
from identity.verify import Identity, verify_chain


def check_payload(index: int, entry: Mapping[str, Any]) -> Inquiry:
    """The inquiry that was signed, once the entry's clear fields were found to say the same.

    Raises:
        LogFault: the payload is not what was hashed (WRONG_INQUIRY_HASH), no inquiry (BAD_INQUIRY), or the entry
            shows something else than was signed (FIELD_DIFFERS).
    """
    kept = entry["envelope"]
    payload = base64.b64decode(kept["payload"])
    if hashlib.sha256(payload).hexdigest() != entry["inquiry_hash"]:
        raise _fault(index, "the signed payload is not the one its hash names", "WRONG_INQUIRY_HASH")
    try:
        inquiry = Inquiry.parse(payload)
    except InvalidInput:
        raise _fault(index, "the signed payload is no valid inquiry", "BAD_INQUIRY") from None
    requester = {k: v for k, v in entry["requester"].items() if k != "role"}
    shown = {**entry, "requester": requester}
    for name, signed in clear_fields(inquiry).items():
        if shown[name] != signed:
            raise _fault(index, f"{name} is not what was signed", "FIELD_DIFFERS")
    if len(entry["approvers"]) != len(kept["signatures"]) - 1:
        raise _fault(index, "approvers and signatures do not match in number", "FIELD_DIFFERS")
    return inquiry


class Signatures:
    """What a directory says of the signatures of inquiries."""

    def __init__(self, directory: Directory) -> None:
        # The keys in it are of no use here, and cannot be sent to another process.
        self.directory = directory = dataclasses.replace(
            directory, policy_keys={}, logs={}, witnesses={}, auditors=(), pseudonym_key=None
        )
        # Revoked later is no fault of that day: the deny list is looked at apart.
        self._lenient = dataclasses.replace(directory, denied=frozenset())

    def check(self, index: int, entry: Mapping[str, Any]) -> bool:
        """False if a signer's certificate has been revoked since; True if all is right.

        The entry shows what was signed, as `check_payload` found. Every signature is over the payload. The author's
        certificate was valid at `issued_at`, an approver's then or when the entry was written. They name the requester
        with the role shown and the approvers shown.

        Raises:
            LogFault: BAD_SIGNATURES, or FIELD_DIFFERS.
        """
        if entry["federation"] != self.directory.federation.id:
            raise _fault(index, "it is meant for another federation than the directory's", "BAD_SIGNATURES")
        envelope = envelope_of(entry)
        signers = self._signers(index, entry, envelope)
        author, approvers, asks = signers[0], signers[1:], entry["requester"]
        if str(author.spiffe) != f"spiffe://{asks['agency']}/person/{asks['person']}" or author.role != asks["role"]:
            raise _fault(index, "the requester or the role is not the certificate's", "FIELD_DIFFERS")
        if [str(a.spiffe) for a in approvers] != entry["approvers"]:
            raise _fault(index, "the approvers are not those who signed", "FIELD_DIFFERS")
        if any(a.role != APPROVER_ROLE or a.agency != author.agency for a in approvers):
            raise _fault(index, "an approver is no supervisor of the requester's agency", "BAD_SIGNATURES")
        if not self._revoked(envelope, signers):
            return True
        if self.directory.version <= entry["directory_version"]:
            raise _fault(index, "a signer's certificate had been revoked before", "BAD_SIGNATURES")
        return False

    def _signers(self, index: int, entry: Mapping[str, Any], envelope: Envelope) -> tuple[Identity, ...]:
        issued_at = dt.datetime.fromisoformat(entry["issued_at"])
        written = dt.datetime.fromisoformat(entry["at"]) - dt.timedelta(milliseconds=entry.get("clock_behind_ms", 0))
        cause: ComityError | None = None
        for approved_at in (issued_at, written):
            try:
                return verify_envelope(envelope, self._lenient, issued_at, kind=PERSON, approvers_at=approved_at)
            except (NotAuthentic, InvalidInput) as e:
                cause = e
        sentence, given = f"its signatures do not hold: {cause}", self.directory.version
        if given != entry["directory_version"]:
            sentence += f" (directory {given} was given, {entry['directory_version']} was in force then)"
        raise _fault(index, sentence, "BAD_SIGNATURES")

    def _revoked(self, envelope: Envelope, signers: tuple[Identity, ...]) -> bool:
        for signature, signer in zip(envelope.signatures, signers, strict=True) if self.directory.denied else ():
            try:
                verify_chain(signature.chain, self.directory, signer.not_before)
            except NotAuthentic:
                return True
        return False


def envelope_of(entry: Mapping[str, Any]) -> Envelope:
    """The envelope that an inquiry entry keeps; its form was checked before."""
    kept = entry["envelope"]
    return Envelope(
        payload_type=kept["payload_type"],
        payload=base64.b64decode(kept["payload"]),
        signatures=tuple(
            Signature(signature=base64.b64decode(s["signature"]), chain=tuple(base64.b64decode(c) for c in s["chain"]))
            for s in kept["signatures"]
        ),
    )


def _fault(index: int, sentence: str, reason: str) -> LogFault:
    return LogFault(f"inquiry: {sentence}", index=index, reason=reason)
