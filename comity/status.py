"""From the error tree to gRPC status, in one place, with google.rpc details.

Source: https://google.aip.dev/193 (errors).
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from comity.errors import (
    ComityError,
    Exhausted,
    InvalidInput,
    NotAllowed,
    NotAuthentic,
    PolicyError,
    Unavailable,
)

DOMAIN = "comity"
_CODES: tuple[tuple[type[ComityError], int], ...] = (
    (InvalidInput, code_pb2.INVALID_ARGUMENT),
    (NotAuthentic, code_pb2.UNAUTHENTICATED),
    (NotAllowed, code_pb2.PERMISSION_DENIED),
    (Exhausted, code_pb2.RESOURCE_EXHAUSTED),
    (Unavailable, code_pb2.UNAVAILABLE),
    (PolicyError, code_pb2.INVALID_ARGUMENT),
)
logger = structlog.get_logger("rpc")

Call = grpc.HandlerCallDetails
Handler = Any  # grpc.RpcMethodHandler takes type arguments in its stubs only


def status_of(error: ComityError) -> status_pb2.Status:
    """The rich status of `error`: its code, reason, and what is wrong or when to try again."""
    code = next((c for kind, c in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, InvalidInput) and error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations[:50]
                ]
            )
        )
    if isinstance(error, Exhausted):
        if error.quota:
            violation = error_details_pb2.QuotaFailure.Violation(subject=error.quota, description=str(error))
            details.append(error_details_pb2.QuotaFailure(violations=[violation]))
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    return status_pb2.Status(code=code, message=str(error), details=packed)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a handler raises into a status, and tells `on_broken` when nothing more may be released."""

    async def intercept_service(
        self, continuation: Callable[[Call], Awaitable[Handler]], handler_call_details: Call
    ) -> Handler:
        """The handler, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        kinds = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(_answering(handler.unary_unary, method), **kinds)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(_streaming(handler.unary_stream, method), **kinds)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(_streaming(handler.stream_stream, method), **kinds)
        return handler


def _answering(inner: Any, method: str) -> Any:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await inner(request, context)
        except ComityError as error:
            await _abort(context, error, method)
        except Exception as error:
            await _abort_unforeseen(context, error, method)

    return behaviour


def _streaming(inner: Any, method: str) -> Any:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        stream = inner(request, context)
        try:
            async for item in stream:
                yield item
        except ComityError as error:
            await _abort(context, error, method)
        except Exception as error:
            await _abort_unforeseen(context, error, method)
        finally:
            await stream.aclose()

    return behaviour


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: ComityError, method: str) -> None:
    status = status_of(error)
    logger.info("call refused", method=method, reason=error.reason, code=status.code)
    await context.abort_with_status(rpc_status.to_status(status))


async def _abort_unforeseen(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: str) -> None:
    # Its text could hold anything, a plate too: neither the caller nor the log is told more than its kind and place.
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    logger.error("a defect", method=method, kind=type(error).__name__, where=where)
    await context.abort(grpc.StatusCode.INTERNAL, "the program failed; its log says where")
