"""What goes wrong with a call is told with the broker's own reason, and is never an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from cli.calling import Caller, CallFailed, broker_address
from cli.compose import SignedInquiry
from cli.search import run
from comity.errors import ComityError, Exhausted, InvalidInput, NotAuthentic, Unavailable
from comity.outcome import OutcomeKind, Tally
from comity.status import status_of
from comity.v1 import search_service_pb2 as pb2
from tests.unit.cli.scene import Client
from tests.unit.identity.world import ALDER, name


class BrokenCall(grpc.RpcError):
    """A call that ended with a status, as the stubs raise it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        super().__init__()
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


class FakeStub:
    """A broker that sends these events, then fails if it is given an error."""

    def __init__(self, events: list[pb2.SearchEvent], error: grpc.RpcError | None = None) -> None:
        self.events, self.error = events, error

    def Search(self, request: pb2.SearchRequest, timeout: float) -> Iterator[pb2.SearchResponse]:
        yield pb2.SearchResponse(events=self.events)
        if self.error is not None:
            raise self.error


class Listener:
    """A renderer that only remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.tally: Tally | None = None

    def decision(self, decision: object) -> None:
        self.heard.append("decision")

    def outcome(self, checked: object) -> None:
        self.heard.append("outcome")

    def summary(self, outcomes: object, tally: Tally) -> None:
        self.tally = tally

    def stop(self) -> None:
        self.heard.append("stop")


def caller(stub: FakeStub) -> Caller:
    made = Caller.__new__(Caller)  # no connection: the stub stands for it
    made._address = "broker.example:7443"
    made._stub = stub  # type: ignore[assignment]
    return made


def refused(error: ComityError) -> BrokenCall:
    status = rpc_status.to_status(status_of(error))
    return BrokenCall(status.code, status.details or "", status.trailing_metadata)


def ask(client: Client, events: list[pb2.SearchEvent], error: grpc.RpcError | None) -> Listener:
    listener = Listener()
    signed = SignedInquiry(envelope=client.envelope, disclosures=())
    run(client.reading, signed, caller(FakeStub(events, error)), 1.0, listener)
    return listener


FAILED: dict[str, tuple[grpc.RpcError, type[ComityError], str]] = {
    "a replay": (refused(NotAuthentic("x", reason="REPLAYED")), CallFailed, "REPLAYED"),
    "a bad field": (refused(InvalidInput("x", reason="BAD_INQUIRY")), CallFailed, "BAD_INQUIRY"),
    "a quota": (refused(Exhausted("x", retry_after_s=1, reason="QUOTA_EXHAUSTED")), CallFailed, "QUOTA_EXHAUSTED"),
    "a log that is not there": (refused(Unavailable("x", reason="LOG_TIMEOUT")), CallFailed, "LOG_TIMEOUT"),
    "no broker": (BrokenCall(grpc.StatusCode.UNAVAILABLE, "connect"), Unavailable, "NO_BROKER"),
    "no end in time": (BrokenCall(grpc.StatusCode.DEADLINE_EXCEEDED, ""), CallFailed, "DEADLINE"),
    "the address for nodes": (BrokenCall(grpc.StatusCode.UNIMPLEMENTED, ""), CallFailed, "UNIMPLEMENTED"),
    "something else": (BrokenCall(grpc.StatusCode.UNKNOWN, "x"), CallFailed, "UNKNOWN"),
}


@pytest.mark.parametrize(("error", "kind", "reason"), FAILED.values(), ids=FAILED.keys())
def test_a_call_that_was_not_taken_is_a_failure_with_its_reason(
    error: grpc.RpcError, kind: type[ComityError], reason: str, client: Client
) -> None:
    with pytest.raises(kind) as e:
        ask(client, [], error)
    assert e.value.reason == reason


def found_nothing(client: Client) -> pb2.SearchEvent:
    return pb2.SearchEvent(outcome=client.signed(client.outcome(OutcomeKind.NO_MATCH)))


def test_a_call_that_breaks_in_the_middle_leaves_an_error_for_each_target_that_is_missing(client: Client) -> None:
    listener = ask(client, [found_nothing(client)], BrokenCall(grpc.StatusCode.UNAVAILABLE, "reset"))
    assert listener.tally is not None
    assert listener.tally.counts == {OutcomeKind.NO_MATCH: 1, OutcomeKind.ERROR: 1}
    assert not listener.tally.no_record


def test_a_broker_that_ends_early_and_says_complete_is_not_believed(client: Client) -> None:
    claim = pb2.SearchEvent(summary=pb2.Summary(targets=1, complete=True))
    listener = ask(client, [found_nothing(client), claim], None)
    assert listener.tally is not None
    assert (listener.tally.targets, listener.tally.complete) == (2, False)


def test_a_broker_that_says_nothing_at_all_is_no_answer(client: Client) -> None:
    listener = ask(client, [], None)
    assert listener.tally is not None
    assert listener.tally.counts == {OutcomeKind.ERROR: 2}


def test_a_broker_named_without_its_port_is_told_so_and_never_called(client: Client) -> None:
    w = client.world
    folder = w.folder(w.alder, name(ALDER, "person", "caller-1"), role="investigator")
    with pytest.raises(ComityError, match=r"^--broker must be HOST:PORT$"):
        broker_address(folder, "localhost")
    assert broker_address(folder, "localhost:7443") == "localhost:7443"
