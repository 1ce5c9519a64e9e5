"""Investigators, honest or not: they compose and sign as anyone, and call the broker raw or by the command."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import grpc
import orjson
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.compose import Asked, SignedInquiry, compose, legal_basis_of
from cli.demo.story import STOLEN, STOLEN_STATE, UNSEEN
from comity import instants
from comity.envelope import INQUIRY_TYPE, OUTCOME_TYPE, Envelope
from comity.outcome import Outcome
from comity.purpose import Act, Authority, PurposeOfUse
from comity.query import PlateQuery
from comity.v1 import inquiry_pb2, search_service_pb2_grpc
from comity.v1 import search_service_pb2 as pb2
from identity.folder import IdentityFolder
from identity.tls import client_credentials
from tests.integration.world import World

CASE = "CANARY-CASE-7731"
WARRANT = "CANARY-WARRANT-0042"
POLICE = "us-ca-port-alder-pd"
SEEN, NEVER_SEEN, STATE = STOLEN, UNSEEN, STOLEN_STATE
ANSWERED = {"match", "no_match", "partial_coverage"}
NO_RECORD = "No record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a raw call came to: `code` and `reason` of the status, and what was streamed before it."""

    code: str
    reason: str
    message: str
    events: tuple[pb2.SearchEvent, ...] = field(repr=False)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Each node's outcome, whoever signed it."""
        return {o.node: opened(o) for o in self.signed_outcomes}

    @property
    def signed_outcomes(self) -> list[pb2.SignedOutcome]:
        """Each node's outcome as it came."""
        return [e.outcome for e in self.events if e.WhichOneof("event") == "outcome"]

    @property
    def kinds(self) -> dict[str, str]:
        """Each node's outcome by name."""
        return {n: o.kind.value for n, o in self.outcomes.items()}

    @property
    def reasons(self) -> dict[str, str]:
        """Each node's reason code: its decision's, where it has one."""
        return {n: o.decision.reason_code if o.decision else o.reason_code for n, o in self.outcomes.items()}


def opened(signed: pb2.SignedOutcome) -> Outcome:
    """The outcome inside, unverified."""
    return Outcome.parse(Envelope.parse(signed.envelope, payload_type=OUTCOME_TYPE).payload)


