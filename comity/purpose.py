"""Why a search is made, under what authority, and what kind of search it is: closed lists."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from comity.v1 import inquiry_pb2


class LegalBasis(enum.StrEnum):
    """The field of law that a purpose belongs to."""

    CRIMINAL = "criminal"
    CIVIL = "civil"
    ADMINISTRATIVE = "administrative"


class Authority(enum.StrEnum):
    """The warrant or order that the requester holds; an administrative warrant is no court's."""

    NONE = "none"
    ADMINISTRATIVE_WARRANT = "administrative-warrant"
    COURT_ORDER = "court-order"
    JUDICIAL_WARRANT = "judicial-warrant"


class Act(enum.StrEnum):
    """The kind of search."""

    EXACT = "exact"
    CONFUSABLE = "confusable"
    PARTIAL = "partial"
    AREA = "area"
    CONVOY = "convoy"
    ALERT = "alert"


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeOfUse:
    """A leaf of the federation's tree of purposes with its legal basis; `offence` may be empty."""

    code: str
    legal_basis: LegalBasis
    offence: str = ""


# Wire numbers; UNSPECIFIED (0) and unknown numbers are absent, and absent is refused.
LEGAL_BASIS_FROM_WIRE = {
    inquiry_pb2.LEGAL_BASIS_CRIMINAL: LegalBasis.CRIMINAL,
    inquiry_pb2.LEGAL_BASIS_CIVIL: LegalBasis.CIVIL,
    inquiry_pb2.LEGAL_BASIS_ADMINISTRATIVE: LegalBasis.ADMINISTRATIVE,
}
AUTHORITY_FROM_WIRE = {
    inquiry_pb2.AUTHORITY_NONE: Authority.NONE,
    inquiry_pb2.AUTHORITY_ADMINISTRATIVE_WARRANT: Authority.ADMINISTRATIVE_WARRANT,
    inquiry_pb2.AUTHORITY_COURT_ORDER: Authority.COURT_ORDER,
    inquiry_pb2.AUTHORITY_JUDICIAL_WARRANT: Authority.JUDICIAL_WARRANT,
}
ACT_FROM_WIRE = {
    inquiry_pb2.ACT_EXACT: Act.EXACT,
    inquiry_pb2.ACT_CONFUSABLE: Act.CONFUSABLE,
    inquiry_pb2.ACT_PARTIAL: Act.PARTIAL,
    inquiry_pb2.ACT_AREA: Act.AREA,
    inquiry_pb2.ACT_CONVOY: Act.CONVOY,
    inquiry_pb2.ACT_ALERT: Act.ALERT,
}
LEGAL_BASIS_TO_WIRE = {v: k for k, v in LEGAL_BASIS_FROM_WIRE.items()}
AUTHORITY_TO_WIRE = {v: k for k, v in AUTHORITY_FROM_WIRE.items()}
ACT_TO_WIRE = {v: k for k, v in ACT_FROM_WIRE.items()}
