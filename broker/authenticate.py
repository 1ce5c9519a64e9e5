"""Step 1: is the inquiry the caller's own, is it fresh, and is this the first time it is seen?"""

from __future__ import annotations

import datetime as dt

from broker.model import Call, Requester
from broker.ports import ReplayGuard
from comity.errors import NotAuthentic
from comity.inquiry import CLOCK_SKEW
from identity.directory import Directory
from identity.inquiry import verify_inquiry


async def authenticate(call: Call, directory: Directory, replay: ReplayGuard, now: dt.datetime) -> Requester:
    """The requester behind `call`.

    Raises:
        NotAuthentic: as `verify_inquiry`; WRONG_CALLER if the connection is another person's; REPLAYED.
        InvalidInput: as `verify_inquiry`.
        Unavailable: the replay guard cannot be asked.
    """
    verified = verify_inquiry(call.envelope, call.disclosures, directory, now)
    if verified.requester.spiffe != call.peer.spiffe:
        raise NotAuthentic("the inquiry was signed by somebody else than the caller", reason="WRONG_CALLER")
    inquiry = verified.inquiry
    if not await replay.claim(inquiry.inquiry_id, inquiry.nonce, inquiry.expires_at + CLOCK_SKEW):
        raise NotAuthentic("this inquiry was sent before: sign a new one", reason="REPLAYED")
    return Requester(verified=verified)
