"""Pictures of detections: files named by their content, one folder an hour of capture, never in the database.

A file's time of change is the latest capture that names it, so that a purge needs no list.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from comity.errors import InvalidInput, Unavailable
from comity.instants import to_ms
from node.formats.interface import MAX_PICTURE_BYTES

_REFERENCE = re.compile(r"sha256:([0-9a-f]{64})\Z")
_HOUR = "%Y%m%d%H"
_DRAFT = "."


class Images:
    """The pictures under `folder`; files are mode 0600, folders 0700. Safe from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, pictures: Sequence[tuple[bytes, dt.datetime]]) -> list[str]:
        """A reference for each picture and its time of capture; durable when this returns, and idempotent.

        Raises:
            Unavailable: IMAGES_FAILED; no reference may be used.
        """
        touched: set[Path] = set()
        with _faults():
            references = [self._keep_one(jpeg, at, touched) for jpeg, at in pictures]
            for folder in touched:
                _sync(folder)
        return references

    def read(self, reference: str, captured_at: dt.datetime) -> bytes:
        """The picture that a detection of that time names.

        Raises:
            InvalidInput: BAD_IMAGE: no reference of a picture.
            Unavailable: NO_IMAGE: it is not there (any more); BAD_IMAGE_FILE: it is not what it was.
        """
        found = _REFERENCE.match(reference)
        if not found:
            raise InvalidInput("not the reference of a picture", reason="BAD_IMAGE")
        try:
            with self._path(found[1], captured_at).open("rb") as file:
                data = file.read(MAX_PICTURE_BYTES + 1)
        except OSError:
            raise Unavailable("the picture is not there", reason="NO_IMAGE") from None
        if hashlib.sha256(data).hexdigest() != found[1]:
            raise Unavailable("the picture's file was changed", reason="BAD_IMAGE_FILE")
        return data

    def purge(self, before: dt.datetime) -> int:
        """How many pictures whose last capture was before `before` are gone; drafts that a crash left go with them.

        Raises:
            Unavailable: IMAGES_FAILED.
        """
        gone, limit_ms = 0, to_ms(before)
        with _faults():
            folders = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
            for folder in folders:
                if folder.name > f"{before:{_HOUR}}":
                    break
                gone += self._purge_hour(folder, limit_ms)
        return gone

    def _path(self, digest: str, at: dt.datetime) -> Path:
        return self._folder / f"{at.astimezone(dt.UTC):{_HOUR}}" / f"{digest}.jpg"

    def _keep_one(self, jpeg: bytes, at: dt.datetime, touched: set[Path]) -> str:
        digest = hashlib.sha256(jpeg).hexdigest()
        path = self._path(digest, at)
        when_ns = to_ms(at) * 1_000_000
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            touched.update((self._folder, self._folder.parent))
        with contextlib.suppress(FileNotFoundError):
            # A later capture keeps what an earlier one brought.
            os.utime(path, ns=(when_ns, max(when_ns, path.stat().st_mtime_ns)))
            touched.add(path.parent)  # who wrote it may not have come to its sync
            return f"sha256:{digest}"
        draft = path.with_name(f"{_DRAFT}{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(jpeg)
                file.flush()
                os.utime(file.fileno(), ns=(when_ns, when_ns))
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        touched.add(path.parent)
        return f"sha256:{digest}"

    def _purge_hour(self, folder: Path, limit_ms: int) -> int:
        gone = 0
        for path in folder.iterdir():
            if path.stat().st_mtime_ns // 1_000_000 < limit_ms:
                path.unlink(missing_ok=True)
                gone += not path.name.startswith(_DRAFT)
        _sync(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()  # only an empty one goes
        return gone


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise Unavailable(f"pictures cannot be kept: {e.strerror}", reason="IMAGES_FAILED") from None
