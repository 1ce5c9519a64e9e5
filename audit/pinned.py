"""Is a log the one that the directory names? A program that writes another says so when it starts."""

from __future__ import annotations

import structlog

from audit.note import VerifierKey
from identity.directory import Directory

logger = structlog.get_logger("log")


def pins(directory: Directory, vkey: VerifierKey) -> bool:
    """True if the directory pins this key for the log of this name, so that auditors will believe the log."""
    known = directory.logs.get(vkey.name)
    return known is not None and VerifierKey.of(vkey.name, known.key) == vkey


def tell_if_not_pinned(directory: Directory, vkey: VerifierKey) -> None:
    """A warning in the program's own log, if the directory pins no key or another for the log that it writes.

    It serves all the same: a log that was made anew is pinned in the next directory, which comes later than the log.
    """
    if not pins(directory, vkey):
        logger.warning(
            "the directory does not pin this log",
            origin=vkey.name,
            directory_version=directory.version,
            next="give log.vkey to the federation's operator, who signs a directory with it (--log)",
        )
