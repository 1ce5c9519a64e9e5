"""What an identity folder holds now, against what a running program took up: certificate and directory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from comity.errors import ComityError, ConfigError
from identity import certificates, files
from identity.directory import MAX_DIRECTORY_BYTES, Directory
from identity.folder import CHAIN_FILE, DIRECTORY_FILE, FEDERATION_FILE, KEY_FILE, IdentityFolder
from identity.verify import verify_chain

_WATCHED = (KEY_FILE, CHAIN_FILE, DIRECTORY_FILE, FEDERATION_FILE)
# What was not fit may become so though no file changes: a certificate of a clock that is ahead, a disk that failed.
_AGAIN = dt.timedelta(minutes=1)


Fit = Callable[[Directory], None]


def accepted(directory: Directory) -> None:
    """Return: the program starts with every directory that the federation signed."""


class Renewal:
    """`folder` and `directory` are what the program runs with. The federation's certificate is the one of its start:
    whoever may write the folder does not replace it under a running program.
    """

    def __init__(self, folder: IdentityFolder, directory: Directory, fit: Fit = accepted) -> None:
        self._folder = folder
        self._directory = directory
        self._anchor = _anchor(folder)
        self._fit = fit
        self._seen: object = None
        self._unfit = ""  # why, if what was seen is not
        self._looked_at: dt.datetime | None = None

    def due(self, now: dt.datetime) -> bool:
        """True if the folder holds another certificate or another directory, fit to be taken up.

        Raises:
            ConfigError, NotAuthentic: what is there now is not fit; said once, until it changes again, and looked
                at once a minute. DIRECTORY_OLD: its version is not above the one in force; IDENTITY_CHANGED: the
                certificate is somebody else's; FEDERATION_CHANGED: the federation's is not the one of the
                start; else as `IdentityFolder.load`, `Directory.parse`, `verify_chain`; or what `fit` raises.
        """
        there = [_stamp(self._folder.path / name) for name in _WATCHED]
        said = self._unfit if there == self._seen else ""
        if there == self._seen and not (said and self._rested(now)):
            return False
        self._seen, self._looked_at, self._unfit = there, now, "UNKNOWN"
        try:
            found = self._is_due(now)
        except ComityError as error:
            self._unfit = error.reason
            if error.reason == said:
                return False
            raise
        self._unfit = ""
        return found

    def _rested(self, now: dt.datetime) -> bool:
        return self._looked_at is None or abs(now - self._looked_at) >= _AGAIN

    def _is_due(self, now: dt.datetime) -> bool:
        if _anchor(self._folder) != self._anchor:  # the next run would read it, and trust whom it names
            raise ConfigError(
                "the federation's certificate has been replaced: stop the program and start it to trust the new one",
                reason="FEDERATION_CHANGED",
            )
        directory = self._newer_directory()
        return self._other_certificate(directory, now) or directory is not self._directory

    def _newer_directory(self) -> Directory:
        data = files.read(self._folder.directory_path, max_bytes=MAX_DIRECTORY_BYTES)
        directory = Directory.parse(data, self._anchor)
        if directory == self._directory:
            return self._directory
        if directory.version <= self._directory.version:
            raise ConfigError(
                f"the directory has version {directory.version}, and {self._directory.version} is in force: "
                "fetch the current one from the federation",
                reason="DIRECTORY_OLD",
            )
        self._fit(directory)
        return directory

    def _other_certificate(self, directory: Directory, now: dt.datetime) -> bool:
        folder = IdentityFolder.load(self._folder.path)
        if folder.chain == self._folder.chain:
            return False
        if folder.spiffe != self._folder.spiffe:
            raise ConfigError(
                f"the certificate is of {folder.spiffe}; {self._folder.spiffe} runs here", reason="IDENTITY_CHANGED"
            )
        verify_chain(folder.signer.chain, directory, now)
        return True


def _anchor(folder: IdentityFolder) -> x509.Certificate:
    (anchor,) = certificates.from_pem(folder.federation_pem(), what=str(folder.anchor_path))
    return anchor


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    # The time of its attributes too: a key that was open to others is mended by chmod alone.
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
