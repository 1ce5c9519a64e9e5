"""Values that several `comity audit` commands take, and the key that a log is held against."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from audit.note import Checkpoint, VerifierKey
from audit.read import LogReader
from cli.audit_proofs import pinned_key
from comity.errors import ConfigError, InvalidInput
from comity.instants import to_text
from identity.directory import Directory
from identity.folder import DIRECTORY_FILE, FEDERATION_FILE


def instant(text: str) -> str:
    """The time in `2026-01-31` or `2026-01-31T12:00:00Z`, as entries write it; without a zone it is UTC.

    Raises:
        click.BadParameter: anything else.
    """
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("must be a date or a time such as 2026-01-31T12:00:00Z") from None
    return to_text(at if at.tzinfo else at.replace(tzinfo=dt.UTC))


def own_directory(log: Path) -> Directory | None:
    """The directory that the program of this log goes by, from its state folder, with a note; None if it has none.

    Raises:
        ConfigError: as `Directory.load`.
    """
    folder = (log if log.is_dir() else log.parent) / "identity"
    if not (folder / DIRECTORY_FILE).is_file():
        return None
    click.echo("note: no --directory was given; the one of the program that writes this log was taken", err=True)
    return Directory.load(folder / DIRECTORY_FILE, folder / FEDERATION_FILE)


def key_of_log(note: bytes, vkey: Path | None, directory: Directory | None) -> VerifierKey | None:
    """The key to hold the log of that signed note against: the file's, else the directory's; None without either.

    Raises:
        InvalidInput: BAD_VKEY; the directory names no log of this origin (UNKNOWN_LOG).
        LogFault: not a checkpoint (BAD_CHECKPOINT).
    """
    pinned = pinned_key(vkey)
    if pinned is not None:
        return VerifierKey.parse(pinned)
    if directory is None:
        return None
    origin = Checkpoint.parse(note).origin
    known = directory.logs.get(origin)
    if known is None:
        raise InvalidInput("the directory names no log of this origin", reason="UNKNOWN_LOG")
    return VerifierKey.of(origin, known.key)


def vkey_of_log(log: Path, vkey: Path | None, directory: Directory | None) -> str:
    """The verifier key of `log`: the file's, the directory's, else what lies beside the log.

    Raises:
        ConfigError: NO_LOG, or no key is there (NO_KEY).
        InvalidInput, LogFault: as `key_of_log`.
    """
    with LogReader.open(log) as reader:
        key = key_of_log(reader.head()[1], vkey, directory)
        text = str(key) if key else reader.vkey_text()
    if text is None:
        raise ConfigError("no key was given, and the log has no log.vkey beside it", reason="NO_KEY")
    return text
