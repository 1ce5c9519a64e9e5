"""How `comity search` shows what it finds: a table for people, one JSON object a line for programs."""

from __future__ import annotations

from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.checked import Checked
from cli.words import ADVICE, COLOURS, NAMES, advice, last_line, only_for, sentence
from comity.decision import Redaction
from comity.federation import Federation
from comity.inquiry import Inquiry
from comity.outcome import Tally
from comity.v1 import decision_pb2

MOST_SHOWN = 200


class Shown(Protocol):
    """Something that shows a search as it goes."""

    def decision(self, decision: decision_pb2.Decision) -> None:
        """A decision of the broker's."""

    def outcome(self, checked: Checked) -> None:
        """One target's outcome, as it arrives."""

    def summary(self, outcomes: tuple[Checked, ...], tally: Tally) -> None:
        """The end."""

    def stop(self) -> None:
        """The end without a summary: the call failed."""


class JsonLines:
    """One object a line, as `interfaces` fixes it."""

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry

    def decision(self, decision: decision_pb2.Decision) -> None:
        """Write the event."""
        write_json({"event": "decision", **decision_json(decision)})

    def outcome(self, checked: Checked) -> None:
        """Write the event."""
        write_json(outcome_json(checked))

    def summary(self, outcomes: tuple[Checked, ...], tally: Tally) -> None:  # noqa: ARG002
        """Write the event."""
        write_json(
            {
                "event": "summary",
                "inquiry_id": self._inquiry.inquiry_id,
                "targets": tally.targets,
                "matched": tally.matched,
                "complete": tally.complete,
                **({"released_to": released_to(self._inquiry)} if tally.matched else {}),
                "outcomes": {k.value: n for k, n in sorted(tally.counts.items()) if n},
            }
        )

    def stop(self) -> None:
        """Nothing is open."""


class Tables:
    """One row a node, detections newest first, and one last line that says how complete it is."""

    def __init__(self, inquiry: Inquiry, federation: Federation, targets: int, console: Console) -> None:
        self._inquiry = inquiry
        self._federation = federation
        self._targets = targets
        self._console = console
        self._status = console.status(self._progress(0)) if console.is_terminal else None
        self._done = 0
        if self._status:
            self._status.start()

    def decision(self, decision: decision_pb2.Decision) -> None:
        """Nothing: outcomes say it."""

    def outcome(self, checked: Checked) -> None:  # noqa: ARG002
        """Count it in the progress."""
        self._done += 1
        if self._status:
            self._status.update(self._progress(self._done))

    def summary(self, outcomes: tuple[Checked, ...], tally: Tally) -> None:
        """The table, the detections and the last line."""
        self.stop()
        self._console.print(self._nodes(outcomes))
        if any(c.detections for c in outcomes):
            self._console.print(self._detections(outcomes))
            self._console.print(ADVICE, style="italic")
            for line in advice(outcomes):
                self._console.print(line, style="italic")
            self._console.print(only_for(released_to(self._inquiry)), style="italic")
        colour = "green" if tally.complete else "yellow"
        self._console.print(Text(last_line(outcomes, tally, self._federation), style=f"bold {colour}"))

    def stop(self) -> None:
        """End the progress."""
        if self._status:
            self._status.stop()

    def _progress(self, done: int) -> str:
        return f"{done} of {self._targets} nodes have answered"

    def _nodes(self, outcomes: tuple[Checked, ...]) -> Table:
        table = Table(title=f"Inquiry {self._inquiry.inquiry_id}", title_justify="left", expand=False)
        table.add_column("Node", no_wrap=True)
        table.add_column("Agency")
        table.add_column("Outcome", no_wrap=True)
        table.add_column("What it means")
        for c in outcomes:
            node = self._federation.nodes.get(c.node)
            agency = self._federation.agencies[node.agency].name if node else ""
            table.add_row(c.node, agency, Text(NAMES[c.kind], style=COLOURS[c.kind]), Text(sentence(c)))
        return table

    def _detections(self, outcomes: tuple[Checked, ...]) -> Table:
        found = sorted((d for c in outcomes for d in c.detections), key=lambda d: d.captured_at, reverse=True)
        shown = found[:MOST_SHOWN]
        left = f", the newest {MOST_SHOWN} of {len(found)}: --json has all" if len(found) > MOST_SHOWN else ""
        table = Table(title=f"Detections, newest first{left}", title_justify="left", expand=False)
        for name in ("Seen (UTC)", "Plate", "State", "Match", "Confidence", "Camera", "Place", "Source", "Agency"):
            table.add_column(name, no_wrap=name in ("Seen (UTC)", "Plate"))
        for d in shown:
            place = (
                f"{d.latitude_e7 / 1e7:.5f}, {(d.longitude_e7 or 0) / 1e7:.5f}" if d.latitude_e7 is not None else "-"
            )
            confidence = "-" if d.confidence_permille is None else f"{d.confidence_permille / 10:.0f} %"
            table.add_row(
                d.captured_at.strftime("%Y-%m-%d %H:%M:%S"),
                d.plate.number,
                d.plate.state or "not read",
                d.match_class.value,
                confidence,
                d.camera or "-",
                place,
                d.source,
                d.agency,
            )
        return table