class Person:
    """One identity and the broker that it calls."""

    def __init__(self, world: World, folder: IdentityFolder, *, address: str = "") -> None:
        self.world = world
        self.folder = folder
        self.address = address or world.address

    @classmethod
    def of(cls, world: World, agency: str = POLICE, role: str = "investigator", *, address: str = "") -> Person:
        """A person of the sample federation."""
        return cls(world, world.identity(agency, role), address=address)

    def ask(
        self,
        *nodes: str,
        plate: str = NEVER_SEEN,
        purpose: str = "stolen-vehicle",
        days: float = 20,
        draft: bool = False,
        at: dt.datetime | None = None,
        **changes: Any,
    ) -> SignedInquiry:
        """A signed inquiry, issued `at` (now)."""
        federation = self.world.layout.federation
        now = at or instants.now()
        asked = Asked(
            query=PlateQuery.parse(plate, STATE),
            federation=federation.id,
            purpose=PurposeOfUse(code=purpose, legal_basis=legal_basis_of(purpose, federation.purposes)),
            case_number=CASE,
            beneficiary="",
            authority=Authority.NONE,
            authority_reference="",
            act=Act.EXACT,
            begin=now - dt.timedelta(days=days),
            end=now,
            targets=nodes,
        )
        return compose(replace(asked, **changes), self.folder, now, draft=draft)

    def resign(self, signed: SignedInquiry, change: Callable[[inquiry_pb2.Inquiry], None]) -> SignedInquiry:
        """The inquiry changed, and signed anew by this person, whatever it says then."""
        return replace(signed, envelope=self.folder.signer.sign(INQUIRY_TYPE, changed(signed, change)))

    def search(self, signed: SignedInquiry | pb2.SearchRequest, *, deadline_s: float = 60.0) -> Told:
        """The call as it is, to its end."""
        got: list[pb2.SearchEvent] = []
        with self.channel() as channel:
            stub = search_service_pb2_grpc.SearchServiceStub(channel)
            try:
                for response in stub.Search(request_of(signed), timeout=deadline_s):
                    got += response.events
            except grpc.RpcError as error:
                return told_of(cast(grpc.Call, error), got)
        return Told(code="OK", reason="", message="", events=tuple(got))

    def stream(self, signed: SignedInquiry, channel: grpc.Channel, *, deadline_s: float) -> Iterator[pb2.SearchEvent]:
        """The call's events one at a time; raises what it ends with."""
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        for response in stub.Search(request_of(signed), timeout=deadline_s):
            yield from response.events

    def preview(self, signed: SignedInquiry) -> tuple[str, str, pb2.PreviewResponse]:
        """Code, reason and decisions."""
        with self.channel() as channel:
            stub = search_service_pb2_grpc.SearchServiceStub(channel)
            request = pb2.PreviewRequest(
                inquiry=signed.envelope.to_message(), disclosures=[d.to_message() for d in signed.disclosures]
            )
            try:
                return "OK", "", stub.Preview(request, timeout=60)
            except grpc.RpcError as error:
                told = told_of(cast(grpc.Call, error), [])
                return told.code, told.reason, pb2.PreviewResponse()

    def channel(self) -> grpc.Channel:
        """A new connection."""
        return grpc.secure_channel(self.address, client_credentials(self.folder), options=[("grpc.enable_retries", 0)])

    def command(self, *args: str) -> Printed:
        """`comity search` as this person, with these further arguments."""
        return comity("search", *args, "--identity", str(self.folder.path), "--broker", self.address)

    def both(self, *args: str) -> tuple[Printed, Printed]:
        """The command's table and its JSON, two searches at once."""
        with ThreadPoolExecutor(2) as pool:
            table = pool.submit(self.command, *args)
            lines = pool.submit(self.command, *args, "--json")
            return table.result(), lines.result()


def request_of(signed: SignedInquiry | pb2.SearchRequest) -> pb2.SearchRequest:
    """The message that carries it."""
    if isinstance(signed, pb2.SearchRequest):
        return signed
    return pb2.SearchRequest(
        inquiry=signed.envelope.to_message(), disclosures=[d.to_message() for d in signed.disclosures]
    )


def told_of(call: grpc.Call, got: Sequence[pb2.SearchEvent]) -> Told:
    """What a call that failed came to."""
    reason = ""
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    return Told(code=call.code().name, reason=reason, message=call.details() or "", events=tuple(got))


def changed(signed: SignedInquiry, change: Callable[[inquiry_pb2.Inquiry], None]) -> bytes:
    """The inquiry's payload after `change`, signed by nobody."""
    message = inquiry_pb2.Inquiry.FromString(signed.envelope.payload)
    change(message)
    return message.SerializeToString()


def forged(signed: SignedInquiry, change: Callable[[inquiry_pb2.Inquiry], None]) -> SignedInquiry:
    """The inquiry changed after it was signed, with the signature that it had."""
    return replace(signed, envelope=replace(signed.envelope, payload=changed(signed, change)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects that it wrote."""
        return [orjson.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def kinds(self) -> dict[str, str]:
        """Each node's outcome, of a search with --json."""
        return {e["node"]: e["outcome"] for e in self.last_of_each.values()}

    @property
    def last_of_each(self) -> Mapping[str, dict[str, Any]]:
        """The last outcome event of each node."""
        return {e["node"]: e for e in self.lines if e["event"] == "outcome"}

    @property
    def summary(self) -> dict[str, Any]:
        """The last event."""
        last = self.lines[-1]
        assert last["event"] == "summary"
        return last


def comity(*args: str, cwd: Path | None = None) -> Printed:
    """The command `comity`, a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("COMITY_IDENTITY", "COLUMNS")}
    done = subprocess.run(
        [sys.executable, "-m", "cli", *args],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd,
    )
    return Printed(code=done.returncode, out=done.stdout, err=done.stderr)
