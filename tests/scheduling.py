"""Which tests run in one process, where several share the work: a file's, and all that ask for the one federation."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parent.parent
# A running federation is ten processes, whose start costs more than most of what is then asked of them.
ASKS_FOR_IT = re.compile(r"\b(federation: World|rogue: Rogue)\b")


class Shared(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """By file, the files that share a federation being one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "the federation" if _asks(file) else file


@cache
def _asks(file: str) -> bool:
    path = ROOT / file
    return path.is_file() and ASKS_FOR_IT.search(path.read_text("utf-8")) is not None
