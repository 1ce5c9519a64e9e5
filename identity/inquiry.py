"""Is this inquiry what one person signed, is it fresh, and was it approved? The broker and every node ask alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from comity.envelope import Envelope
from comity.errors import NotAuthentic
from comity.inquiry import CLOCK_SKEW, Disclosed, Disclosure, Inquiry
from comity.v1 import inquiry_pb2
from identity.directory import Directory
from identity.signing import verify_envelope
from identity.verify import Identity

APPROVER_ROLE = "supervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedInquiry:
    """An inquiry whose signatures, author, freshness, approvals and disclosures were all checked at `received_at`."""

    inquiry: Inquiry
    inquiry_hash: bytes
    requester: Identity
    approvers: tuple[Identity, ...]
    envelope: Envelope
    disclosed: Disclosed = field(repr=False)
    received_at: dt.datetime
    disclosures: tuple[Disclosure, ...] = field(default=(), repr=False)  # the same with their salts


def verify_inquiry(
    envelope: Envelope,
    disclosures: Iterable[inquiry_pb2.Disclosure],
    directory: Directory,
    now: dt.datetime,
) -> VerifiedInquiry:
    """The inquiry in `envelope`, once every check below has passed.

    1. Every signature is over these bytes and by a certificate of a pinned authority that is valid now.
    2. The payload is a well-formed inquiry for this federation.
    3. The author's certificate names the requester, and was valid at `issued_at`.
    4. Every further signature is by a supervisor of the requester's own agency who is not the requester.
    5. It was issued, within a minute of clock skew, and has not expired.
    6. Each disclosure matches its commitment.

    Raises:
        NotAuthentic: steps 1, 3, 4 and 5, with reasons such as BAD_SIGNATURE, WRONG_REQUESTER, WRONG_APPROVER,
            EXPIRED, ISSUED_IN_FUTURE; WRONG_FEDERATION of step 2.
        InvalidInput: steps 2 and 6.
    """
    disclosures = tuple(disclosures)
    signers = verify_envelope(envelope, directory, now, kind="person")  # 1
    author, approvers = signers[0], signers[1:]
    inquiry = Inquiry.parse(envelope.payload)  # 2
    if inquiry.federation != directory.federation.id:
        raise NotAuthentic("the inquiry is meant for another federation", reason="WRONG_FEDERATION")
    if inquiry.requester != str(author.spiffe):  # 3
        raise NotAuthentic("the inquiry names a requester who did not sign it", reason="WRONG_REQUESTER")
    if not author.not_before <= inquiry.issued_at < author.not_after:
        raise NotAuthentic("the certificate was not valid when the inquiry was issued", reason="CERTIFICATE_EXPIRED")
    for approver in approvers:  # 4
        same_agency = approver.agency == author.agency
        if approver.role != APPROVER_ROLE or not same_agency or approver.spiffe == author.spiffe:
            raise NotAuthentic(
                "an approval must be by another person, a supervisor of the requester's own agency",
                reason="WRONG_APPROVER",
            )
    if inquiry.issued_at > now + CLOCK_SKEW:  # 5
        raise NotAuthentic("the inquiry is issued in the future: check the clocks", reason="ISSUED_IN_FUTURE")
    if now >= inquiry.expires_at:
        raise NotAuthentic("the inquiry has expired: sign a new one", reason="EXPIRED")
    return VerifiedInquiry(
        inquiry=inquiry,
        inquiry_hash=envelope.payload_hash,
        requester=author,
        approvers=approvers,
        envelope=envelope,
        disclosed=Disclosed.parse(inquiry, disclosures),  # 6
        received_at=now,
        disclosures=tuple(map(Disclosure.of, disclosures)),
    )
