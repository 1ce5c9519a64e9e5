"""What a rule asks in return: a closed grammar for obligations."""

from __future__ import annotations

import re
from dataclasses import replace

from comity.decision import NO_OBLIGATIONS, Obligations, Redaction

ADVICE = "advice"
REDACTIONS = {level.word: level for level in Redaction}
RIGHT = (
    "right is -, advice, or terms joined by ; of window_days<=N, redact=LEVEL, approval=supervisor, "
    "warrant=judicial, quota_per_day<=N, breadth<=N"
)
_BOUND = re.compile(r"(window_days|quota_per_day|breadth)<=(0|[1-9][0-9]{0,5})\Z")


def parse_duties(text: str) -> Obligations:
    """The obligations that `text` states. `advice` binds nothing: the rule is shown to the reader of every match.

    Raises:
        ValueError: saying what would be right.
    """
    if text in ("-", ADVICE):
        return NO_OBLIGATIONS
    out = NO_OBLIGATIONS
    seen: set[str] = set()
    for term in text.split(";"):
        key = re.split("[<=]", term, maxsplit=1)[0]
        if key in seen:
            raise ValueError(f"{key} stands twice; right is once")
        seen.add(key)
        out = _with(out, term)
    return out


def _with(out: Obligations, term: str) -> Obligations:
    bound = _BOUND.match(term)
    if bound and bound[1] == "window_days":
        return replace(out, window_days=int(bound[2]))
    if bound and bound[1] == "quota_per_day":
        return replace(out, quota_per_day=int(bound[2]))
    if bound:
        return replace(out, breadth=int(bound[2]))
    if term == "approval=supervisor":
        return replace(out, approval=True)
    if term == "warrant=judicial":
        return replace(out, warrant=True)
    key, _, level = term.partition("=")
    if key == "redact" and level in REDACTIONS:
        return replace(out, redaction=REDACTIONS[level])
    raise ValueError(f"{term!r} is no duty; {RIGHT}; LEVEL is one of {', '.join(REDACTIONS)}")
