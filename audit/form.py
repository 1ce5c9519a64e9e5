"""The form of every entry type: its fields, closed, and what each may hold. The reference for writers and verifiers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from audit.note import MAX_NOTE_BYTES, unbase64
from comity.decision import Effect, Pep, Redaction
from comity.envelope import INQUIRY_TYPE, MAX_CERTIFICATE_BYTES, MAX_CHAIN, MAX_SIGNATURES
from comity.inquiry import MAX_PAYLOAD_BYTES
from comity.jcs import MAX_INTEGER
from comity.outcome import OutcomeKind
from comity.purpose import Act, Authority, LegalBasis

Check = Callable[[object], bool]

VERSION = 1
SHAPES: dict[Check, str] = {}
"""For a check, a pattern of canonical JSON bytes that surely pass it: never more than it allows, maybe less.

No string in a shape holds a quote, a backslash, a control character or anything beyond ASCII, so that where one ends
is where its value ends.
"""


@dataclass(frozen=True, slots=True)
class Form:
    """A JSON object with exactly these keys; an optional one may be absent, never null."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)

    def fault(self, value: object) -> str | None:
        """The first field that is missing, unknown or malformed; None if all is right."""
        if type(value) is not dict:
            return "(not an object)"
        known = 0
        for name, check in self.required.items():
            if name not in value or not check(value[name]):
                return name
            known += 1
        for name, check in self.optional.items():
            if name in value:
                if not check(value[name]):
                    return name
                known += 1
        if known != len(value):
            strange = next(str(name) for name in value if name not in self.required and name not in self.optional)
            return strange if strange.isprintable() and len(strange) <= 60 else "(a strange name)"
        return None

    def __call__(self, value: object) -> bool:
        """True if nothing is wrong with it: a form is a check too."""
        return self.fault(value) is None


def shaped(check: Check, shape: str) -> Check:
    """The check, with its shape known."""
    SHAPES[check] = shape
    return check


def text(pattern: str, shape: str | None = None) -> Check:
    """Text of that pattern, whole. `shape` is what stands between the quotes, if the pattern itself cannot."""
    match = re.compile(pattern, re.ASCII).fullmatch
    if shape is None:
        shape = re.sub(r"\((?!\?)", "(?:", pattern)
        shape = shape.replace("[!-~]", r"[!#-\[\]-~]").replace("[!-*,-~]", r"[!#-*,-\[\]-~]")
    return shaped(lambda value: type(value) is str and match(value) is not None, f'"(?:{shape})"')


def words(limit: int) -> Check:
    """Printable text of at most that many characters; may be empty."""
    return shaped(
        lambda value: type(value) is str and len(value) <= limit and value.isprintable(),
        rf'"[ !#-\[\]-~]{{0,{limit}}}"',
    )


def one_of(*allowed: str) -> Check:
    """One of those words."""
    closed = frozenset(allowed)
    shape = "|".join(map(re.escape, allowed))
    return shaped(lambda value: type(value) is str and value in closed, f'"(?:{shape})"')


def whole(least: int = 0, most: int = MAX_INTEGER) -> Check:
    """A whole number in that range, both ends included; a boolean is none."""
    some = rf"[1-9][0-9]{{0,{len(str(most)) - 2}}}" if most > 9 else f"[1-{most}]"
    return shaped(
        lambda value: type(value) is int and least <= value <= most,
        some if least == 1 else f"(?:0|{some})" if least == 0 else "(?!)",
    )


def base64_of(least: int, most: int) -> Check:
    """Canonical base64 of so many bytes."""

    def check(value: object) -> bool:
        if type(value) is not str or len(value) > most * 4 // 3 + 4:
            return False
        try:
            return least <= len(unbase64(value)) <= most
        except ValueError:
            return False

    digit = "[A-Za-z0-9+/]"
    ends = ("", f"{digit}[AQgw]==", f"{digit}{{2}}[AEIMQUYcgkosw048]=")
    if least == most:
        return shaped(check, f'"{digit}{{{most // 3 * 4}}}{ends[most % 3]}"')
    some = f"(?:{digit}{{4}}){{{(least + 2) // 3},{most // 3 - 1}}}"
    return shaped(check, f'"{some}(?:{"|".join(ends)})"')


