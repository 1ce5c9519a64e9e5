"""Who may sign for the oversight of a log: a weekly review, or that sealed values were erased."""

from __future__ import annotations

import datetime as dt

from comity.envelope import Envelope
from comity.errors import NotAuthentic
from identity.directory import Directory
from identity.inquiry import APPROVER_ROLE
from identity.names import NODE, PERSON
from identity.signing import verify_envelope
from identity.verify import Identity

OVERSEERS = ("auditor", APPROVER_ROLE)


def overseer(envelope: Envelope, directory: Directory, at: dt.datetime, *, of_log: str = "") -> Identity:
    """The one person who signed the envelope, entitled at the time `at`, and whose certificate is not revoked.

    `of_log`: an origin; if the directory knows it as a node's, the person must be of that node's own agency.

    Raises:
        NotAuthentic: WRONG_ROLE, WRONG_AGENCY, more signatures than one (BAD_SIGNATURE), or as `verify_envelope`.
        InvalidInput: as `verify_envelope`.
    """
    signers = verify_envelope(envelope, directory, at, kind=PERSON)
    if len(signers) != 1:
        raise NotAuthentic("one person signs for it, and no more", reason="BAD_SIGNATURE")
    signer = signers[0]
    if signer.role not in OVERSEERS:
        message = f"{signer.spiffe} is {signer.role}: this is for an {' or a '.join(OVERSEERS)}"
        raise NotAuthentic(message, reason="WRONG_ROLE")
    log = directory.logs.get(of_log)
    node = directory.federation.nodes.get(log.id) if log is not None and log.program == NODE else None
    if node is not None and node.agency != signer.agency:
        message = f"{signer.spiffe} is not of {node.agency}, whose log it is"
        raise NotAuthentic(message, reason="WRONG_AGENCY")
    return signer
