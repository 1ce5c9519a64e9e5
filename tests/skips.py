"""The tests that may be skipped, and a run that fails when another one was.

`.ci/allowed-skips.txt` has one test a line: its id, a space, and how the reason must begin. With the environment
variable `CI` set to `true`, a test skipped that is not there, or skipped for another reason, fails the run; elsewhere
it is only said. Blank lines and lines that begin with `#` do not count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ALLOWED = Path(__file__).parent.parent / ".ci" / "allowed-skips.txt"


def parse(text: str) -> Mapping[str, str]:
    """The reason's beginning of each test that may be skipped.

    Raises:
        ValueError: a line without a reason, or a test named twice.
    """
    allowed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        test, _, reason = line.strip().partition(" ")
        if not reason.strip() or test in allowed:
            raise ValueError(f"allowed-skips.txt:{number}: a test id and its reason, each test once")
        allowed[test] = reason.strip()
    return allowed


def unexpected(skipped: Iterable[tuple[str, str]], allowed: Mapping[str, str]) -> list[str]:
    """A line for each (test, reason) that should have run."""
    return [
        f"{test}: {reason}" for test, reason in skipped if test not in allowed or not reason.startswith(allowed[test])
    ]


class SkipGate:
    """A pytest plugin that collects what was skipped and judges it at the end."""

    def __init__(self, allowed: Mapping[str, str], *, strict: bool) -> None:
        self._allowed = allowed
        self._strict = strict
        self._skipped: list[tuple[str, str]] = []

    @classmethod
    def of_this_run(cls) -> SkipGate:
        """The committed list, strict where `CI` is `true`."""
        return cls(parse(ALLOWED.read_text("utf-8")), strict=os.environ.get("CI") == "true")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._strict and self._missing() and session.exitstatus in (pytest.ExitCode.OK, 0):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._missing():
            terminalreporter.write_line(f"skipped, but not in .ci/allowed-skips.txt: {line}", red=self._strict)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._skipped.append((report.nodeid, reason.removeprefix("Skipped: ")))

    def _missing(self) -> list[str]:
        return unexpected(self._skipped, self._allowed)