def each(check: Check, most: int, least: int = 0) -> Check:
    """A list of so many, every one right."""
    one = shape_of(check)
    some = rf"\[{one}(?:,{one}){{{max(0, least - 1)},{most - 1}}}\]"
    return shaped(
        lambda value: type(value) is list and least <= len(value) <= most and all(map(check, value)),
        some if least else rf"(?:\[\]|{some})",
    )


def or_null(check: Check) -> Check:
    """Null, or right."""
    return shaped(lambda value: value is None or check(value), f"(?:null|{shape_of(check)})")


def flag(value: object) -> bool:
    """True or false."""
    return type(value) is bool


SHAPES[flag] = "(?:true|false)"


_TIME_SHAPE = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII).fullmatch


def time(value: object) -> bool:
    """RFC 3339 in UTC with three decimals and `Z`: instants of one width, so that text order is time order."""
    if type(value) is not str or not _TIME_SHAPE(value):
        return False
    try:
        dt.datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


_DAYS_SHAPE = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
SHAPES[time] = rf'"20[0-9]{{2}}-{_DAYS_SHAPE}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{{3}}Z"'


def shape_of(check: Check, **known: str) -> str:
    """The shape of a check, which matches nothing if it has none; of a form, with its keys in canonical order.

    `known` are shapes to take for some fields instead of their own.
    """
    if not isinstance(check, Form):
        return SHAPES.get(check, "(?!)")
    names = sorted((*check.required, *check.optional))
    shape = ""
    for at, name in enumerate(names):
        value = known.get(name) or shape_of(check.required.get(name) or check.optional[name])
        later = names[at + 1 :]
        comma = "," if any(n in check.required for n in later) else r"(?:,(?=\")|(?=\}))" if later else ""
        field_ = f'"{name}":{value}{comma}'
        shape += f"(?:{field_})?" if name in check.optional else field_
    return rf"\{{{shape}\}}"


