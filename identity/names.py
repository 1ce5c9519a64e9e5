"""SPIFFE IDs in Comity's narrow form: `spiffe://<trust domain>/<kind>/<id>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from comity.errors import InvalidInput, Violation
from comity.federation import IDENTIFIER

PERSON = "person"
NODE = "node"
CAMERA = "camera"
BROKER = "broker"
KINDS = (PERSON, NODE, CAMERA, BROKER)
MAX_CHARACTERS = 160  # scheme, the longest kind and two identifiers of 63

_PART = IDENTIFIER.pattern.removesuffix(r"\Z")
_ID = re.compile(rf"spiffe://({_PART})/({'|'.join(KINDS)})/({_PART})\Z", re.ASCII)
_TRUST_DOMAIN = re.compile(rf"spiffe://({_PART})\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeId:
    """One name. `trust_domain` is an agency's id, or the federation's for brokers; `kind` is one of KINDS."""

    trust_domain: str
    kind: str
    id: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The name in `text`, which is then exactly `str()` of it: one spelling, so that names compare as text.

        Source: SPIFFE-ID section 2, narrowed to small letters, digits and hyphens and to three parts.

        Raises:
            InvalidInput: BAD_NAME, not of that form; the message does not repeat the text.
        """
        found = _ID.match(text) if len(text) <= MAX_CHARACTERS else None
        if found is None:
            raise InvalidInput(
                "not a name of this federation",
                violations=[
                    Violation("spiffe_id", f"must be spiffe://AGENCY/KIND/ID in small letters, KIND {'|'.join(KINDS)}")
                ],
                reason="BAD_NAME",
            )
        trust_domain, kind, id_ = found.groups()
        return cls(trust_domain=trust_domain, kind=kind, id=id_)

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.kind}/{self.id}"


def trust_domain_uri(trust_domain: str) -> str:
    """The name of an authority itself: its trust domain without a path.

    Raises:
        InvalidInput: BAD_NAME, not an identifier.
    """
    uri = f"spiffe://{trust_domain}"
    parse_trust_domain(uri)
    return uri


def parse_trust_domain(uri: str) -> str:
    """The trust domain in `spiffe://<trust domain>`.

    Raises:
        InvalidInput: BAD_NAME, not of that form.
    """
    found = _TRUST_DOMAIN.match(uri) if len(uri) <= MAX_CHARACTERS else None
    if found is None:
        raise InvalidInput("an authority's name must be small letters, digits and hyphens", reason="BAD_NAME")
    return found.group(1)
