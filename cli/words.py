"""Outcomes in words, for people: nothing here says "no record" unless every target searched its whole window."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Sequence
from string import ascii_lowercase

from cli.checked import Checked
from comity.decision import Redaction
from comity.federation import Federation
from comity.outcome import Coverage, OutcomeKind, Tally
from comity.v1 import decision_pb2

NO_RECORD = "No record"
MOST_CHARACTERS = 1_000  # of one sentence
MOST_READ = 10_000
MOST_ADVICE = 20  # lines
LAST_LETTER = "\u017f"  # of Latin Extended-A
NO_INK = "\u2800\ufffc"
ADVICE = "Verify before you act: check plate, issuing state and image yourself. A detection alone proves nothing."

COLOURS = {
    OutcomeKind.MATCH: "bold green",
    OutcomeKind.NO_MATCH: "green",
    OutcomeKind.PARTIAL_COVERAGE: "yellow",
    OutcomeKind.REFUSED: "red",
    OutcomeKind.WITHHELD: "red",
    OutcomeKind.PENDING: "magenta",
    OutcomeKind.TIMED_OUT: "bold yellow",
    OutcomeKind.UNREACHABLE: "bold yellow",
    OutcomeKind.ERROR: "bold red",
}
NAMES = {kind: kind.value.replace("_", " ") for kind in OutcomeKind} | {
    OutcomeKind.NO_MATCH: "nothing found",
    OutcomeKind.PARTIAL_COVERAGE: "partly searched",
}


def plain(text: str) -> str:
    """`text` from outside as a terminal may have it: no control characters, which could rewrite what stands there.

    Letters are Latin ones without further marks: others can look like them, read the other way, or show nothing.
    """
    # Somebody else's reason may not say what only a complete search may, whatever stands between the words.
    letters = "".join(c for c in unicodedata.normalize("NFKD", text[:MOST_READ]).casefold() if c in ascii_lowercase)
    if NO_RECORD.casefold().replace(" ", "") in letters:
        return "(a reason was given that is not shown)"
    shown = "".join(c if _shows(c) else "?" for c in text[: MOST_CHARACTERS + 1])
    return shown if len(shown) <= MOST_CHARACTERS else shown[:MOST_CHARACTERS] + "..."


def _shows(c: str) -> bool:
    """True if `c` is of ASCII, or a Latin letter of one piece, a digit, a sign or a punctuation mark that has ink."""
    if c.isascii() or not c.isprintable():
        return c.isprintable()
    return c <= LAST_LETTER or (unicodedata.category(c)[0] in "PS" and c not in NO_INK)


def sentence(checked: Checked) -> str:
    """What one node's outcome says to its reader, with what bound the node when it searched."""
    o = checked.outcome.obligations
    bound = f"; bound by: {', '.join(bounds(o))}" if o is not None else ""
    return plain(_sentence(checked) + bound)


def bounds(o: decision_pb2.Obligations) -> list[str]:
    """Each obligation in words, in the order in which policies write them."""
    out = [f"at most {o.window_days} days back"] if o.HasField("window_days") else []
    if o.redaction > Redaction.FULL:
        out.append(_LEFT_OUT.get(int(o.redaction), "something left out that this version does not know"))
    out += ["a supervisor's signature"] if o.approval else []
    out += ["a judicial warrant"] if o.warrant else []
    out += [f"{o.quota_per_day} searches a day"] if o.HasField("quota_per_day") else []
    out += [f"{o.breadth} nodes a search"] if o.HasField("breadth") else []
    return out


def only_for(agencies: Sequence[str]) -> str:
    """Whom detections were released to, the requester first, and what is to be done for another agency."""
    whom = " on behalf of ".join(agencies)
    return f"Released to {whom} and to nobody else: to pass it on, search again with --for, so that every node decides."


