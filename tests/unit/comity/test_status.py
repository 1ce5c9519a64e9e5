"""Every error of the tree has its gRPC code, its reason and its details; a refusal by policy is none of them."""

from __future__ import annotations

from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2

from comity.errors import (
    ComityError,
    ConfigError,
    Exhausted,
    InvalidInput,
    LogBroken,
    LogFault,
    NotAllowed,
    NotAuthentic,
    PolicyError,
    Unavailable,
    Violation,
)
from comity.status import DOMAIN, status_of

M = TypeVar("M", bound=Message)

CODES = {
    "input that is not well-formed": (InvalidInput("x", reason="BAD_INQUIRY"), code_pb2.INVALID_ARGUMENT),
    "a caller who is not proven": (NotAuthentic("x", reason="BAD_SIGNATURE"), code_pb2.UNAUTHENTICATED),
    "a call that is not theirs": (NotAllowed("x", reason="WRONG_KIND"), code_pb2.PERMISSION_DENIED),
    "a limit": (Exhausted("x", retry_after_s=1, reason="QUOTA_EXHAUSTED"), code_pb2.RESOURCE_EXHAUSTED),
    "a part that is not there": (Unavailable("x", reason="LOG_TIMEOUT"), code_pb2.UNAVAILABLE),
    "a broken log": (LogBroken("x"), code_pb2.UNAVAILABLE),
    "a policy that is refused": (PolicyError("x", reason="BUNDLE_EXPIRED"), code_pb2.INVALID_ARGUMENT),
    "a log that is not what it claims": (LogFault("x"), code_pb2.INTERNAL),
    "a wrong configuration": (ConfigError("x"), code_pb2.INTERNAL),
    "anything else": (ComityError("x"), code_pb2.INTERNAL),
}


def details(error: ComityError, kind: type[M]) -> list[M]:
    out = []
    for item in status_of(error).details:
        detail = kind()
        if item.Unpack(detail):
            out.append(detail)
    return out


@pytest.mark.parametrize(("error", "code"), CODES.values(), ids=CODES.keys())
def test_each_error_has_its_code_and_its_reason(error: ComityError, code: int) -> None:
    assert status_of(error).code == code
    (info,) = details(error, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (error.reason, DOMAIN)
    assert code not in (code_pb2.OK, code_pb2.NOT_FOUND)


def test_bad_fields_are_named_fifty_at_most() -> None:
    error = InvalidInput("x", violations=[Violation(f"f{i}", "must be") for i in range(60)])
    (bad,) = details(error, error_details_pb2.BadRequest)
    assert [v.field for v in bad.field_violations] == [f"f{i}" for i in range(50)]
    assert bad.field_violations[0].description == "must be"


def test_a_quota_is_named_with_when_to_try_again() -> None:
    error = Exhausted("5 searches a day", retry_after_s=1.5, quota="us-ca-alder-pd")
    (quota,) = details(error, error_details_pb2.QuotaFailure)
    (retry,) = details(error, error_details_pb2.RetryInfo)
    assert [(v.subject, v.description) for v in quota.violations] == [("us-ca-alder-pd", "5 searches a day")]
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_limit_without_a_name_says_only_when_to_try_again() -> None:
    error = Exhausted("busy", retry_after_s=1)
    assert not details(error, error_details_pb2.QuotaFailure)
    assert len(details(error, error_details_pb2.RetryInfo)) == 1