def released_to(inquiry: Inquiry) -> list[str]:
    """The requester's agency, and the beneficiary where that is another."""
    agency = inquiry.requester.removeprefix("spiffe://").partition("/")[0]
    return list(dict.fromkeys((agency, inquiry.beneficiary)))


def console() -> Console:
    """Standard output; where nobody's window says how wide it is, wide enough for a row a node."""
    # No markup: a camera's name is the node's to choose, and must not be able to style, hide or break what is shown.
    out = Console(highlight=False, markup=False, emoji=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, emoji=False, width=max(140, out.width))


def decision_json(d: decision_pb2.Decision) -> dict[str, Any]:
    """A decision as `--json` writes it."""
    return {
        "node": d.node,
        "effect": "permit" if d.effect == decision_pb2.EFFECT_PERMIT else "deny",
        "pep": "broker" if d.pep == decision_pb2.PEP_BROKER else "node",
        "rules": [r.rule for r in d.rules],
        "obligations": obligations_json(d.obligations),
        "reason_code": d.reason_code,
        "reason": d.reason,
        "policy_digest": d.policy_digest,
    }


def obligations_json(o: decision_pb2.Obligations) -> dict[str, Any]:
    """Only what limits; the words are those of policies."""
    out: dict[str, Any] = {}
    if o.HasField("window_days"):
        out["window_days"] = o.window_days
    if o.redaction > Redaction.FULL:
        # A number that this version does not know came from outside: it is named so, and shown.
        out["redact"] = {r.value: r.word for r in Redaction}.get(o.redaction, "unknown")
    if o.approval:
        out["approval"] = "supervisor"
    if o.warrant:
        out["warrant"] = True
    if o.HasField("quota_per_day"):
        out["quota_per_day"] = o.quota_per_day
    if o.HasField("breadth"):
        out["breadth"] = o.breadth
    return out


def outcome_json(c: Checked) -> dict[str, Any]:
    """An outcome as `--json` writes it."""
    o = c.outcome
    out: dict[str, Any] = {
        "event": "outcome",
        "node": c.node,
        "outcome": o.kind.value,
        "detections": [d.as_json() for d in c.detections],
        "coverage": o.coverage.as_json() if o.coverage else None,
        "signed_by": c.signer,
        "policy_digest": o.policy_digest,
    }
    if o.decision is not None:
        decision = decision_json(o.decision)
        out |= {k: decision[k] for k in ("pep", "rules", "reason_code", "reason")}
    elif o.reason_code or o.reason:
        out |= {"reason_code": o.reason_code, "reason": o.reason}
    if o.obligations is not None:
        out["obligations"] = obligations_json(o.obligations)
    if o.advice:
        out["advice"] = [{"rule": r.rule, "basis": r.basis} for r in o.advice]
    if o.role:
        out |= {"role": o.role, "agency": o.agency}
    if o.last_attached_at is not None:
        out["last_attached_at"] = o.last_attached_at.isoformat().replace("+00:00", "Z")
    return out


def write_json(value: dict[str, Any]) -> None:
    """One line on standard output, at once."""
    print(orjson.dumps(value).decode(), flush=True)