def advice(outcomes: Sequence[Checked]) -> list[str]:
    """What rules of the nodes that found something have to say to whoever reads it, each rule once."""
    told: dict[tuple[str, str], list[str]] = {}
    for c in outcomes:
        for rule in c.outcome.advice if c.detections else ():
            told.setdefault((rule.rule, rule.basis), []).append(c.node)
    return [
        plain(f"{rule}, at {', '.join(nodes)}: {basis}") for (rule, basis), nodes in list(told.items())[:MOST_ADVICE]
    ]


_LEFT_OUT: dict[int, str] = {
    Redaction.NO_IMAGE: "no images",
    Redaction.COARSE_LOCATION: "no images or cameras, places rounded",
    Redaction.HIT_ONLY: "no images, cameras, places or times of day",
}


def _sentence(checked: Checked) -> str:
    o, found = checked.outcome, len(checked.detections)
    match o.kind:
        case OutcomeKind.MATCH:
            return detections(found)
        case OutcomeKind.NO_MATCH:
            return "nothing found in the whole window"
        case OutcomeKind.PARTIAL_COVERAGE:
            return f"{detections(found)}; searched only {span(o.coverage)}: {o.reason}"
        case OutcomeKind.REFUSED:
            reason = o.decision.reason if o.decision else "no reason given"
            told = reason.removeprefix("refused")
            return f"refused by the {checked.signer}{told if told != reason else ': ' + reason}"
        case OutcomeKind.WITHHELD:
            return f"permitted, and nothing released, found or not: {o.reason}"
        case OutcomeKind.PENDING:
            return f"waits for the signature of a {o.role} of {o.agency}"
        case OutcomeKind.TIMED_OUT:
            return "did not answer in time; it may have searched"  # in words of our own: only the broker signs it
        case OutcomeKind.UNREACHABLE:
            if o.last_attached_at is None:
                return "not connected"
            return f"not connected since {_minute(o.last_attached_at)} UTC"
        case OutcomeKind.ERROR:
            return f"failed: {o.reason}"


def last_line(outcomes: tuple[Checked, ...], tally: Tally, federation: Federation) -> str:
    """The one honest line that ends every search."""
    agencies = {federation.nodes[c.node].agency for c in outcomes if c.node in federation.nodes}
    noun = "agencies" if len(agencies) == tally.targets else "nodes"
    if tally.targets == 1:
        noun = "agency" if noun == "agencies" else "node"
    everyone = f"the one {noun} asked" if tally.targets == 1 else f"each of the {tally.targets} {noun} asked"
    if tally.no_record:
        return f"{NO_RECORD} in this window: {everyone} searched it whole and found nothing."
    total = sum(len(c.detections) for c in outcomes)
    found = f"{detections(total)} at {tally.matched} of {tally.targets} {noun}"
    if tally.complete:
        return f"{found}; {everyone} searched the whole window."
    missing = [f"{n} of {tally.targets} {noun} {_SHORT[kind]}" for kind in _SHORT if (n := tally.counts.get(kind, 0))]
    lead = f"{found}. " if total else ""
    return f"{lead}{', '.join(missing)}; this is not a complete answer."


_SHORT = {
    OutcomeKind.REFUSED: "refused",
    OutcomeKind.WITHHELD: "withheld",
    OutcomeKind.PENDING: "awaiting an approval",
    OutcomeKind.PARTIAL_COVERAGE: "searched only part of the window",
    OutcomeKind.TIMED_OUT: "did not answer in time",
    OutcomeKind.UNREACHABLE: "could not be reached",
    OutcomeKind.ERROR: "failed",
}


def detections(n: int) -> str:
    """`1 detection`, `2 detections`, `no detections`."""
    return "1 detection" if n == 1 else f"{n or 'no'} detections"


def span(coverage: Coverage | None) -> str:
    """A coverage as people read it."""
    if coverage is None or coverage.begin == coverage.end:
        return "none of the window"
    return f"{_minute(coverage.begin)} to {_minute(coverage.end)} UTC"


def _minute(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")
