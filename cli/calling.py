"""Calls the broker and turns what goes wrong with a call into one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.compose import SignedInquiry
from cli.words import plain
from comity import config
from comity.errors import ComityError, Unavailable
from comity.v1 import search_service_pb2 as pb2
from comity.v1 import search_service_pb2_grpc as pb2_grpc
from identity.folder import IdentityFolder
from identity.tls import client_credentials

MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class CallFailed(ComityError):
    """The broker did not take the call, or the call broke; `reason` is the broker's where it gave one."""

    reason = "CALL_FAILED"


class Caller:
    """A connection to one broker, as one person."""

    def __init__(self, folder: IdentityFolder, address: str) -> None:
        self._address = address
        self._channel = grpc.secure_channel(
            address,
            client_credentials(folder),
            options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0)],
        )
        self._stub = pb2_grpc.SearchServiceStub(self._channel)

    def search(self, signed: SignedInquiry, deadline_s: float) -> Iterator[pb2.SearchEvent]:
        """The events, as they come.

        Raises:
            CallFailed: the broker refused the call, or it broke in the middle.
        """
        request = pb2.SearchRequest(
            inquiry=signed.envelope.to_message(), disclosures=[d.to_message() for d in signed.disclosures]
        )
        try:
            for response in self._stub.Search(request, timeout=deadline_s):
                yield from response.events
        except grpc.RpcError as error:
            raise call_failed(error, self._address) from None

    def preview(self, signed: SignedInquiry, deadline_s: float) -> pb2.PreviewResponse:
        """Decisions only.

        Raises:
            CallFailed: the broker refused the call.
        """
        request = pb2.PreviewRequest(
            inquiry=signed.envelope.to_message(), disclosures=[d.to_message() for d in signed.disclosures]
        )
        try:
            return self._stub.Preview(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise call_failed(error, self._address) from None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def broker_address(folder: IdentityFolder, given: str | None) -> str:
    """HOST:PORT of the broker: as given with `--broker`, else as the identity folder says.

    Raises:
        ConfigError: `given` is no HOST:PORT, or neither names a broker.
    """
    if given is None:
        return folder.broker_address()
    config.address(given, key="--broker")
    return given


def call_failed(error: grpc.RpcError, address: str) -> ComityError:
    """What went wrong with a call to the broker at `address`, in words."""
    call = cast(grpc.Call, error)  # what the stubs raise is both
    code, details = call.code(), call.details() or ""
    reason = _reason(call)
    if reason:
        return CallFailed(f"the broker did not take it: {plain(details)}", reason=plain(reason))
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"the broker at {address} cannot be reached, or does not accept this identity: see that it runs, and look "
            "at yours with comity identity show",
            reason="NO_BROKER",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallFailed("the broker did not finish in time: try again with a longer --deadline", reason="DEADLINE")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return CallFailed(
            f"{address} takes no such call: investigators call listen_investigators of broker.toml, and nodes another",
            reason=code.name,
        )
    return CallFailed(f"the call failed: {code.name}", reason=code.name)


def _reason(error: grpc.Call) -> str:
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        return ""
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
