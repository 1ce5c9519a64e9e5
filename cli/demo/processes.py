"""The sample federation's programs as processes: started, watched until they serve, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from comity.errors import ComityError

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
LOG_FILE = "program.log"
PID_FILE = "program.pid"


class ProgramFailed(ComityError):
    """A program of the sample federation did not do what it should."""

    reason = "PROGRAM_FAILED"


def call(program: str, *args: str, accept: Sequence[int] = (0,)) -> str:
    """The standard output of `python -m program args`, once it has ended.

    Raises:
        ProgramFailed: it ended with another exit code than those accepted.
    """
    done = subprocess.run([sys.executable, "-m", program, *args], capture_output=True, text=True, check=False)
    if done.returncode not in accept:
        raise ProgramFailed(f"{program} {args[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


class Program:
    """One serving program, by its state folder: `program.pid` and `program.log` are there."""

    def __init__(self, kind: str, state: Path) -> None:
        self.kind = kind
        self.state = state
        self._since = 0  # where this run's part of the log begins

    @property
    def pid(self) -> int | None:
        """The process's id, or None if it does not run."""
        try:
            pid, began = (self.state / PID_FILE).read_text(encoding="ascii").split()
            # A pid is used again; with its start it names one process.
            return int(pid) if began == _began(int(pid)) else None
        except (OSError, ValueError):
            return None

    def start(self) -> None:
        """Start it in a session of its own, its log appended to `program.log`."""
        fd = os.open(self.state / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "ab") as log:
            self._since = os.fstat(fd).st_size
            process = subprocess.Popen(
                [sys.executable, "-m", self.kind, "serve", str(self.state)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        (self.state / PID_FILE).write_text(f"{process.pid} {_began(process.pid)}", encoding="ascii")
        self._process = process

    def wait_for(self, event: str, *, count: int = 1) -> None:
        """Return once its log has `event` as often as `count`.

        Raises:
            ProgramFailed: it ended, or the time ran out.
        """
        until = time.monotonic() + READY_WITHIN_S
        wanted = f'"event": "{event}"'
        while time.monotonic() < until:
            text = self.log()
            if text.count(wanted) >= count:
                return
            if self.ended():
                raise ProgramFailed(f"the {self.kind} in {self.state.name} ended: {text.strip()[-800:]}")
            time.sleep(0.05)
        raise ProgramFailed(f"the {self.kind} in {self.state.name} was not {event} in {READY_WITHIN_S:.0f} s")

    def log(self) -> str:
        """Its log since it was started here, or all of it."""
        try:
            return (self.state / LOG_FILE).read_bytes()[self._since :].decode(errors="replace")
        except OSError:
            return ""

    def ended(self) -> bool:
        """True if it does not run any more."""
        process = getattr(self, "_process", None)
        return process.poll() is not None if process else self.pid is None

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Stop it in order, or kill it if it does not end in time. Nothing happens if it does not run."""
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        until = time.monotonic() + STOP_WITHIN_S
        while not self.ended():
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                until = float("inf")
            time.sleep(0.05)
        (self.state / PID_FILE).unlink(missing_ok=True)


def _began(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty if it is gone or a zombie.

    Source: proc(5), /proc/[pid]/stat, fields 3 and 22; the name in field 2 may hold blanks.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def start_all(broker: Program, nodes: Sequence[Program]) -> None:
    """The broker serves and every node is attached.

    Raises:
        ProgramFailed: one is not.
    """
    for program in (broker, *nodes):
        program.start()
    broker.wait_for("serving")
    for node in nodes:
        node.wait_for("attached")


def stop_all(broker: Program, nodes: Sequence[Program]) -> None:
    """None of them runs any more."""
    for program in (*nodes, broker):
        pid = program.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    for program in (*nodes, broker):
        program.stop()
