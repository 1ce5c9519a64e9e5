"""Plays the story: asks as each person would, shows what they would see, and checks it against what it should be."""

from __future__ import annotations

import datetime as dt
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import orjson
from rich.console import Console
from rich.rule import Rule

from audit.read import LogReader
from audit.verify import verify
from cli.calling import Caller
from cli.checked import Reading, exit_code
from cli.compose import Asked, SignedInquiry, compose, legal_basis_of
from cli.demo.build import Layout
from cli.demo.processes import Program
from cli.demo.story import STOLEN_STATE, Step
from cli.search import reading_of, run
from cli.shown import Tables
from cli.words import last_line
from comity import instants
from comity.outcome import Tally
from comity.purpose import Act, Authority, PurposeOfUse
from comity.query import PlateQuery
from identity.folder import IdentityFolder

DEADLINE_S = 15.0
COMMAND_ROLE = "investigator"


class Play:
    """One playing of the story. `failures` gathers every difference from what should be."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._layout = layout
        self._console = console
        self.failures: list[str] = []
        self.last_inquiry = ""

    def step(self, number: int, step: Step) -> None:
        """Play one step and check it."""
        self._console.print(Rule(f"{number}. {step.title}", align="left"))
        if step.stop:
            Program("node", self._layout.node(step.stop)).stop(signal.SIGTERM)
            self._console.print(f"(the node {step.stop} was switched off)", style="dim")
        folder = IdentityFolder.load(self._layout.identity(step.agency, COMMAND_ROLE))
        signed = self._signed(step, folder)
        self._console.print(_typed(step), style="dim", soft_wrap=True)
        caller = Caller(folder, folder.broker_address())
        try:
            reading = reading_of(signed, folder.directory())
            shown = Tables(reading.inquiry, self._layout.federation, len(reading.targets), self._console)
            tally = run(reading, signed, caller, DEADLINE_S, shown)
        finally:
            caller.close()
        self.last_inquiry = reading.inquiry.inquiry_id
        self._check(f"step {number}", step, reading, tally)
        self._console.print()

    def verify_logs(self) -> None:
        """Every log, the broker's and the nodes', verifies under the keys that the directory pins."""
        directory = IdentityFolder.load(self._layout.broker / "identity").directory()
        for state in (self._layout.broker, *map(self._layout.node, sorted(self._layout.federation.nodes))):
            report = verify(state, directory=directory)
            fault = report.fault
            self._console.print(
                f"{state.name:<15} {report.entries:>5} entries  {'verified' if fault is None else fault}"
            )
            self.check(f"the log of {state.name}", fault, None)

    def show_decision(self) -> None:
        """One decision entry as the auditors keep it: no plate in it."""
        with LogReader.open(self._layout.broker) as reader:
            for index, entry in reader.backwards():
                value = orjson.loads(entry)
                if value["type"] == "decision":
                    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
                    self._console.print(f"entry {index} of the broker's log:\n{text}", markup=False, highlight=False)
                    return
        self.failures.append("the broker's log holds no decision")

    def alter_a_copy(self) -> None:
        """One byte of a copied log is altered, and verification names the entry."""
        with tempfile.TemporaryDirectory() as folder:
            index = alter_one_byte(self._layout.broker, Path(folder))
            report = verify(Path(folder), directory=IdentityFolder.load(self._layout.broker / "identity").directory())
            said = (
                "nothing: it passed" if report.fault is None else f"entry {report.fault.index}: {report.fault.sentence}"
            )
            self._console.print(f"one byte of entry {index} altered in a copy; verification says {said}")
            self.check("the altered entry", report.fault.index if report.fault else None, index)

    def check(self, what: str, have: object, should: object) -> None:
        """Note a difference."""
        if have != should:
            self.failures.append(f"{what}: should be {should}, is {have}")

    def _signed(self, step: Step, folder: IdentityFolder) -> SignedInquiry:
        federation = self._layout.federation
        now = instants.now()
        kind, _, reference = step.authority.partition(":")
        asked = Asked(
            query=PlateQuery.parse(step.plate, STOLEN_STATE),
            federation=federation.id,
            purpose=PurposeOfUse(code=step.purpose, legal_basis=legal_basis_of(step.purpose, federation.purposes)),
            case_number=step.case,
            beneficiary=step.beneficiary,
            authority=Authority(kind) if kind else Authority.NONE,
            authority_reference=reference,
            act=Act.EXACT,
            begin=now - dt.timedelta(days=step.days),
            end=now,
            targets=step.nodes,
        )
        signed = compose(asked, folder, now, draft=step.approve)
        if step.approve:
            supervisor = IdentityFolder.load(self._layout.identity(step.agency, "supervisor"))
            signed = SignedInquiry(
                envelope=supervisor.signer.countersign(signed.envelope), disclosures=signed.disclosures
            )
        return signed

    def _check(self, name: str, step: Step, reading: Reading, tally: Tally) -> None:
        have = {c.node: c.kind.value for c in reading.outcomes}
        self.check(f"{name}, outcomes", have, dict(step.expect))
        self.check(f"{name}, exit code", exit_code(tally), step.exit_code)
        for c in reading.outcomes:
            rules = [r.rule for r in c.outcome.decision.rules] if c.outcome.decision is not None else []
            wanted = step.rules.get(c.node)
            if wanted and wanted not in rules:
                self.failures.append(f"{name}: {c.node} should cite {wanted}, cites {rules}")
            self.check(f"{name}, detections of {c.node}", len(c.detections), step.found.get(c.node, 0))
            if c.outcome.kind.value in ("match", "no_match", "partial_coverage"):
                self.check(f"{name}, signer of {c.node}", c.signer, "node")
        line = last_line(reading.outcomes, tally, self._layout.federation)
        if step.last_line not in line:
            self.failures.append(f"{name}: the last line should say {step.last_line!r}, says {line!r}")


def alter_one_byte(state: Path, copy: Path) -> int:
    """Copy the log in `state` to the folder `copy` and alter one byte of a decision there. Returns its index."""
    with LogReader.open(state) as reader:
        index, entry = next((i, e) for i, e in reader.backwards() if orjson.loads(e)["type"] == "decision")
    with (
        closing(sqlite3.connect(f"file:{state / 'log.db'}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy / "log.db")) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
    (copy / "log.vkey").write_bytes((state / "log.vkey").read_bytes())
    data = bytearray((copy / "log.db").read_bytes())
    # The entry lies in the file as it is; the last digit of its time is changed.
    at = data.index(entry)
    data[data.index(b'Z"', data.index(b'"at":"', at)) - 1] ^= 1
    (copy / "log.db").write_bytes(data)
    (copy / "log.db").chmod(0o600)
    return index


def _typed(step: Step) -> str:
    """The command that the person would have typed."""
    words = [f"comity search {step.plate} --state {STOLEN_STATE} --purpose {step.purpose} --case {step.case}"]
    words += [f"--days {step.days}", f"--identity identities/{step.agency}/{COMMAND_ROLE}"]
    words += [f"--for {step.beneficiary}"] if step.beneficiary else []
    words += [f"--authority {step.authority}"] if step.authority else []
    words += [f"--node {n}" for n in step.nodes]
    words += ["--draft q.json; comity approve q.json; comity search --send q.json"] if step.approve else []
    return "$ " + " ".join(words)
