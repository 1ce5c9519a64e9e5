"""Until when a program runs: to a signal, to a broken log, or until its certificate or directory has been renewed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
from collections.abc import Callable

import structlog

from comity.errors import ComityError, LogBroken
from identity.directory import Directory
from identity.folder import IdentityFolder
from identity.renewal import Fit, Renewal, accepted


class Running:
    """One process, in which the program may start anew. `exit_code` is 1 once its log has broken, else 0."""

    def __init__(self, program: str, clock: Callable[[], dt.datetime]) -> None:
        self.exit_code = 0
        self.ended = asyncio.Event()
        self._anew = False
        self._look = asyncio.Event()
        self._clock = clock
        self._logger = structlog.get_logger(program)

    @property
    def anew(self) -> bool:
        """True if it ends to start again at once, with what its identity folder holds then."""
        return self._anew and not self.exit_code

    @property
    def why(self) -> str:
        """Why it ends in order, as its log says."""
        return "identity renewed" if self._anew else "signal"

    def follow_signals(self, hung_up: Callable[[], None] = lambda: None) -> None:
        """SIGTERM and SIGINT end it; SIGHUP has it look at its identity folder at once, and calls `hung_up`."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            self._look.set()
            hung_up()

        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self.end)
        loop.add_signal_handler(signal.SIGHUP, look)

    def again(self) -> None:
        """It has ended and starts anew now. A signal that comes from here on, before it serves, is not lost."""
        self._anew = False
        self.ended.clear()

    def end(self) -> None:
        """It ends, and does not start anew."""
        self._anew = False
        self.ended.set()

    def broken(self, error: LogBroken) -> None:
        """Nothing may be released any more: the process ends, and does not try again."""
        self._logger.critical("the decision log is broken", reason=error.reason, detail=str(error))
        self.exit_code = 1
        self.ended.set()

    async def renew(self, folder: IdentityFolder, directory: Directory, every_s: float, fit: Fit = accepted) -> None:
        """It ends to start anew once `folder` holds another certificate or directory that is fit; until then what is
        not fit is said, and the old ones stay. Looks every `every_s` seconds; `fit` raises of a directory with which
        the program would not start.
        """
        renewal = Renewal(folder, directory, fit)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._look.wait()
            self._look.clear()
            try:
                if await asyncio.to_thread(renewal.due, self._clock()):
                    break
            except ComityError as error:
                self._logger.warning("identity not taken up", reason=error.reason, detail=str(error))
            except Exception as error:  # a program that looks no more would keep what was revoked
                self._logger.error("identity not looked at", kind=type(error).__name__)
        if self.ended.is_set():
            return  # it was told to stop, maybe while it looked, and a stop may take as long as its searches
        self._logger.info("certificate or directory renewed: starting anew")
        self._anew = True
        self.ended.set()
