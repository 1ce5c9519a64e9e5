"""Logs with sealed parts to test with: two auditors, and inquiries whose values are really committed to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from audit.entry import Draft
from audit.log import Appended, DecisionLog
from audit.read import LogReader
from comity.commitment import AUTHORITY_REFERENCE, CASE_NUMBER, QUERY
from comity.envelope import INQUIRY_TYPE, Envelope
from comity.inquiry import Disclosure
from comity.purpose import Authority
from comity.query import PlateQuery
from identity.auditors import AuditorKey, Recipient
from tests.golden.audit import samples
from tests.unit.audit import sample
from tests.unit.identity.world import NOW

PLATE, STATE, CASE, ORDER = "7CNR042", "CA", "PA-26-CANARY-1", "ORDER-CANARY-9"


def auditor(name: str = "auditor-1", logs: Sequence[str] | None = None) -> tuple[AuditorKey, Recipient]:
    """A fresh key, and the auditor as a directory would name them."""
    key = AuditorKey(private=X25519PrivateKey.generate())
    scope = None if logs is None else frozenset(logs)
    return key, Recipient(name=f"spiffe://us-ca-alder-pd/person/{name}", key=key.private.public_key(), logs=scope)


def values(plate: str = PLATE, state: str = STATE, case: str = CASE, order: str = ORDER) -> tuple[Disclosure, ...]:
    """What an investigator discloses, under fresh salts."""
    said = {QUERY: PlateQuery.parse(plate, state).encode(), CASE_NUMBER: case.encode()}
    said |= {AUTHORITY_REFERENCE: order.encode()} if order else {}
    return tuple(Disclosure.fresh(label, value) for label, value in said.items())


def asked(
    disclosures: tuple[Disclosure, ...], at: dt.datetime = NOW, *, said: tuple[Disclosure, ...] | None = None
) -> Draft:
    """An inquiry that commits to these values; `said` are handed to the log in their place."""
    commitments: dict[str, Any] = {f"{d.label}_commitment": d.commitment for d in disclosures}
    authority = Authority.COURT_ORDER if AUTHORITY_REFERENCE in {d.label for d in disclosures} else Authority.NONE
    made = sample.inquiry(at, **commitments, authority=authority)
    envelope = Envelope(payload_type=INQUIRY_TYPE, payload=made.encode(), signatures=(samples.ENVELOPE.signatures[0],))
    return sample.inquiry_draft(made, envelope, disclosures=disclosures if said is None else said)


async def write(
    folder: Path, auditors: Sequence[Recipient], calls: Sequence[Sequence[Draft]], clock: sample.HandClock | None = None
) -> list[Appended]:
    """These calls appended to the log in `folder`, made if it is not there, in one run of its program."""
    clock = clock or sample.HandClock()
    if not (folder / "log.db").exists():
        DecisionLog.create(folder, origin=sample.ORIGIN, clock=clock).close()
    with DecisionLog.open(folder, clock=clock, auditors=auditors) as log:
        return [await log.append(call) for call in calls]


def files_with(folder: Path, secrets: Sequence[bytes]) -> list[str]:
    """The names of the files under `folder` that hold one of `secrets`."""
    paths = [p for p in folder.rglob("*") if p.is_file()]
    assert paths
    return [p.name for p in paths for data in [p.read_bytes()] if any(s in data for s in secrets)]


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    """Every row of a table of the log."""
    with LogReader.open(folder) as reader:
        return reader._db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
