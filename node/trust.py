"""Step 5: the investigator's own signature, and the broker's receipt. The broker is believed in nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError

from audit.note import VerifierKey, verify_checkpoint
from audit.tree import leaf_hash
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.errors import InvalidInput, LogFault, NotAuthentic
from comity.inquiry import MAX_PAYLOAD_BYTES
from comity.v1 import node_link_service_pb2 as pb2
from identity.directory import Directory
from identity.inquiry import VerifiedInquiry, verify_inquiry
from node.model import BrokerReceipt, Trusted, Work


def open_inquiry(work: Work) -> tuple[Envelope, pb2.WorkInquiry]:
    """The envelope that the investigator signed, and the message that it came in. Nothing is verified yet.

    Raises:
        InvalidInput: not an inquiry's envelope.
    """
    try:
        message = pb2.WorkInquiry.FromString(work.inquiry)
    except DecodeError:
        raise InvalidInput("the work cannot be read", reason="BAD_WORK") from None
    envelope = Envelope.parse(message.envelope, payload_type=INQUIRY_TYPE, max_payload_bytes=MAX_PAYLOAD_BYTES)
    return envelope, message


def trust(work: Work, directory: Directory, node: str, now: dt.datetime) -> Trusted:
    """The inquiry, proven to be its requester's and for this node, with a receipt of a pinned broker's log.

    Raises:
        NotAuthentic, InvalidInput: as `verify_inquiry`; WRONG_INQUIRY, NOT_A_TARGET, PREVIEW_ONLY, BAD_RECEIPT.
    """
    envelope, message = open_inquiry(work)
    verified = verify_inquiry(envelope, message.disclosures, directory, now)
    inquiry = verified.inquiry
    if inquiry.inquiry_id != work.inquiry_id:
        raise NotAuthentic("the work is labelled as another inquiry", reason="WRONG_INQUIRY")
    if inquiry.targets and node not in inquiry.targets:
        raise NotAuthentic("the requester did not ask this node", reason="NOT_A_TARGET")
    if inquiry.preview:
        raise NotAuthentic("the requester asked what would be decided, and for no search", reason="PREVIEW_ONLY")
    entry = check_receipt(work.receipt, verified, directory, node)
    obligations = entry.get("obligations")
    if not isinstance(obligations, dict):
        raise NotAuthentic("the receipt does not say under which obligations", reason="BAD_RECEIPT")
    return Trusted(
        verified=verified,
        receipt=work.receipt,
        policy_digest=str(entry.get("policy_digest", "")),
        obligations=frozenset(obligations),
    )


def check_receipt(
    receipt: BrokerReceipt, verified: VerifiedInquiry, directory: Directory, node: str
) -> Mapping[str, Any]:
    """The entry, if a pinned broker's log signed a head that covers it and it permits this inquiry at this node.

    That the entry is under that head is for the auditors to prove: the receipt is kept for them.

    Raises:
        NotAuthentic: BAD_RECEIPT.
    """
    log = directory.logs.get(receipt.origin)
    if log is None or log.program != "broker":
        raise NotAuthentic("the receipt is of a log that the directory does not pin", reason="BAD_RECEIPT")
    try:
        checkpoint = verify_checkpoint(receipt.checkpoint, VerifierKey.of(log.origin, log.key))
    except LogFault:
        raise NotAuthentic("the receipt's checkpoint is not signed by that log", reason="BAD_RECEIPT") from None
    try:
        entry = orjson.loads(receipt.entry)
    except orjson.JSONDecodeError:
        entry = None
    wanted = {
        "type": "decision",
        "inquiry_id": verified.inquiry.inquiry_id,
        "inquiry_hash": verified.inquiry_hash.hex(),
        "node": node,
        "effect": "permit",
    }
    covered = 0 <= receipt.index < checkpoint.size and leaf_hash(receipt.entry) == receipt.leaf_hash
    if not covered or not isinstance(entry, dict) or any(entry.get(k) != v for k, v in wanted.items()):
        raise NotAuthentic("the receipt is not of a permit of this inquiry at this node", reason="BAD_RECEIPT")
    return entry
