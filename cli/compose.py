"""From what an investigator types to a signed inquiry, and the draft file that a supervisor signs too."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from comity import commitment
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.errors import ConfigError, InvalidInput, Violation
from comity.inquiry import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    MAX_REFERENCE_CHARACTERS,
    NONCE_BYTES,
    Disclosed,
    Disclosure,
    Inquiry,
    new_inquiry_id,
)
from comity.purpose import Act, Authority, LegalBasis, PurposeOfUse
from comity.query import Query, check_window
from identity import files
from identity.folder import IdentityFolder

DRAFT_FORMAT = "comity-draft-1"
MAX_DRAFT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an investigator wants to know, and why."""

    query: Query = field(repr=False)
    federation: str
    purpose: PurposeOfUse
    case_number: str = field(repr=False)
    beneficiary: str
    authority: Authority
    authority_reference: str = field(repr=False)
    act: Act
    begin: dt.datetime
    end: dt.datetime
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInquiry:
    """An envelope with the disclosures that belong to it."""

    envelope: Envelope
    disclosures: tuple[Disclosure, ...] = field(repr=False)

    @property
    def inquiry(self) -> Inquiry:
        """What the envelope says; its signatures are not verified here.

        Raises:
            InvalidInput: it is no inquiry.
        """
        return Inquiry.parse(self.envelope.payload)

    @property
    def disclosed(self) -> Disclosed:
        """The values, each checked against its commitment.

        Raises:
            InvalidInput: they do not fit.
        """
        return Disclosed.parse(self.inquiry, [d.to_message() for d in self.disclosures])


def legal_basis_of(purpose: str, purposes: Mapping[str, str]) -> LegalBasis:
    """The legal basis that searches of this purpose have unless the investigator says otherwise."""
    above, at = {purpose}, purposes.get(purpose, "")
    while at and at not in above:
        above.add(at)
        at = purposes.get(at, "")
    if purpose == "immigration-civil":
        return LegalBasis.CIVIL
    return LegalBasis.ADMINISTRATIVE if above & {"administrative", "audit"} else LegalBasis.CRIMINAL


def compose(
    asked: Asked, folder: IdentityFolder, now: dt.datetime, *, draft: bool, preview: bool = False
) -> SignedInquiry:
    """The inquiry, signed with the folder's key; a draft may wait a day for its approval, a preview is never searched.

    Raises:
        InvalidInput: naming what is wrong with it.
    """
    references = (("case", asked.case_number), ("authority", asked.authority_reference))
    bad = [
        Violation(name, f"must be at most {MAX_REFERENCE_CHARACTERS} printable characters")
        for name, text in references
        if len(text) > MAX_REFERENCE_CHARACTERS or not text.isprintable()
    ]
    if bad:
        raise InvalidInput("not a search", violations=bad)
    check_window(asked.act, asked.begin, asked.end)
    query = Disclosure.fresh(commitment.QUERY, asked.query.encode())
    case_number = Disclosure.fresh(commitment.CASE_NUMBER, asked.case_number.encode())
    disclosures = [query, case_number]
    reference = b""
    if asked.authority is not Authority.NONE:
        shown = Disclosure.fresh(commitment.AUTHORITY_REFERENCE, asked.authority_reference.encode())
        disclosures.append(shown)
        reference = shown.commitment
    inquiry = Inquiry(
        inquiry_id=new_inquiry_id(now),
        federation=asked.federation,
        requester=str(folder.spiffe),
        beneficiary=asked.beneficiary or folder.spiffe.trust_domain,
        purpose=asked.purpose,
        authority=asked.authority,
        act=asked.act,
        begin=asked.begin,
        end=asked.end,
        targets=asked.targets,
        issued_at=now,
        expires_at=now + (MAX_LIFETIME if draft else DEFAULT_LIFETIME),
        nonce=secrets.token_bytes(NONCE_BYTES),
        query_commitment=query.commitment,
        case_number_commitment=case_number.commitment,
        authority_reference_commitment=reference,
        preview=preview,
    )
    payload = inquiry.encode()
    Inquiry.parse(payload)  # what the broker would refuse is not signed
    return SignedInquiry(envelope=folder.signer.sign(INQUIRY_TYPE, payload), disclosures=tuple(disclosures))


def write_draft(path: Path, signed: SignedInquiry, *, replace: bool = False) -> None:
    """`path` holds the signed inquiry and its disclosures, the plate among them: mode 0600.

    Raises:
        ConfigError: it is there already, or cannot be written.
    """
    data = orjson.dumps(
        {
            "format": DRAFT_FORMAT,
            "envelope": _text64(signed.envelope.encode()),
            "disclosures": [
                {"label": d.label, "salt": _text64(d.salt), "value": _text64(d.value)} for d in signed.disclosures
            ],
        },
        option=orjson.OPT_INDENT_2,
    )
    write = files.replace if replace else files.write_new
    write(path, data + b"\n", mode=files.PRIVATE)


def read_draft(path: Path) -> SignedInquiry:
    """The signed inquiry in a draft file. Nothing is verified but its form.

    Raises:
        ConfigError: it cannot be read, or others than the owner can.
        InvalidInput: it is not a draft.
    """
    try:
        data = orjson.loads(files.read(path, max_bytes=MAX_DRAFT_BYTES))
        if set(data) != {"format", "envelope", "disclosures"} or data["format"] != DRAFT_FORMAT:
            raise ValueError
        return SignedInquiry(
            envelope=Envelope.parse(_bytes64(data["envelope"]), payload_type=INQUIRY_TYPE),
            disclosures=tuple(
                Disclosure(label=str(d["label"]), salt=_bytes64(d["salt"]), value=_bytes64(d["value"]))
                for d in data["disclosures"]
            ),
        )
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise InvalidInput(f"{path} is not a draft of an inquiry, or only half of one", reason="BAD_DRAFT") from None
    except ConfigError:
        raise


def _text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