inquiry_id = text("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
identifier = text("[a-z0-9][a-z0-9-]{0,62}")
reference = text("[!-~]{1,200}")  # an id that another part made up
code = text("[A-Z][A-Z0-9_]{0,63}")
maybe_code = text("([A-Z][A-Z0-9_]{0,63})?")
hash_hex = text("[0-9a-f]{64}")
sealing_key_id = text("[0-9a-f]{32}")
month = text("20[0-9]{2}-(0[1-9]|1[0-2])")
maybe_hash_hex = text("([0-9a-f]{64})?")
spiffe = text("spiffe://[a-z0-9-]{1,63}/(person|node|camera|broker)/[a-z0-9][a-z0-9._-]{0,62}")
rule = text("(federation|node):[!-~]{1,100}")
origin = text("[!-*,-~]{1,200}")
commitment = base64_of(32, 32)
index = whole()
checkpoint = text(  # no control character reaches a terminal
    rf"[ -~\n—]{{1,{MAX_NOTE_BYTES}}}", rf"(?:[ !#-\[\]-~]++|\\n|\xe2\x80\x94){{1,{MAX_NOTE_BYTES}}}+"
)


span = Form({"begin": time, "end": time})
head = Form({"size": index, "root": hash_hex})
envelope = Form(
    {
        "payload_type": text("[!-~]{1,100}"),
        "payload": base64_of(1, MAX_PAYLOAD_BYTES),
        "signatures": each(
            Form(
                {
                    "signature": base64_of(1, 256),
                    "chain": each(base64_of(1, MAX_CERTIFICATE_BYTES), MAX_CHAIN, 1),
                }
            ),
            MAX_SIGNATURES,
            1,
        ),
    }
)
_DAYS = 100 * 366
_MOST_BEHIND_MS = 1_900 * 365 * 86_400_000  # there is a date so long before any entry's

BODIES: Mapping[str, Form] = MappingProxyType(
    {
        "inquiry": Form(
            {
                "inquiry_id": inquiry_id,
                "inquiry_hash": hash_hex,
                "federation": identifier,
                "requester": Form({"agency": identifier, "person": reference, "role": identifier}),
                "beneficiary": identifier,
                "purpose": Form(
                    {"code": identifier, "legal_basis": one_of(*(b.value for b in LegalBasis)), "offence": words(64)}
                ),
                "authority": one_of(*(a.value for a in Authority)),
                "act": one_of(*(a.value for a in Act)),
                "window": span,
                "targets": whole(0, 1_000),
                "issued_at": time,
                "expires_at": time,
                "commitments": Form(
                    {"query": commitment, "case_number": commitment}, {"authority_reference": commitment}
                ),
                "envelope": lambda value: envelope(value) and value["payload_type"] == INQUIRY_TYPE,  # type: ignore[index]
                "approvers": each(spiffe, MAX_SIGNATURES - 1),
                "directory_version": index,
                "preview": flag,
                "received_from": spiffe,
            },
            {"sealed": Form({"key_id": sealing_key_id, "hash": hash_hex})},
        ),
        "decision": Form(
            {
                "inquiry_id": inquiry_id,
                "inquiry_hash": hash_hex,
                "node": identifier,
                "decision_id": reference,
                "effect": one_of(*(e.value for e in Effect)),
                "pep": one_of(*(p.value for p in Pep)),
                "rules": each(rule, 200),
                "obligations": Form(
                    {},
                    {
                        "window_days": whole(0, _DAYS),
                        "redact": one_of(*(r.word for r in Redaction if r is not Redaction.FULL)),
                        "approval": one_of("supervisor"),
                        "warrant": flag,
                        "quota_per_day": whole(),
                        "breadth": whole(),
                    },
                ),
                "policy_digest": maybe_hash_hex,
                "federation_digest": maybe_hash_hex,
                "reason_code": code,
                "approved": flag,
            }
        ),
        "outcome": Form(
            {
                "inquiry_id": inquiry_id,
                "inquiry_hash": hash_hex,
                "node": identifier,
                "outcome": one_of(*(k.value for k in OutcomeKind)),
                "count": whole(),
                "coverage": or_null(span),
                "payload_hash": maybe_hash_hex,
                "reason_code": maybe_code,
            }
        ),
        "receipt": Form(
            {
                "inquiry_id": inquiry_id,
                "node": identifier,
                "origin": origin,
                "index": index,
                "leaf_hash": hash_hex,
                "checkpoint": checkpoint,
            }
        ),
        "policy": Form(
            {
                "node": identifier,
                "digest": maybe_hash_hex,
                "version": index,
                "bundle_hash": maybe_hash_hex,
                "taken_up": flag,
                "reason": words(300),
            },
            # Where a person brought it, not the node itself.
            {"published_by": spiffe, "revoked_below": whole(1)},
        ),
        # What came was no inquiry of the sender's, or not for this program: nothing of it is believed but its hash.
        "rejected": Form({"payload_hash": hash_hex, "received_from": spiffe, "reason_code": code}),
        "purge": Form({"node": identifier, "rows": index, "span": span, "rule": reference, "digest": maybe_hash_hex}),
        "erasure": Form(
            {
                "scope": one_of("epoch", "entry"),
                "epoch": month,
                "key_id": reference,
                "indexes": each(index, 1_000),
                "requested_by": spiffe,
                "rule": text("[ -~]{1,200}", r"[ !#-\[\]-~]{1,200}"),
                "envelope": envelope,
            }
        ),
        "review": Form(
            {
                "reviewer": spiffe,
                "period": span,
                "sampled": each(index, 1_000),
                "flagged": each(index, 1_000),
                "envelope": envelope,
            }
        ),
        **dict.fromkeys(
            ("start", "stop"),
            Form(
                {
                    "program": one_of("broker", "node"),
                    "id": identifier,
                    "software_version": reference,
                    "directory_version": index,
                    "reason": words(300),
                }
            ),
        ),
    }
)

peers = each(Form({"origin": origin, "size": index, "root": hash_hex}, {"note": checkpoint}), 32)
_COMMON: Mapping[str, Check] = {
    "v": whole(VERSION, VERSION),
    "type": one_of(*BODIES),
    "at": time,
    "head": head,
    "peers": peers,
}
ENTRIES: Mapping[str, Form] = MappingProxyType(
    {
        kind: Form({**_COMMON, **body.required}, {**body.optional, "clock_behind_ms": whole(1, _MOST_BEHIND_MS)})
        for kind, body in BODIES.items()
    }
)


def entry_fault(value: object) -> str | None:
    """The first field of a whole entry that is not in its type's form; None if it is."""
    kind = value.get("type") if type(value) is dict else None
    form = ENTRIES.get(kind) if type(kind) is str else None
    return "type" if form is None else form.fault(value)
