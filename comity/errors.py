"""The errors that Comity raises on purpose, each with a reason a program can read and a sentence a person can.

    ComityError
    ├── InvalidInput          what was sent is not well-formed      INVALID_ARGUMENT
    ├── NotAuthentic          who sent it is not proven             UNAUTHENTICATED
    ├── NotAllowed            proven, but this call is not theirs   PERMISSION_DENIED
    ├── Exhausted             a limit, try later                    RESOURCE_EXHAUSTED
    ├── Unavailable           a part that is needed is not there    UNAVAILABLE
    │   └── LogBroken         the decision log cannot be written: the process must stop
    ├── PolicyError           a policy, pack or bundle is refused
    ├── LogFault              a decision log is not what it claims
    ├── ConfigError           a configuration or state folder is wrong
    └── NotYet                a command that a later version brings

A refusal by policy is none of these: it is an outcome, and an OK call carries it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its path and what would be right."""

    field: str
    description: str


class ComityError(Exception):
    """Base of all. `reason` is UPPER_SNAKE_CASE and stable; the message is for people and holds no plate."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class InvalidInput(ComityError):
    """What was sent is not well-formed. `violations` names every bad field."""

    reason = "INVALID_INPUT"

    def __init__(self, message: str, *, violations: Iterable[Violation] = (), reason: str | None = None) -> None:
        self.violations = tuple(violations)
        if self.violations:
            message = f"{message}: " + "; ".join(f"{v.field}: {v.description}" for v in self.violations)
        super().__init__(message, reason=reason)


class NotAuthentic(ComityError):
    """A certificate, signature, time or name does not prove what it should."""

    reason = "NOT_AUTHENTIC"


class NotAllowed(ComityError):
    """The caller is who they say, and this call is not for them."""

    reason = "NOT_ALLOWED"


class Exhausted(ComityError):
    """A limit is reached; `retry_after_s` says when to try again, `quota` names the limit."""

    reason = "EXHAUSTED"

    def __init__(self, message: str, *, retry_after_s: float, quota: str = "", reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s
        self.quota = quota


class Unavailable(ComityError):
    """Something needed to answer safely is not there now."""

    reason = "UNAVAILABLE"


class LogBroken(Unavailable):
    """The decision log could not be written. Nothing more may be released; the process stops and never retries."""

    reason = "LOG_BROKEN"


class PolicyError(ComityError):
    """A policy text is refused. `file`, `line` and `column` (from 1; 0 unknown) say where."""

    reason = "POLICY_REFUSED"

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, column: int = 0, reason: str | None = None
    ) -> None:
        where = ":".join([file or "policy", *(str(n) for n in (line, column) if n)])
        super().__init__(f"{where}: {message}", reason=reason)
        self.file, self.line, self.column = file, line, column


class LogFault(ComityError):
    """A decision log is not what it claims; `index` is the first entry at fault, or -1 for the log as a whole."""

    reason = "LOG_FAULT"

    def __init__(self, message: str, *, index: int = -1, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.index = index


class ConfigError(ComityError):
    """A configuration or a state folder is wrong; the message says what to do."""

    reason = "BAD_CONFIG"


class NotYet(ComityError):
    """This version does not do that yet."""

    reason = "NOT_YET"
